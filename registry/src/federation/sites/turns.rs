//! Who looks at another site when: by the clock, by command, one task at a time for each.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;
use waag_schema::wire::federation::{MirrorRule, MirroredView, RunAnswer, When};
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::{Federation, Member, SitesError};
use crate::federation::follow::{FollowError, Follower, Looked};
use crate::federation::mirror::{Mirrored, Source};
use crate::federation::peer::Peer;
use crate::store::Store;
use crate::telemetry::OfPeer;

/// How often another site's ledger is looked at: what is published there is known here within a second and some round
/// trips. Nothing new is one request, answered by a tag.
const LOOKED_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// At every so many looks it is gone through what rules, labels and failures ask for, also where nothing is new.
const THOROUGH_EVERY: u64 = 5;

impl Federation {
    /// Looks at a site's ledger once and follows it to where it is.
    ///
    /// # Errors
    /// When it does not answer, or what it shows does not hold.
    pub async fn look(&self, site: &SiteId) -> Result<Looked, SitesError> {
        let member = self.member(site)?;
        let looked = self
            .follower(&member, async |follower| follower.look().await)
            .await;
        let label = OfPeer {
            peer: site.to_string(),
        };
        let unshown = match &looked {
            Ok(_) => self.hold_to_told(&member).await?,
            Err(_) => None,
        };
        let mut trouble = member.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match &looked {
            Ok(looked) => {
                self.metrics.followed.get_or_create(&label).inc_by(looked.new);
                *trouble = unshown;
            }
            Err(error) => {
                self.metrics.follow_failures.get_or_create(&label).inc();
                *trouble = Some(error.to_string());
            }
        }
        drop(trouble);
        if let Some(followed) = self.ledgers.of(site) {
            let silent = self.clock.now().unix().saturating_sub(followed.heard.unix());
            let gauge = self.metrics.silence.get_or_create(&label).clone();
            gauge.set(i64::try_from(silent).unwrap_or(i64::MAX));
        }
        Ok(looked?)
    }

    /// Works with the one who follows a site, by what the charter says of it now, on a thread of its own, and shows to all
    /// what came of it, unless the charter has dropped the site meanwhile.
    pub(in crate::federation) async fn follower<T: Send + 'static>(
        &self,
        member: &Arc<Member>,
        work: impl AsyncFnOnce(&mut Follower) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<T, FollowError> {
        let follower = Arc::clone(&member.follower).lock_owned().await;
        self.work_with(follower, member, work).await
    }

