//! What a site has measured on a release: fetched, and believed only as far as its ledger says so.
//!
//! A scorecard is a site's statement. It counts when it stands in the ledger of the site whose key is pinned; its
//! details count when they have the digest that it names.

use std::time::Duration;

use serde::Serialize;
use waag_schema::statement::agreement::{Agreement, Tolerance, agree};
use waag_schema::statement::scorecard::{Details, Scorecard};
use waag_schema::statement::{Predicate, Subject};
use waag_schema::wire::artifact::{ScorecardView, Scorecards, WeighingView};
use waag_schema::{ArtifactName, Sha256, SiteId, Timestamp};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::said;
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

/// Fetches the scorecards of an artifact, and checks each against the site's ledger.
///
/// # Errors
/// When there is no such artifact for the caller, or a scorecard is not what the ledger holds.
pub async fn read(site: &Site, artifact: &ArtifactName) -> Result<Cards> {
    let ask = Ask::get(format!("/api/v1/artifacts/{artifact}/scorecards"));
    let answer: Scorecards = site.transport().json(ask).await?;
    let what = format!("scorecards of {artifact}");
    let refused = |reason: String| ClientError::verification(&what, reason);
    let Some(proof) = &answer.proof else {
        return if answer.scorecards.is_empty() {
            Ok(Cards {
                cards: Vec::new(),
                weighing: answer.weighing,
            })
        } else {
            Err(refused("they are not proven".to_owned()))
        };
    };
    let home = site.recording(proof)?;
    let read = said::read(home.pin(), &what, proof)?;
    if !read.site_signed {
        return Err(refused(
            "they do not show which key the site signs with".to_owned(),
        ));
    }
    let mut cards = Vec::with_capacity(answer.scorecards.len());
    for view in answer.scorecards {
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
        cards.push(Card {
            manifest,
            site: home.pin().site.clone(),
            entry,
            recorded: found.at,
            scorecard,
        });
    }
    home.observe(&read.newest).await?;
    cards.sort_by_key(|card| std::cmp::Reverse(card.entry));
    Ok(Cards {
        cards,
        weighing: answer.weighing,
    })
}

/// What another site says to a scorecard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opinion {
    /// Whose.
    pub site: SiteId,
    /// Its own scorecard of the release.
    pub card: Card,
    /// What that says to each section.
    pub agreements: Vec<Agreement>,
}

/// Asks another site, under its own pin, for its scorecard of a release, and compares.
///
/// # Errors
/// When that site shows none of this release that its ledger proves.
pub async fn second_opinion(site: &Site, artifact: &ArtifactName, ours: &Card) -> Result<Opinion> {
    let theirs = read(site, artifact).await?;
    let of_it = |card: &&Card| card.manifest == ours.manifest;
    let same_suite = |card: &&Card| card.scorecard.suite == ours.scorecard.suite;
    let found = theirs.cards.iter().filter(of_it);
    // The newest that was asked the same; one that was asked something else says why it cannot be compared.
    let card = found.clone().find(same_suite).or_else(|| found.clone().next());
    let card = card.ok_or_else(|| {
        ClientError::NotFound(format!(
            "the site {} has no scorecard of {artifact}@{}",
            site.pin().site,
            ours.manifest
        ))
    })?;
    Ok(Opinion {
        site: site.pin().site.clone(),
        agreements: agree(&ours.scorecard, &card.scorecard, &Tolerance::default()),
        card: card.clone(),
    })
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
