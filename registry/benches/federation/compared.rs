//! Two ledgers with many releases beside each other: what it takes to find exactly what a site lacks.
//!
//! The folds are written entry by entry, as following writes them, without the ledgers: those are other rows of the table.

use std::path::Path;

use waag_registry::index::{Index, Prepared, Reader};
use waag_schema::content::planner::PlannerId;
use waag_schema::ledger::Origin;
use waag_schema::release::kind::Kind;
use waag_schema::statement::{Chain, Content, Custody, Envelope, Keeping, Predicate, Release, Subject};
use waag_schema::{ArtifactName, ChunkDigest, Sha256, SiteId, Timestamp};

use crate::sites::sign;
use crate::{now, row};

/// Every so many releases the site with copies has not got.
const MISSING_EACH: usize = 250_000;
/// Entries of one batch.
const BATCH: u64 = 32_768;

struct Fold {
    index: Index,
    number: u64,
}

impl Fold {
    fn new(path: &Path) -> Self {
        let mut index = Index::open(path, "bench").expect("a file");
        index.set_roomy(true).expect("memory");
        index.begin().expect("a batch");
        Self { index, number: 0 }
    }

    fn push(&mut self, envelope: Envelope) {
        let prepared = Prepared::parse(envelope).expect("it was made so");
        let (at, number) = (Timestamp::from_unix(0), self.number);
        self.index
            .fold(number, at, "open", number, &prepared)
            .expect("it follows");
        self.number += 1;
        if self.number.is_multiple_of(BATCH) {
            self.commit();
            self.index.begin().expect("a batch");
        }
    }

    fn commit(&mut self) {
        let folded = self.index.folded().expect("a row");
        self.index.commit(folded).expect("room");
    }
}

/// Compares a home's releases with what another site holds of them.
pub(crate) fn compared(directory: &Path, releases: usize) {
    let site = |letter: char| -> SiteId {
        let text: String = std::iter::repeat_n(letter, 32).collect();
        text.parse().expect("an id")
    };
    let (home, holder) = (site('h'), site('m'));
    let paths = [directory.join("home.db"), directory.join("holder.db")];
    let [mut released, mut held] = [Fold::new(&paths[0]), Fold::new(&paths[1])];
    let file = |text: &[u8]| Content {
        sha256: Sha256::of(text),
        size: 1,
        planner: PlannerId::FastCdc1,
        recipe: ChunkDigest::of(text),
    };
    for number in 0..releases {
        let artifact: ArtifactName = format!("acme/m{number}").parse().expect("a name");
        let manifest = Sha256::of(&number.to_be_bytes());
        let release = Release {
            namespace: Sha256::of(b"acme"),
            link: Chain::default().next(),
            kind: Kind::Model,
            config: file(b"config"),
            content: vec![file(b"weights")],
        };
        let subject = Subject::Manifest(artifact.clone(), manifest);
        released.push(sign(subject, Predicate::Release(release)));
        if number % MISSING_EACH == MISSING_EACH / 2 {
            continue;
        }
        let custody = Custody {
            artifact,
            manifest,
            state: Keeping::Holds,
            reason: None,
            home: Origin::of(&home, 1),
            size: number as u64,
            after: None,
        };
        held.push(sign(Subject::Site(holder.clone()), Predicate::Custody(custody)));
    }
    released.commit();
    held.commit();
    drop((released, held));
    let [there, here] = [Reader::new(&paths[0]), Reader::new(&paths[1])];
    let start = now();
    let found = there.answer(|there| here.answer(|here| there.differs_from(here, (&home, &holder), &[])));
    let found = found.expect("both are read");
    let time = start.elapsed().as_secs_f64();
    let lacks = found.missing_named.len();
    assert_eq!((found.released.number, found.surplus), (releases as u64, 0));
    assert_eq!(
        (found.missing, found.held.number),
        (lacks as u64, (releases - lacks) as u64)
    );
    row(
        &format!("what a site lacks of {releases} releases, digests and names"),
        &format!("{time:.3} s"),
        &format!("{lacks} are missing; goal 1 s for a million"),
    );
}
