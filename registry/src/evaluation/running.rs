//! The site measures how fast its models are, where the operator wants that.
//!
//! A model runs on threads of lower priority, like everything that is weighed, so a site with much to do finds it slower.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use waag_kernels::language::{LanguageError, Options};
use waag_schema::ArtifactName;
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::Section;

use super::asking::Cancel;
use super::source::StoreSource;
use super::speed::{self, SECTION};
use super::weigher::{JobError, Weigher, give_way};

impl Weigher {
    /// Measures how fast a model is, if that is wanted here.
    pub(super) async fn speed(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
    ) -> Result<Option<Section>, JobError> {
        let Some(time) = self.suites.speed else {
            return Ok(None);
        };
        if manifest.kind() != Kind::Model || manifest.packed().is_some() {
            return Ok(Some(Section::not_measured(
                SECTION,
                "it is no model in plain files",
            )));
        }
        let cancel = Arc::new(AtomicBool::new(false));
        let _ended = Cancel(Arc::clone(&cancel));
        let source = StoreSource {
            files: self.model_files(artifact, manifest).await?,
            content: self.content.clone(),
            runtime: Handle::current(),
            progress: self.progress.clone(),
            cancel: Arc::clone(&cancel),
            kept: Mutex::new(VecDeque::new()),
        };
        let (precision, memory_bytes) = (self.suites.precision, self.suites.memory_bytes);
        let (answer, answered) = oneshot::channel();
        let run = move || {
            give_way();
            let options = Options {
                precision,
                memory_bytes,
                cancel: Some(&cancel),
                ..Options::default()
            };
            let pool = rayon::ThreadPoolBuilder::new()
                .thread_name(|at| format!("speed-{at}"))
                .start_handler(|_| give_way())
                .build();
            let measured = match pool {
                Ok(pool) => pool.install(|| speed::measure(&source, options, time)),
                // Threads are short: this one is there.
                Err(_) => speed::measure(&source, options, time),
            };
            // Who waits may have gone: then nobody wants it.
            let _ = answer.send(measured);
        };
        std::thread::Builder::new()
            .name("speed".to_owned())
            .spawn(run)
            .map_err(|e| JobError::Thread(e.to_string()))?;
        let measured = answered
            .await
            .map_err(|_| JobError::Thread("it panicked".to_owned()))?;
        Ok(Some(match measured {
            Ok(section) => section,
            // The store may be better next time; what is wrong with the model stays wrong.
            Err(error @ (LanguageError::Read { .. } | LanguageError::Cancelled)) => {
                return Err(JobError::Thread(error.to_string()));
            }
            Err(error) => Section::not_measured(SECTION, &error.to_string()),
        }))
    }
}
