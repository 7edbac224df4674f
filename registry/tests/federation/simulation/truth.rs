//! What was said in a life, in order, and what each site can know of it: against that everything is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use waag_registry::clock::Clock as _;
use waag_schema::policy::{Action, Facts, Label, decide};
use waag_schema::statement::Keeping;

use super::super::Sites;
use crate::world::{Draft, World};

/// An artifact of a site, as its publisher knows it.
pub(super) struct Artifact {
    pub(super) name: String,
    pub(super) home: usize,
    /// Every label that it had, the newest last.
    labels: Vec<Label>,
    pub(super) releases: Vec<Release>,
}

pub(super) struct Release {
    pub(super) draft: Draft,
    /// Withdrawn with erasure.
    gone: bool,
    /// Its home has erased it as well.
    erased: bool,
}

impl Release {
    fn chunks(&self) -> impl Iterator<Item = String> {
        chunks(&self.draft)
    }
}

fn chunks(draft: &Draft) -> impl Iterator<Item = String> {
    let pieces = draft.files.iter().flat_map(|file| file.recipe.pieces());
    pieces.map(|piece| piece.chunk.hex())
}

/// Something that a site was asked to record.
pub(super) enum Pending {
    Release {
        home: usize,
        /// Of an artifact that is new.
        label: Option<Label>,
        draft: Box<Draft>,
    },
    Label {
        artifact: usize,
        label: Label,
    },
    Withdrawal {
        artifact: usize,
        release: usize,
    },
}

/// What there was to be seen at a home at some moment.
pub(super) struct Seen {
    /// Of each artifact: how many labels it had had, and which releases were gone.
    artifacts: Vec<(usize, usize, Vec<usize>)>,
    /// The least entries that its ledger had.
    pub(super) entries: u64,
}

/// What was said.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) artifacts: Vec<Artifact>,
    /// Of each site and artifact: which label is the oldest by which the site may still go.
    labels_known: BTreeMap<(usize, usize), usize>,
    /// Of each site: the artifact and release that it knows to be gone.
    gone_known: BTreeSet<(usize, usize, usize)>,
    /// What was sent to a site that has died, and may have recorded it.
    doubts: BTreeMap<usize, Vec<Pending>>,
    /// Chunks that a home was sent for what was never recorded.
    sent: BTreeMap<usize, BTreeSet<String>>,
}

impl Truth {
    /// Returns the artifacts of a home that have releases.
    pub(super) fn of(&self, home: usize) -> impl Iterator<Item = usize> {
        let of = move |(_, artifact): &(usize, &Artifact)| artifact.home == home;
        self.artifacts.iter().enumerate().filter(of).map(|(at, _)| at)
    }

    pub(super) fn record(&mut self, what: Pending) {
        match what {
            Pending::Release { home, label, draft } => {
                let name = draft.artifact.to_string();
                let release = Release {
                    draft: *draft,
                    gone: false,
                    erased: false,
                };
                match label {
                    Some(label) => self.artifacts.push(Artifact {
                        name,
                        home,
                        labels: vec![label],
                        releases: vec![release],
                    }),
                    None => {
                        let known = self.artifacts.iter_mut().find(|artifact| artifact.name == name);
                        known.unwrap().releases.push(release);
                    }
                }
            }
            Pending::Label { artifact, label } => self.artifacts[artifact].labels.push(label),
            Pending::Withdrawal { artifact, release } => {
                self.artifacts[artifact].releases[release].gone = true;
            }
        }
    }

    pub(super) fn doubt(&mut self, site: usize, what: Pending) {
        self.doubts.entry(site).or_default().push(what);
    }

    /// A site has started again: what it has recorded is true, and all that it had acknowledged is there.
    pub(super) async fn resolve(&mut self, site: usize, world: &World) {
        let index = world.site.reader();
        for what in self.doubts.remove(&site).unwrap_or_default() {
            let recorded = match &what {
                Pending::Release { draft, .. } => {
                    let (name, manifest) = (draft.artifact.clone(), draft.digest);
                    let found = index.ask(move |q| q.release(&name, &manifest)).await;
                    found.unwrap().is_some()
                }
                Pending::Label { artifact, label } => {
                    let name = self.artifacts[*artifact].name.parse().unwrap();
                    let found = index.ask(move |q| q.labels(&name)).await.unwrap();
                    found[0].label == *label
                }
                Pending::Withdrawal { artifact, release } => {
                    let draft = &self.artifacts[*artifact].releases[*release].draft;
                    let (name, manifest) = (draft.artifact.clone(), draft.digest);
                    let found = index.ask(move |q| q.is_to_be_erased(&name, &manifest)).await;
                    found.unwrap()
                }
            };
            match what {
                what if recorded => self.record(what),
                Pending::Release { draft, .. } => self.sent.entry(site).or_default().extend(chunks(&draft)),
                _ => {}
            }
        }
        for artifact in self.artifacts.iter().filter(|artifact| artifact.home == site) {
            for release in &artifact.releases {
                let (name, manifest) = (release.draft.artifact.clone(), release.draft.digest);
                let found = index.ask(move |q| q.release(&name, &manifest)).await.unwrap();
                let withdrawn = found.map(|view| view.withdrawn.is_some());
                assert_eq!(withdrawn, Some(release.gone), "an acknowledged statement is lost");
            }
        }
    }

