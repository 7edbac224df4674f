//! What a site has measured on a release: fetched, and believed only as far as its ledger says so.
//!
//! A scorecard is a site's statement. It counts when it stands in the ledger of the site whose key is pinned; its
//! details count when they have the digest that it names. What other sites have found on the same release is held against
//! it here, not believed from who passes it on; where their key is not known, it is marked as not proven.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::statement::agreement::{
    Agreement, Difference, Outcome, Tolerance, agree, greatest, outcome,
};
use waag_schema::statement::scorecard::{Details, Scorecard};
use waag_schema::statement::{Predicate, Subject};
use waag_schema::wire::artifact::{OtherScorecard, Proof, ScorecardView, Scorecards, WeighingView};
use waag_schema::{ArtifactName, Sha256, SiteId, Timestamp};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::said::{self, Read};
use crate::site::Site;

/// The most bytes of details that are read.
const DETAILS_MAX_BYTES: usize = 256 << 20;
/// How often a site is asked whether it has done weighing.
const ASKED_EVERY: Duration = Duration::from_millis(500);

/// A scorecard that was found in its site's ledger.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Card {
    /// The manifest that was weighed.
    pub manifest: Sha256,
    /// The site that weighed.
    pub site: SiteId,
    /// The ledger entry.
    pub entry: u64,
    /// When that was recorded.
    pub recorded: Timestamp,
    /// What it says.
    pub scorecard: Scorecard,
}

/// What a site says about an artifact's releases.
#[derive(Debug, Clone, PartialEq)]
pub struct Cards {
    /// Proven, newest first.
    pub cards: Vec<Card>,
    /// What is still to come, as the site says.
    pub weighing: Vec<WeighingView>,
    /// What other sites than the home have found, each held against the first of its kind.
    pub others: Vec<Opinion>,
}

impl Cards {
    /// Returns the newest scorecard of a release's weights.
    #[must_use]
    pub fn of(&self, manifest: &Sha256) -> Option<&Card> {
        let mut cards = self.cards.iter();
        cards.find(|card| card.manifest == *manifest && card.scorecard.suite.is_none())
    }

    /// Returns the newest scorecard of a release on each suite, in each precision.
    #[must_use]
    pub fn on_suites(&self, manifest: &Sha256) -> Vec<&Card> {
        let mut found: Vec<&Card> = Vec::new();
        for card in self.cards.iter().filter(|card| card.manifest == *manifest) {
            let asked = |card: &Card| (card.scorecard.suite.clone(), card.scorecard.precision.clone());
            if card.scorecard.suite.is_some() && !found.iter().any(|other| asked(other) == asked(card)) {
                found.push(card);
            }
        }
        found
    }

    /// Returns the first scorecard of a release's weights by another site than its home, of those that are proven.
    #[must_use]
    pub fn by_others(&self, manifest: &Sha256) -> Option<&Card> {
        let cards = self.others_on(manifest).filter(|opinion| opinion.proven);
        let mut cards = cards.map(|opinion| &opinion.card);
        cards.find(|card| card.scorecard.suite.is_none())
    }

    /// Returns what other sites have found on a release.
    pub fn others_on(&self, manifest: &Sha256) -> impl Iterator<Item = &Opinion> {
        let of_it = |opinion: &&Opinion| opinion.card.manifest == *manifest;
        self.others.iter().filter(of_it)
    }

    /// Returns how far the weighing of a release has come, its weights first.
    #[must_use]
    pub fn weighing(&self, manifest: &Sha256) -> Option<&WeighingView> {
        let mut of_it = self.weighing.iter().filter(|view| view.manifest == *manifest);
        of_it.next()
    }

    /// Says whether something is still to come about a release.
    #[must_use]
    pub fn is_under_way(&self, manifest: &Sha256) -> bool {
        let mut of_it = self.weighing.iter().filter(|view| view.manifest == *manifest);
        of_it.any(|view| view.state != "given up")
    }
}

