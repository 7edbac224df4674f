//! The site has it measured how fast its models are, where the operator wants that.
//!
//! A model runs in the weigher's process and on threads of lower priority, like everything that is weighed, so a site with
//! much to do finds it slower.

use std::time::Duration;

use waag_kernels::language::Precision;
use waag_schema::ArtifactName;
use waag_schema::content::recipe::Recipe;
use waag_schema::release::Manifest;
use waag_schema::release::kind::Kind;
use waag_schema::statement::scorecard::{Device, Section};

use super::asking::too_long;
use super::line::{Order, Shelf, Work};
use super::speed::{NO_MODEL, SECTION};
use super::weigher::{BYTES_A_SECOND_MIN, JobError, Weigher};

impl Weigher {
    /// Has it measured how fast a model is, if that is wanted here, on the device that has measured its weights.
    pub(super) async fn speed(
        &self,
        artifact: &ArtifactName,
        manifest: &Manifest,
        device: &Device,
    ) -> Result<Option<Section>, JobError> {
        let Some(time) = self.suites.speed else {
            return Ok(None);
        };
        let none = |why: &str| Ok(Some(Section::not_measured(SECTION, why)));
        if manifest.kind() != Kind::Model || manifest.packed().is_some() {
            return none(NO_MODEL);
        }
        let model = self.model_files(artifact, manifest).await?;
        let weights = model.iter().filter(|(path, _)| path.ends_with(".safetensors"));
        let total: u64 = weights.map(|(_, recipe)| Recipe::size(recipe)).sum();
        let memory_bytes = self.suites.memory_bytes();
        let order = Order {
            work: Work::Speed {
                bf16: self.suites.precision == Precision::Bf16,
                memory_bytes,
                seconds: time.as_secs(),
            },
            device: self.suites.device(),
            limit_bytes: self.limit_bytes(total.min(memory_bytes)),
            model,
            other: Shelf::new(),
        };
        let limit = self.suites.time() + time + Duration::from_secs(total / BYTES_A_SECOND_MIN);
        let done = match self.carried_out(&order, limit, |_| {}).await {
            Ok(done) => done,
            Err(JobError::Late(limit)) => return none(&too_long(limit.as_secs() / 60)),
            Err(error) => return Err(error),
        };
        if done.device != *device {
            return none("it ran on another device than the weights were measured on");
        }
        match <[Section; 1]>::try_from(done.sections) {
            Ok([section]) if section.name == SECTION && done.details.is_empty() => Ok(Some(section)),
            _ => Err(JobError::Weigher(
                "has measured something else than the speed".to_owned(),
            )),
        }
    }
}