    /// What there is to be seen at a home now.
    pub(super) fn seen(&self, home: usize) -> Seen {
        let gone = |artifact: &Artifact| -> Vec<usize> {
            let releases = artifact.releases.iter().enumerate();
            releases
                .filter(|(_, release)| release.gone)
                .map(|(at, _)| at)
                .collect()
        };
        let artifacts: Vec<_> = self
            .of(home)
            .map(|at| (at, self.artifacts[at].labels.len(), gone(&self.artifacts[at])))
            .collect();
        let own = artifacts.iter().map(|(at, labels, gone)| {
            // A release and its tag are two entries.
            2 * self.artifacts[*at].releases.len() + labels + gone.len()
        });
        Seen {
            entries: 1 + own.sum::<usize>() as u64,
            artifacts,
        }
    }

    /// A site has seen this, and done what follows from it.
    pub(super) fn known_to(&mut self, site: usize, seen: &Seen) {
        for (artifact, labels, gone) in &seen.artifacts {
            let oldest = self.labels_known.entry((site, *artifact)).or_default();
            *oldest = (labels - 1).max(*oldest);
            self.gone_known
                .extend(gone.iter().map(|release| (site, *artifact, *release)));
        }
    }

    pub(super) fn erased_at_home(&mut self, seen: &Seen) {
        for (artifact, _, gone) in &seen.artifacts {
            for release in gone {
                self.artifacts[*artifact].releases[*release].erased = true;
            }
        }
    }

    fn allows(sites: &Sites, site: usize, home: usize, label: &Label) -> bool {
        let facts = Facts {
            home: sites.members[home].terms.id.clone(),
            at: sites.clock.now(),
            groups: Arc::default(),
        };
        let place = sites.members[site].terms.here().place();
        decide(std::slice::from_ref(label), &facts, Action::Hold, &place).allowed
    }

    /// Every chunk at a site is allowed there by a label by which it may still go, of a release that is not gone as far as
    /// it must know.
    pub(super) fn check_chunks(&self, sites: &Sites) {
        for (site, member) in sites.members.iter().enumerate() {
            let mut allowed: BTreeSet<String> = self.sent.get(&site).cloned().unwrap_or_default();
            for what in self.doubts.get(&site).into_iter().flatten() {
                if let Pending::Release { draft, .. } = what {
                    allowed.extend(chunks(draft));
                }
            }
            for (at, artifact) in self.artifacts.iter().enumerate() {
                let oldest = self.labels_known.get(&(site, at)).copied().unwrap_or(0);
                let mut labels = artifact.labels[oldest..].iter();
                let home = artifact.home == site;
                let may = home || labels.any(|label| Self::allows(sites, site, artifact.home, label));
                for (number, release) in artifact.releases.iter().enumerate() {
                    let gone = if home {
                        release.erased
                    } else {
                        self.gone_known.contains(&(site, at, number))
                    };
                    if may && !gone {
                        allowed.extend(release.chunks());
                    }
                }
            }
            for key in sites.content(site) {
                let chunk = key.rsplit('/').next().unwrap();
                assert!(
                    allowed.contains(chunk),
                    "{} has {key}, which no label allows: it is of {:?}",
                    member.terms.name,
                    self.needing(chunk)
                );
            }
        }
    }

    fn needing(&self, chunk: &str) -> Vec<String> {
        let releases = self
            .artifacts
            .iter()
            .flat_map(|artifact| artifact.releases.iter().map(move |release| (artifact, release)));
        releases
            .filter(|(_, release)| release.chunks().any(|one| one == chunk))
            .map(|(artifact, release)| {
                format!("{} {} gone {}", artifact.name, release.draft.digest, release.gone)
            })
            .collect()
    }

    /// Everybody knows all releases of all others as they stand, holds what it may and nothing else, and tells the same of
    /// who holds what.
    pub(super) async fn check_views(&self, sites: &Sites) {
        for artifact in &self.artifacts {
            let newest = artifact.labels.last().unwrap();
            for site in (0..sites.members.len()).filter(|site| *site != artifact.home) {
                let own = &sites.world(site).site;
                let home = &sites.members[artifact.home].terms.id;
                let followed = own.catalogue().ledgers.of(home).unwrap();
                let may = Self::allows(sites, site, artifact.home, newest);
                for release in &artifact.releases {
                    let (name, manifest) = (release.draft.artifact.clone(), release.draft.digest);
                    let known = followed.index.ask(move |q| q.release(&name, &manifest));
                    assert_eq!(known.await.unwrap().unwrap().withdrawn.is_some(), release.gone);
                    let (name, manifest) = (release.draft.artifact.clone(), release.draft.digest);
                    let row = own.reader().ask(move |q| q.custody_of(&name, &manifest)).await;
                    let holds = row.unwrap().is_some_and(|row| row.state == Keeping::Holds);
                    assert_eq!(
                        holds,
                        may && !release.gone,
                        "{} and {} of {}",
                        sites.members[site].terms.name,
                        manifest,
                        artifact.name
                    );
                }
            }
            let mut told = BTreeSet::new();
            for member in &sites.members {
                let federation = member.world.site.federation();
                let holders = federation.holders(&artifact.name.parse().unwrap()).await.unwrap();
                let holders = holders
                    .into_iter()
                    .map(|view| (view.manifest, view.site, view.state, view.entry));
                told.insert(holders.collect::<BTreeSet<_>>());
            }
            assert_eq!(
                told.len(),
                1,
                "sites tell different things of who has {}",
                artifact.name
            );
        }
    }
}
