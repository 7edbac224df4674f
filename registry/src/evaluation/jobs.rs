//! Jobs for compute nodes: lent under a lease, taken back unsigned, checked, and signed by the site.
//!
//! Invariant: a node gets only what its token lets it read and the labels let it evaluate where it stands, and nothing
//! that it hands in is said unless it answers a lease that it still holds. The site's own weigher goes by the same
//! leases, so that nothing is measured twice.

use waag_schema::policy::{Action, Reason, decide};
use waag_schema::statement::scorecard::{Harness, SuiteRelease};
use waag_schema::wire::job::{Base, FinishRequest, Job, REASON_MAX, SpeedJob};
use waag_schema::{ArtifactName, Sha256, Timestamp};

use super::leases::{Holder, Lease, Take, Task};
use super::weigher::{JobError, PAGE, TRIES_MAX, Weigher};
use super::{PRECISION, engine, language};
use crate::access::Caller;
use crate::index::IndexError;
use crate::ledger::AppendError;
use crate::store::StoreError;

/// A job is not lent, or what came for it is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobsError {
    /// The caller may not do this.
    #[error("to measure in the site's stead takes a token with the scope weigh")]
    Forbidden,
    /// The lease has ended, or was never this caller's. Take another job.
    #[error("the lease is not yours or has ended: the job may be another's by now")]
    Gone,
    /// What came does not answer the job. It stays lent until its time.
    #[error("the result does not answer the job: {0}")]
    Answer(String),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger was not written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Weigher {
    /// Lends a job to a node, the oldest that it may have; none where there is none.
    pub(crate) async fn lend(&self, caller: &Caller, engines: &[Harness]) -> Result<Option<Job>, JobsError> {
        let holder = holder(caller)?;
        self.progress.turn_on();
        self.folded_now().await;
        for suite in [None]
            .into_iter()
            .chain(self.name_suites().await?.into_iter().map(Some))
        {
            let harness = if suite.is_some() {
                language::engine()
            } else {
                engine()
            };
            if !engines.contains(&harness) {
                continue;
            }
            if let Some(suite) = &suite
                && !self.may_have(caller, &suite.artifact, &suite.manifest).await?
            {
                continue;
            }
            let mut from = 0;
            loop {
                let found = self.open(suite.as_ref(), from, PAGE).await?;
                let Some((last, ..)) = found.last() else { break };
                from = last + 1;
                for (position, artifact, manifest) in found {
                    let task = Task {
                        artifact,
                        manifest,
                        suite: suite.clone(),
                    };
                    if let Some(job) = self.try_lend(caller, &holder, &harness, position, task).await? {
                        return Ok(Some(job));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn try_lend(
        &self,
        caller: &Caller,
        holder: &Holder,
        harness: &Harness,
        position: u64,
        task: Task,
    ) -> Result<Option<Job>, JobsError> {
        let given_up = || {
            self.progress
                .is_given_up(&task.artifact, &task.manifest, task.suite.as_ref())
        };
        if given_up()
            || !self.is_due(&task).await?
            || !self.may_have(caller, &task.artifact, &task.manifest).await?
        {
            return Ok(None);
        }
        let base = match self.base_for(&task).await {
            Ok(base) => base,
            // The site's own weigher meets the same, and says so.
            Err(error) => {
                tracing::debug!(artifact = %task.artifact, %error, "not lent");
                return Ok(None);
            }
        };
        if let Base::Release { artifact, manifest } = &base
            && !self.may_have(caller, artifact, manifest).await?
        {
            return Ok(None);
        }
        let Some(lease) = self.taken(position, task.clone(), holder.clone()).await? else {
            return Ok(None);
        };
        if given_up() {
            self.leases.end(&lease).await?;
            return Ok(None);
        }
        self.progress
            .lend(&task.artifact, &task.manifest, task.suite.as_ref());
        tracing::info!(artifact = %task.artifact, manifest = %task.manifest, ?holder, "lent to be weighed");
        Ok(Some(Job {
            lease: lease.id(),
            until: lease.until,
            seconds: self.leases.seconds,
            harness: harness.clone(),
            precision: self.precision_of(task.suite.as_ref()).to_owned(),
            base,
            time: self.suites.seconds(),
            speed: self
                .suites
                .speed
                .filter(|_| task.suite.is_none())
                .map(|time| SpeedJob {
                    precision: self.suites.precision().to_owned(),
                    seconds: time.as_secs(),
                }),
            artifact: task.artifact,
            manifest: task.manifest,
            suite: task.suite,
        }))
    }

    /// Takes the lease of what stands open at this position, if it is still open when it is taken.
    pub(super) async fn taken(
        &self,
        position: u64,
        task: Task,
        holder: Holder,
    ) -> Result<Option<Lease>, JobsError> {
        let lease = match self.leases.take(task, holder).await? {
            Take::Held => return Ok(None),
            Take::Taken(lease) => lease,
            Take::TakenOver(lease, Holder::Site) => lease,
            Take::TakenOver(lease, Holder::Worker { name, .. }) => {
                let Task {
                    artifact,
                    manifest,
                    suite,
                } = &lease.task;
                let why = format!("the worker {name} did not come back");
                self.metrics.weigh_failures.inc();
                let tries = self
                    .progress
                    .fail(artifact, manifest, suite.as_ref(), &why, TRIES_MAX);
                tracing::warn!(%artifact, %manifest, worker = name, tries, "a worker did not come back");
                lease
            }
        };
        // Whoever had it may have finished between the look and the lease.
        self.folded_now().await;
        let open = self.open(lease.task.suite.as_ref(), position, 1).await?;
        if open.first().is_none_or(|(at, ..)| *at != position) {
            self.leases.end(&lease).await?;
            return Ok(None);
        }
        Ok(Some(lease))
    }

    /// Lets a lease last from now on.
    pub(crate) async fn renew(&self, caller: &Caller, lease: &str) -> Result<Timestamp, JobsError> {
        let holder = holder(caller)?;
        let held = self.leases.held(lease, |of| of.is_as(&holder)).await?;
        let (lease, version) = held.ok_or(JobsError::Gone)?;
        let renewed = self.leases.renew(&lease, &version).await?;
        Ok(renewed.ok_or(JobsError::Gone)?.until)
    }

    /// Takes a job back, because it failed or for no reason.
    pub(crate) async fn give_up(
        &self,
        caller: &Caller,
        lease: &str,
        reason: Option<&str>,
    ) -> Result<(), JobsError> {
        let holder = holder(caller)?;
        let held = self.leases.held(lease, |of| of.is_as(&holder)).await?;
        let (lease, _) = held.ok_or(JobsError::Gone)?;
        let Task {
            artifact,
            manifest,
            suite,
        } = &lease.task;
        if let Some(reason) = reason {
            let reason = &reason[..reason.floor_char_boundary(REASON_MAX)];
            self.metrics.weigh_failures.inc();
            let tries = self
                .progress
                .fail(artifact, manifest, suite.as_ref(), reason, TRIES_MAX);
            tracing::warn!(%artifact, %manifest, reason, tries, ?holder, "a worker failed");
        }
        self.progress.take_back(artifact, manifest, suite.as_ref());
        Ok(self.leases.end(&lease).await?)
    }

    /// Checks what a node found, and says it.
    pub(crate) async fn hand_in(&self, caller: &Caller, found: FinishRequest) -> Result<(), JobsError> {
        let holder = holder(caller)?;
        let held = self.leases.held(&found.lease, |of| of.is_as(&holder)).await?;
        let (lease, version) = held.ok_or(JobsError::Gone)?;
        let scorecard = self.answer(&lease, &holder, &found)?;
        // The labels may have changed since.
        let Task {
            artifact, manifest, ..
        } = &lease.task;
        if !self.may_have(caller, artifact, manifest).await? {
            return Err(JobsError::Gone);
        }
        let closed = self
            .leases
            .close(&lease, &version)
            .await?
            .ok_or(JobsError::Gone)?;
        let Task {
            artifact,
            manifest,
            suite,
        } = closed.task.clone();
        self.enter(&artifact, &manifest, scorecard, found.details.0)
            .await?;
        match &suite {
            None => self.metrics.weighed.inc(),
            Some(_) => self.metrics.asked.inc(),
        };
        self.progress.take_back(&artifact, &manifest, suite.as_ref());
        self.progress.forget(&artifact, &manifest, suite.as_ref());
        self.leases.end(&closed).await?;
        tracing::info!(%artifact, %manifest, ?holder, "weighed by a worker");
        Ok(())
    }

    /// What stands open from this position on: of weights, or of a suite.
    pub(super) async fn open(
        &self,
        suite: Option<&SuiteRelease>,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, ArtifactName, Sha256)>, IndexError> {
        let precision = self.precision_of(suite);
        match suite.map(|suite| suite.manifest) {
            None => {
                let engine = engine();
                self.reader
                    .ask(move |q| q.unweighed(&engine.name, &engine.version, from, limit))
                    .await
            }
            Some(suite) => {
                let engine = language::engine();
                self.reader
                    .ask(move |q| {
                        let engine = (engine.name.as_str(), engine.version.as_str());
                        q.unasked(&suite, engine, precision, from, limit)
                    })
                    .await
            }
        }
    }

    pub(super) const fn precision_of(&self, suite: Option<&SuiteRelease>) -> &'static str {
        match suite {
            None => PRECISION,
            Some(_) => self.suites.precision(),
        }
    }

    /// Finds what the weights of a release are compared with.
    async fn base_for(&self, task: &Task) -> Result<Base, JobError> {
        if task.suite.is_some() {
            return Ok(Base::None("a suite is asked".to_owned()));
        }
        let manifest = self.manifest(&task.manifest).await?;
        Ok(match self.base_of(&task.artifact, &manifest).await? {
            Ok((artifact, manifest)) => Base::Release { artifact, manifest },
            Err(why) => Base::None(why.to_owned()),
        })
    }

    /// May this caller have the content of an artifact and evaluate it where it stands, and may the site have it done?
    async fn may_have(
        &self,
        caller: &Caller,
        artifact: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<bool, IndexError> {
        let Some(record) = self.record(artifact).await? else {
            return Ok(false);
        };
        let (labels, facts) = match self.labels(&record, artifact, manifest).await {
            Ok(found) => found,
            Err(JobError::Index(error)) => return Err(error),
            // The site's own weigher meets the same, and says so.
            Err(error) => {
                tracing::debug!(%artifact, %error, "not lent");
                return Ok(false);
            }
        };
        let verdict = |action, place| decide(&labels, &facts, action, &place);
        let (here, there) = (self.here.place(), caller.place());
        // A node measures for the site, so what may be evaluated at home alone may be evaluated there; but not what
        // a rule keeps from its place.
        let is_kept =
            |reason: &Reason| matches!(reason, Reason::DeniedBy { .. } | Reason::NoRuleMatches { .. });
        Ok(caller.may_read(&record.namespace)
            && verdict(Action::Evaluate, here.clone()).allowed
            && verdict(Action::Serve, here).allowed
            && verdict(Action::Serve, there.clone()).allowed
            && !verdict(Action::Evaluate, there).reasons.iter().any(is_kept))
    }
}

impl Holder {
    /// Is this the same node, as far as its token says so?
    fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Worker { token, .. }, Self::Worker { token: of, .. }) => token == of,
            _ => false,
        }
    }
}

/// Names a caller who may measure: by the label of its token, which the site's operator gave it.
fn holder(caller: &Caller) -> Result<Holder, JobsError> {
    let token = caller
        .token()
        .filter(|_| caller.may_weigh())
        .ok_or(JobsError::Forbidden)?;
    let label = token.label.trim();
    Ok(Holder::Worker {
        token: token.id.clone(),
        name: if label.is_empty() { &token.id } else { label }.to_owned(),
    })
}