/// Fetches the scorecards of an artifact, and checks each against the ledger of the site that made it.
///
/// # Errors
/// When there is no such artifact for the caller, or a scorecard is not what the ledger holds.
pub async fn read(site: &Site, artifact: &ArtifactName) -> Result<Cards> {
    let ask = Ask::get(format!("/api/v1/artifacts/{artifact}/scorecards"));
    let answer: Scorecards = site.transport().json(ask).await?;
    let refused = |reason: &str| ClientError::verification(format_args!("scorecards of {artifact}"), reason);
    let mut cards = Vec::with_capacity(answer.scorecards.len());
    match &answer.proof {
        Some(proof) => {
            let (home, read) = proven(site, artifact, proof, false).await?;
            for view in answer.scorecards {
                cards.push(found(artifact, &home, &read, view)?);
            }
        }
        None if answer.scorecards.is_empty() => {}
        None => return Err(refused("they are not proven")),
    }
    cards.sort_by_key(|card| std::cmp::Reverse(card.entry));
    let mut ledgers = HashMap::new();
    for proof in &answer.others_proofs {
        let signed =
            SignedCheckpoint::parse(proof.checkpoint.as_bytes()).map_err(|e| refused(&e.to_string()))?;
        if site.believes(signed.checkpoint().origin.site())? {
            let (of, read) = proven(site, artifact, proof, true).await?;
            ledgers.insert(of, read);
        }
    }
    let mut others = Vec::with_capacity(answer.others.len());
    for OtherScorecard {
        site: of,
        view,
        compared,
    } in answer.others
    {
        let (card, is_proven) = match ledgers.get(&of) {
            Some(read) => (found(artifact, &of, read, view)?, true),
            None if site.believes(&of)? => return Err(refused("not all of other sites are proven")),
            None => (Card::claimed(of, view), false),
        };
        others.push((card, is_proven, compared));
    }
    let held = |of: &SiteId, entry: u64| {
        let all = cards.iter().chain(others.iter().map(|(card, ..)| card));
        all.into_iter()
            .find(|card| card.site == *of && card.entry == entry)
            .cloned()
    };
    let opinions = others.iter().map(|(card, is_proven, compared)| {
        let against = compared
            .as_ref()
            .and_then(|c| Some((held(&c.site, c.entry)?, c.tolerance)));
        Opinion::of(card, *is_proven, against.as_ref().map(|(first, by)| (first, by)))
    });
    let others = opinions.collect();
    Ok(Cards {
        cards,
        weighing: answer.weighing,
        others,
    })
}

/// Checks a proof of scorecards under the key of the site in whose ledger they are.
async fn proven(
    site: &Site,
    artifact: &ArtifactName,
    proof: &Proof,
    may_lag: bool,
) -> Result<(SiteId, Read)> {
    let what = format!("scorecards of {artifact}");
    let of = site.recording(proof)?;
    let read = said::read(of.pin(), &what, proof)?;
    if !read.site_signed {
        return Err(ClientError::verification(
            what,
            "they do not show which key the site signs with",
        ));
    }
    match of.observe(&read.newest).await {
        // A copy of another site's ledger that is behind still proves what is in it.
        Err(ClientError::Lagging { .. }) if may_lag => {}
        observed => observed?,
    }
    Ok((of.pin().site.clone(), read))
}

/// Finds a scorecard in what was proven.
fn found(artifact: &ArtifactName, of: &SiteId, read: &Read, view: ScorecardView) -> Result<Card> {
    let refused =
        |reason: String| ClientError::verification(format_args!("scorecards of {artifact}"), reason);
    let ScorecardView {
        manifest,
        entry,
        scorecard,
        ..
    } = view;
    let found = read.statements().find(|said| said.index == entry);
    let found = found.ok_or_else(|| refused(format!("entry {entry} is not proven")))?;
    let subject = Subject::Manifest(artifact.clone(), manifest);
    let same = found.statement.subject == subject
        && matches!(&found.statement.predicate, Predicate::Scorecard(said) if *said == scorecard);
    if !same {
        return Err(refused(format!("entry {entry} says something else")));
    }
    Ok(Card {
        manifest,
        site: of.clone(),
        entry,
        recorded: found.at,
        scorecard,
    })
}

