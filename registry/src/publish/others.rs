//! What other sites have found on a release: the scorecards in the ledgers that this one follows, each held against the
//! first of its kind.
//!
//! A site weighs what it holds a copy of, and says so in its own ledger; whoever follows that can show it. Which one is the
//! first, and whether another agrees, is the same for whoever asks: the home's comes first, then this site's own. Of a
//! site that has contradicted itself nothing is shown.

use std::collections::HashSet;

use waag_schema::statement::Scorecard;
use waag_schema::statement::agreement::{Tolerance, agree, greatest, outcome};
use waag_schema::wire::artifact::{Compared, OtherScorecard, Proof, ScorecardView};
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::PublishError;
use super::catalogue::{Catalogue, SCORECARDS_MAX};
use super::shelf::Shelf;
use crate::ledger::Standing;

/// The scorecards of one artifact in the ledger of one site.
struct Said {
    site: SiteId,
    shelf: Shelf,
    views: Vec<ScorecardView>,
}

impl Catalogue {
    /// Returns what is found on these releases in the ledgers of others than their home, and what proves it.
    pub(super) async fn others(
        &self,
        home: &Shelf,
        name: &ArtifactName,
        by_home: &[ScorecardView],
        releases: &HashSet<Sha256>,
    ) -> Result<(Vec<OtherScorecard>, Vec<Proof>), PublishError> {
        let mut all = Vec::new();
        if !home.is_own() {
            all.push((self.here.site.clone(), Shelf::Own));
        }
        let home_site = home.home(&self.here);
        for followed in self.ledgers.all() {
            if followed.site != home_site && followed.standing == Standing::Sound {
                all.push((followed.site.clone(), Shelf::Copy(followed)));
            }
        }
        let mut said = Vec::new();
        for (site, shelf) in all {
            let wanted = name.clone();
            let found = shelf
                .index(self)
                .ask(move |q| q.scorecards(&wanted, SCORECARDS_MAX));
            let mut views = found.await?;
            views.retain(|view| releases.contains(&view.manifest));
            let mut seen = HashSet::new();
            views.retain(|view| seen.insert((kind_of(view), view.scorecard.device.class.clone())));
            if !views.is_empty() {
                said.push(Said { site, shelf, views });
            }
        }
        let mut proofs = Vec::new();
        let mut proven = Vec::new();
        for one in said {
            let mut entries: Vec<u64> = one.views.iter().map(|view| view.entry).collect();
            entries.sort_unstable();
            match one.shelf.prove(self, &entries).await {
                Ok(proof) => {
                    proofs.push(proof);
                    proven.push((one.site, one.views));
                }
                // What one site's copy lacks keeps nobody from reading the others.
                Err(error) => tracing::warn!(site = %one.site, %error, "its scorecards cannot be proven"),
            }
        }
        Ok((compare(&home_site, by_home, &proven), proofs))
    }
}

/// What a scorecard is about: two of one kind can be held against each other.
fn kind_of(view: &ScorecardView) -> (Sha256, Option<Sha256>, String) {
    let Scorecard { suite, precision, .. } = &view.scorecard;
    let suite = suite.as_ref().map(|suite| suite.manifest);
    (view.manifest, suite, precision.clone())
}

fn compare(
    home: &SiteId,
    by_home: &[ScorecardView],
    others: &[(SiteId, Vec<ScorecardView>)],
) -> Vec<OtherScorecard> {
    let of_others = || {
        others
            .iter()
            .flat_map(|(site, views)| views.iter().map(move |view| (site, view)))
    };
    let in_order = || by_home.iter().map(|view| (home, view)).chain(of_others());
    let tolerance = Tolerance::default();
    of_others()
        .map(|(site, view)| {
            let kind = kind_of(view);
            let first = in_order().find(|(_, other)| kind_of(other) == kind);
            let first = first.filter(|(of, other)| (*of, other.entry) != (site, view.entry));
            let compared = first.map(|(of, first)| {
                let agreements = agree(&first.scorecard, &view.scorecard, &tolerance);
                Compared {
                    site: of.clone(),
                    entry: first.entry,
                    verdict: outcome(&agreements),
                    greatest: greatest(&agreements).cloned(),
                    agreements,
                    tolerance,
                }
            });
            OtherScorecard {
                site: site.clone(),
                view: view.clone(),
                compared,
            }
        })
        .collect()
}
