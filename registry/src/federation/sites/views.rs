//! How other sites, rules and releases stand, for whoever asks.

use std::sync::PoisonError;

use waag_schema::ArtifactName;
use waag_schema::wire::federation::{HolderView, MirrorRule, MirrorStatus, PeerView, RuleView};

use super::{Federation, SitesError};
use crate::access::Here;
use crate::federation::rules::{RuleError, is_of, unknown_group};
use crate::index::CustodyRow;
use crate::ledger::Standing;
use crate::store::Key;

impl Federation {
    /// Returns all rules.
    ///
    /// # Errors
    /// When those that were added cannot be read.
    pub async fn rules(&self) -> Result<Vec<MirrorRule>, SitesError> {
        let mut rules = self.configured.clone();
        rules.extend(self.added.all().await?);
        Ok(rules)
    }

    /// Adds a rule.
    ///
    /// # Errors
    /// When the charter names no such site, or the rule is no good.
    pub async fn add_rule(&self, rule: MirrorRule) -> Result<(), SitesError> {
        self.find(&rule.site)?;
        if let Some(unknown) = unknown_group(&rule, &self.here.adopted.groups()) {
            return Err(RuleError::Bad(unknown).into());
        }
        self.added.add(rule.clone()).await?;
        // A crash between the two: add it again.
        self.ask_again(&rule).await
    }

    /// Takes away a rule that was added by command. What it brought stays.
    ///
    /// # Errors
    /// When there is no such rule among those that were added, or the store fails.
    pub async fn remove_rule(&self, rule: &MirrorRule) -> Result<(), SitesError> {
        if self.added.remove(rule).await? {
            return Ok(());
        }
        Err(SitesError::NotHeld(
            "rule of these words among those that were added".to_owned(),
        ))
    }

    /// Says how everything stands.
    ///
    /// # Errors
    /// When an index or the store fails.
    pub async fn status(&self) -> Result<MirrorStatus, SitesError> {
        let rules = self.rules().await?;
        let mut status = MirrorStatus {
            peers: self.peers().await?,
            rules: Vec::new(),
            releases: Vec::new(),
        };
        let members = self.members();
        for member in &members {
            if let Some(followed) = self.ledgers.of(&member.site.id) {
                status
                    .releases
                    .extend(self.standings(&member.site, &followed, &rules).await?);
            }
        }
        for rule in rules {
            let mut matches = 0;
            let of = members.iter().find(|member| is_of(&rule, &member.site));
            if let Some(member) = of
                && let Some(followed) = self.ledgers.of(&member.site.id)
            {
                let alone = [rule.clone()];
                let found = self.wanted(&member.site, &followed, &alone, None).await?;
                matches = found.iter().filter(|one| one.matched).count() as u64;
            }
            let unknown = unknown_group(&rule, &self.here.adopted.groups());
            let error = match of {
                None => Some(format!("the charter names no other site `{}`", rule.site)),
                Some(_) if unknown.is_some() => unknown,
                Some(_) if matches == 0 => Some("it matches no release".to_owned()),
                Some(_) => None,
            };
            status.rules.push(RuleView { rule, matches, error });
        }
        Ok(status)
    }

    /// Returns the other sites, as they stand.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn peers(&self) -> Result<Vec<PeerView>, SitesError> {
        let mut views = Vec::new();
        for member in self.members() {
            let site = &member.site;
            let Some(followed) = self.ledgers.of(&site.id) else {
                continue;
            };
            let trouble = member
                .trouble
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let evidence = followed.store.read_cell(&Key::evidence()).await?;
            views.push(PeerView {
                site: site.id.clone(),
                name: site.name.clone(),
                jurisdiction: site.jurisdiction.map(|country| country.to_string()),
                url: site.url.clone(),
                entries: followed.trees.iter().map(|tree| tree.checkpoint().size).sum(),
                heard: (followed.heard.unix() > 0).then_some(followed.heard),
                trouble,
                stopped: match &followed.standing {
                    Standing::Sound => None,
                    Standing::Stopped(reason) => Some(reason.clone()),
                },
                evidence: evidence.and_then(|cell| serde_json::from_slice(&cell.bytes).ok()),
            });
        }
        Ok(views)
    }

    /// Which sites have said what of their custody of an artifact's releases?
    ///
    /// # Errors
    /// When an index fails.
    pub async fn holders(&self, artifact: &ArtifactName) -> Result<Vec<HolderView>, SitesError> {
        let now = self.clock.now();
        let own = (self.here.clone(), self.reader.clone(), now);
        let theirs = self.ledgers.all().into_iter().map(|followed| {
            let here = Here::new(followed.site.clone(), followed.jurisdiction);
            (here, followed.index.clone(), followed.heard)
        });
        let mut holders = Vec::new();
        for (site, index, verified) in std::iter::once(own).chain(theirs) {
            let wanted = artifact.clone();
            let found = index.ask(move |q| Ok((q.custody(Some(&wanted))?, q.releases(&wanted)?)));
            let (custody, releases) = found.await?;
            let jurisdiction = site.jurisdiction.map(|country| country.to_string());
            // The release stands in its ledger, so it is at home there.
            holders.extend(releases.into_iter().map(|release| HolderView {
                site: site.site.clone(),
                jurisdiction: jurisdiction.clone(),
                manifest: release.manifest,
                state: "home".to_owned(),
                reason: release.withdrawn.map(|why| format!("withdrawn: {why}")),
                since: release.at,
                entry: release.entry,
                verified,
                checked: None,
            }));
            let said = |row: CustodyRow| HolderView {
                site: site.site.clone(),
                jurisdiction: jurisdiction.clone(),
                manifest: row.manifest,
                state: row.state.as_str().to_owned(),
                reason: row.reason,
                since: row.at,
                entry: row.entry,
                verified,
                checked: None,
            };
            holders.extend(custody.into_iter().filter(|row| row.site == site.site).map(said));
        }
        for view in &mut holders {
            if matches!(view.state.as_str(), "home" | "holds")
                && let Ok(member) = self.member(&view.site)
            {
                view.checked = self.checked(&member, artifact, &view.manifest).await?;
            }
        }
        Ok(holders)
    }
}