impl Card {
    /// What whoever passes it on says that another site says.
    fn claimed(site: SiteId, view: ScorecardView) -> Self {
        let ScorecardView {
            manifest,
            entry,
            recorded,
            scorecard,
        } = view;
        Self {
            manifest,
            site,
            entry,
            recorded,
            scorecard,
        }
    }
}

/// What another site says to a scorecard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opinion {
    /// Whose.
    pub site: SiteId,
    /// Its own scorecard of the release.
    pub card: Card,
    /// Whether its ledger was seen to hold it, under a key that is believed here. Otherwise it is what the site says that
    /// was asked.
    pub proven: bool,
    /// The scorecard that it is held against; none where it is the first of its kind itself.
    pub against: Option<Place>,
    /// What it says to all sections together.
    pub verdict: Outcome,
    /// What differs most, if anything does.
    pub greatest: Option<Difference>,
    /// What it says to each section.
    pub agreements: Vec<Agreement>,
}

/// Where a scorecard stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// In whose ledger.
    pub site: SiteId,
    /// Its entry.
    pub entry: u64,
}

impl Opinion {
    fn of(card: &Card, proven: bool, first: Option<(&Card, &Tolerance)>) -> Self {
        let agreements = first.map_or_else(Vec::new, |(first, tolerance)| {
            agree(&first.scorecard, &card.scorecard, tolerance)
        });
        Self {
            site: card.site.clone(),
            card: card.clone(),
            proven,
            against: first.map(|(first, _)| Place {
                site: first.site.clone(),
                entry: first.entry,
            }),
            verdict: outcome(&agreements),
            greatest: greatest(&agreements).cloned(),
            agreements,
        }
    }
}

/// Asks another site, under its own pin, for its scorecard of a release, and compares.
///
/// # Errors
/// When that site shows none of this release that its ledger proves.
pub async fn second_opinion(site: &Site, artifact: &ArtifactName, ours: &Card) -> Result<Opinion> {
    let theirs = read(site, artifact).await?;
    // What a mirror has found itself comes before what it passes on of the home.
    let own = theirs.others.iter().map(|opinion| &opinion.card);
    let own = own.filter(|card| card.site == site.pin().site);
    let of_it = |card: &&Card| card.manifest == ours.manifest;
    let all: Vec<&Card> = own.chain(&theirs.cards).filter(of_it).collect();
    let same_suite = |card: &&&Card| card.scorecard.suite == ours.scorecard.suite;
    // The newest that was asked the same; one that was asked something else says why it cannot be compared.
    let card = all.iter().find(same_suite).or_else(|| all.first());
    let card = card.ok_or_else(|| {
        ClientError::NotFound(format!(
            "the site {} has no scorecard of {artifact}@{}",
            site.pin().site,
            ours.manifest
        ))
    })?;
    Ok(Opinion::of(card, true, Some((ours, &Tolerance::default()))))
}

/// Waits until a release has all its scorecards, or the site says nothing any more that lets one expect another.
///
/// # Errors
/// As for [`read`].
pub async fn wait(site: &Site, artifact: &ArtifactName, manifest: &Sha256) -> Result<Cards> {
    let mut ticks = tokio::time::interval(ASKED_EVERY);
    loop {
        ticks.tick().await;
        let cards = read(site, artifact).await?;
        if !cards.is_under_way(manifest) {
            return Ok(cards);
        }
    }
}

/// Fetches the details of a scorecard, which must be those that it names.
///
/// # Errors
/// When the site has them not, or has others.
pub async fn details(site: &Site, artifact: &ArtifactName, details: &Details) -> Result<Vec<u8>> {
    let what = format!("details {} of a scorecard", details.sha256);
    let size = usize::try_from(details.size).unwrap_or(usize::MAX);
    if size > DETAILS_MAX_BYTES {
        return Err(ClientError::verification(
            what,
            format_args!("they have {size} bytes, at most {DETAILS_MAX_BYTES} are read"),
        ));
    }
    let ask = Ask::get(format!(
        "/api/v1/artifacts/{artifact}/scorecards/{}",
        details.sha256
    ));
    let bytes = site.transport().bytes(ask, size).await?;
    let found = Sha256::of(&bytes);
    if found != details.sha256 {
        return Err(ClientError::verification(what, format_args!("{found} came")));
    }
    Ok(bytes)
}
