//! What a compute node hands in, made a scorecard if it answers the job.

use waag_schema::Sha256;
use waag_schema::statement::scorecard::{Details, Device, Scorecard, Section};
use waag_schema::wire::job::{DETAILS_SIZE_MAX, FinishRequest};

use super::jobs::JobsError;
use super::leases::{Holder, Lease, Task};
use super::weigher::{SECTIONS, Weigher};
use super::{bench, engine, language, speed};

/// The classes of devices that numbers may come from.
const CLASSES: [&str; 2] = ["cpu", "cuda"];

impl Weigher {
    /// Makes the scorecard of what a node found, if it is an answer to its job.
    pub(super) fn answer(
        &self,
        lease: &Lease,
        holder: &Holder,
        found: &FinishRequest,
    ) -> Result<Scorecard, JobsError> {
        let no = |why: String| Err(JobsError::Answer(why));
        let Task {
            artifact,
            manifest,
            suite,
        } = &lease.task;
        if (&found.artifact, &found.manifest) != (artifact, manifest) {
            return no(format!("it is about {}@{}", found.artifact, found.manifest));
        }
        if found.suite != *suite {
            return no("it is about another suite".to_owned());
        }
        let (harness, names): (_, &[&str]) = match suite {
            None => (engine(), &SECTIONS),
            Some(_) => (language::engine(), &[language::SECTION]),
        };
        if found.harness != harness || found.precision != self.precision_of(suite.as_ref()) {
            return no("it was measured by another engine, or in another precision".to_owned());
        }
        let details = &found.details.0;
        if details.len() > DETAILS_SIZE_MAX {
            return no(format!("its details have more than {DETAILS_SIZE_MAX} bytes"));
        }
        bench::check(&found.sections, names, details).map_err(JobsError::Answer)?;
        if !CLASSES.contains(&found.device.class.as_str()) {
            return no(format!(
                "no numbers are known of devices of the class {}",
                found.device.class
            ));
        }
        let Holder::Worker { name, .. } = holder else {
            return no("it comes from no worker".to_owned());
        };
        let mut sections = found.sections.clone();
        if self.suites.speed.is_some() {
            // It was asked for by now, at the latest; who was not asked, or does not know the question, leaves it out.
            let unasked = sections.iter_mut().find(|section| **section == speed::unasked());
            if let Some(section) = unasked {
                *section = Section::not_measured(speed::SECTION, "the worker did not measure it");
            }
        }
        let scorecard = Scorecard {
            at: self.clock.now(),
            harness,
            device: Device {
                worker: Some(name.clone()),
                ..found.device.clone()
            },
            precision: found.precision.clone(),
            suite: suite.clone(),
            sections,
            details: (!details.is_empty()).then(|| Details {
                sha256: Sha256::of(details),
                size: details.len() as u64,
            }),
        };
        scorecard.check().map_err(JobsError::Answer)?;
        Ok(scorecard)
    }
}