    /// The same, unless somebody else works with it now.
    pub(in crate::federation) async fn follower_if_free<T: Send + 'static>(
        &self,
        member: &Arc<Member>,
        work: impl AsyncFnOnce(&mut Follower) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<Option<T>, FollowError> {
        match Arc::clone(&member.follower).try_lock_owned() {
            Ok(follower) => self.work_with(follower, member, work).await.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn work_with<T: Send + 'static>(
        &self,
        mut follower: OwnedMutexGuard<Follower>,
        member: &Arc<Member>,
        work: impl AsyncFnOnce(&mut Follower) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<T, FollowError> {
        let id = member.site.id.clone();
        let now = self.member(&id).map_err(|_| FollowError::Dropped(id.clone()))?;
        follower.go_by(now.site.clone(), Arc::clone(&now.peer));
        let runtime = tokio::runtime::Handle::current();
        let (ledgers, members) = (self.ledgers.clone(), Arc::clone(&self.members));
        let worked = tokio::task::spawn_blocking(move || {
            let done = runtime.block_on(work(&mut follower));
            let members = members.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(member) = members.get(&id) {
                ledgers.set(member.site.seen_with(&follower.followed()));
            }
            done
        });
        worked.await.expect("following does not panic")
    }

    /// Believes a site again after what was found against it.
    ///
    /// # Errors
    /// When there is no such site, or what is kept of it cannot be used.
    pub async fn absolve(&self, site: &SiteId) -> Result<(), SitesError> {
        let member = self.member(site)?;
        self.follower(&member, async |follower| follower.absolve().await)
            .await?;
        Self::forgive_told(&member);
        self.end_contradicted(&member).await
    }

    /// Fetches, refuses and deletes what rules, labels and withdrawals of a site ask for, as far as it was followed.
    ///
    /// # Errors
    /// When there is no such site, or an index fails. What cannot be done for one release is noted and counted.
    pub async fn mirror(&self, site: &SiteId) -> Result<Mirrored, SitesError> {
        let member = self.member(site)?;
        let mut settled = member.mirroring.lock().await;
        let rules = self.rules().await?;
        let Some(followed) = self.ledgers.of(site) else {
            return Ok(Mirrored::default());
        };
        let from = Source {
            member: &member,
            peer: Arc::clone(&member.peer),
            only: None,
        };
        self.mirror_changed(&from, &followed, &rules, &mut settled).await
    }

    /// Follows a site's ledger as far as it was carried here, and fetches these of its releases from what was carried;
    /// says what came of it and how each stands.
    pub(in crate::federation) async fn take_in(
        &self,
        site: &SiteId,
        only: &HashSet<(ArtifactName, Sha256)>,
        carrier: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Peer>,
    ) -> Result<(Looked, Mirrored, Vec<MirroredView>), SitesError> {
        let member = self.member(site)?;
        let _alone = member.mirroring.lock().await;
        let followed = || {
            self.ledgers
                .of(site)
                .ok_or_else(|| SitesError::NoPeer(site.to_string()))
        };
        let carrier = carrier(Arc::clone(&followed()?.store));
        let asked = Arc::clone(&carrier);
        let looked = self
            .follower(&member, async |follower| follower.look_at_carried(asked).await)
            .await?;
        let names: BTreeSet<String> = only.iter().map(|(artifact, _)| artifact.to_string()).collect();
        let rules = [MirrorRule {
            site: site.to_string(),
            artifacts: names.into_iter().collect(),
            kinds: Vec::new(),
            residency: Vec::new(),
            when: When::Always,
            bytes_per_second: None,
            hours: None,
        }];
        // Without a name a rule means all.
        let rules = if only.is_empty() { &[] } else { rules.as_slice() };
        let followed = followed()?;
        let from = Source {
            member: &member,
            peer: carrier,
            only: Some(only),
        };
        let (mirrored, _) = self.mirror_from(&from, &followed, rules, None).await?;
        let mut views = self.standings(&member.site, &followed, rules).await?;
        views.retain(|view| only.contains(&(view.artifact.clone(), view.manifest)));
        Ok((looked, mirrored, views))
    }

    /// Looks at one site, or at all, now, and mirrors from them; says what came of it.
    ///
    /// # Errors
    /// When the charter names no such site.
    pub async fn run_now(&self, site: Option<&str>) -> Result<RunAnswer, SitesError> {
        let sites = match site {
            Some(text) => vec![self.find(text)?],
            None => self
                .members()
                .iter()
                .map(|member| member.site.id.clone())
                .collect(),
        };
        let mut answer = RunAnswer {
            erased: self.erase_own().await? as u64,
            ..RunAnswer::default()
        };
        for site in sites {
            match self.look(&site).await {
                Ok(looked) => answer.entries += looked.new,
                Err(error) => answer.troubles.push(format!("{site}: {error}")),
            }
            if let Err(error) = self.witness(&site).await {
                answer.troubles.push(format!("{site}: {error}"));
            }
            // Whoever is away has said so already.
            if let Err(error) = self.hear(&site).await {
                tracing::debug!(%site, %error, "a site does not tell what it has seen of others");
            }
            match self.mirror(&site).await {
                Ok(mirrored) => {
                    answer.fetched += mirrored.fetched;
                    answer.refused += mirrored.refused;
                    answer.erased += mirrored.erased;
                    answer.failed += mirrored.failed;
                }
                Err(error) => answer.troubles.push(format!("{site}: {error}")),
            }
        }
        Ok(answer)
    }

    /// Looks at every site again and again, and mirrors from each what is to be mirrored; at once where somebody asks
    /// for what is fetched on demand. Sites are looked at side by side: one that is slow holds up no other. Ends never.
    pub async fn run(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOKED_EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What is under way ends with this.
        let mut running: JoinSet<SiteId> = JoinSet::new();
        let mut busy: BTreeSet<SiteId> = BTreeSet::new();
        // One challenge at a time, which holds up nothing else.
        let mut asking: JoinSet<()> = JoinSet::new();
        let mut number: u64 = 0;
        loop {
            let thorough = tokio::select! {
                _ = looks.tick() => {
                    number += 1;
                    number % THOROUGH_EVERY == 1
                }
                () = self.demand.asked() => true,
                Some(done) = running.join_next(), if !running.is_empty() => {
                    match done {
                        Ok(site) => drop(busy.remove(&site)),
                        Err(_) => busy.clear(),
                    }
                    continue;
                }
            };
            if thorough && let Err(error) = self.erase_own().await {
                tracing::warn!(%error, "what was withdrawn with erasure could not be deleted");
            }
            while asking.try_join_next().is_some() {}
            if thorough && asking.is_empty() {
                let federation = Arc::clone(&self);
                asking.spawn(async move { federation.challenge_when_due().await });
            }
            for member in self.members() {
                let id = member.site.id.clone();
                if busy.insert(id.clone()) {
                    let federation = Arc::clone(&self);
                    running.spawn(async move {
                        federation.turn(&id, thorough).await;
                        id
                    });
                }
            }
        }
    }

    async fn turn(&self, site: &SiteId, thorough: bool) {
        let news = match self.look(site).await {
            Ok(looked) => looked.new > 0,
            Err(error) => {
                // Once in a while: whoever is away is away at each look.
                if thorough {
                    tracing::warn!(%site, %error, "a ledger could not be followed");
                }
                false
            }
        };
        let cosigned = self.witness(site).await;
        if !news && !thorough {
            return;
        }
        if let Err(error) = cosigned {
            tracing::warn!(%site, %error, "a ledger could not be cosigned");
        }
        if thorough && let Err(error) = self.hear(site).await {
            tracing::debug!(%site, %error, "a site does not tell what it has seen of others");
        }
        if let Err(error) = self.mirror(site).await {
            tracing::warn!(%site, %error, "nothing could be mirrored");
        }
    }
}
