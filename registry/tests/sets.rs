//! Sets of releases: their digests are the same if and only if they are, in whatever order they came about, and their
//! difference is what one finds who goes through both.

use std::collections::BTreeSet;

use proptest::prelude::*;
use waag_registry::index::{Difference, Index, Prepared, element};
use waag_schema::base::key::KeyPair;
use waag_schema::content::planner::PlannerId;
use waag_schema::ledger::Origin;
use waag_schema::release::kind::Kind;
use waag_schema::statement::predicate::Withdrawal;
use waag_schema::statement::{
    Chain, Content, Custody, Envelope, Keeping, Predicate, Release, Statement, Subject,
};
use waag_schema::{ArtifactName, ChunkDigest, Sha256, SiteId, Timestamp};

type Named = (ArtifactName, Sha256);

/// What happens to one of the releases.
#[derive(Debug, Clone, Copy)]
enum Step {
    Released,
    Withdrawn,
    Says(Keeping),
}

/// The ledger of a home and that of a site with copies, folded.
struct Two {
    home: Index,
    holder: Index,
    chain: Chain,
    number: u64,
}

fn site(text: &str) -> SiteId {
    format!("{text:a<32}").parse().unwrap()
}

fn release(number: usize) -> Named {
    let namespace = if number.is_multiple_of(3) { "beta" } else { "acme" };
    let artifact = format!("{namespace}/m{}", number / 2);
    (artifact.parse().unwrap(), Sha256::of(&number.to_be_bytes()))
}

impl Two {
    fn new() -> Self {
        Self {
            home: Index::in_memory("home").unwrap(),
            holder: Index::in_memory("holder").unwrap(),
            chain: Chain::default(),
            number: 0,
        }
    }

    fn step(&mut self, number: usize, step: Step) {
        let (artifact, manifest) = release(number);
        let (namespace, link) = (Sha256::of(b"n"), self.chain.next());
        let subject = Subject::Manifest(artifact.clone(), manifest);
        let (index, subject, predicate) = match step {
            Step::Released => {
                let file = |text: &[u8]| Content {
                    sha256: Sha256::of(text),
                    size: 1,
                    planner: PlannerId::FastCdc1,
                    recipe: ChunkDigest::of(text),
                };
                let release = Release {
                    namespace,
                    link,
                    kind: Kind::Model,
                    config: file(b"c"),
                    content: vec![file(b"w")],
                };
                (&mut self.home, subject, Predicate::Release(release))
            }
            Step::Withdrawn => {
                let withdrawal = Withdrawal {
                    namespace,
                    link,
                    reason: "no more".to_owned(),
                    erase: number.is_multiple_of(2),
                };
                (&mut self.home, subject, Predicate::Withdrawal(withdrawal))
            }
            Step::Says(state) => {
                let custody = Custody {
                    artifact,
                    manifest,
                    state,
                    reason: (state != Keeping::Holds).then(|| "it may not".to_owned()),
                    home: Origin::of(&site("home"), 1),
                    size: self.number,
                    after: None,
                };
                let subject = Subject::Site(site("holder"));
                (&mut self.holder, subject, Predicate::Custody(custody))
            }
        };
        let statement = Statement { subject, predicate };
        let envelope = Envelope::sign(&statement.to_bytes(), &[&KeyPair::from_seed(&[1; 32])]);
        self.chain = self.chain.then(envelope.digest());
        let prepared = Prepared::parse(envelope).unwrap();
        index
            .fold(
                self.number,
                Timestamp::from_unix(0),
                "open",
                self.number,
                &prepared,
            )
            .unwrap();
        self.number += 1;
    }

    fn difference(&self, without: &[&str]) -> Difference {
        let without: Vec<_> = without.iter().map(|name| name.parse().unwrap()).collect();
        let sites = (&site("home"), &site("holder"));
        let (home, holder) = (self.home.questions(), self.holder.questions());
        home.differs_from(&holder, sites, &without).unwrap()
    }
}

/// The digest, by its definition.
fn digest(set: &BTreeSet<Named>) -> Sha256 {
    let mut elements: Vec<Sha256> = set
        .iter()
        .map(|(name, manifest)| element(name, manifest))
        .collect();
    elements.sort_unstable();
    let mut bytes = b"waag set 1\n".to_vec();
    elements
        .iter()
        .for_each(|element| bytes.extend(element.as_bytes()));
    Sha256::of(&bytes)
}

fn in_order(mut named: Vec<Named>) -> Vec<Named> {
    named.sort();
    named
}

fn check(two: &Two, released: &BTreeSet<Named>, held: &BTreeSet<Named>, without: &[&str]) {
    let counts = |(artifact, _): &&Named| !without.contains(&artifact.namespace().as_str());
    let released: BTreeSet<Named> = released.iter().filter(counts).cloned().collect();
    let found = two.difference(without);
    assert_eq!(found.released.number, released.len() as u64);
    assert_eq!(found.released.digest, digest(&released));
    assert_eq!(found.held.number, held.len() as u64);
    assert_eq!(found.held.digest, digest(held));
    assert_eq!(found.released.digest == found.held.digest, released == *held);
    let missing: Vec<Named> = released.difference(held).cloned().collect();
    let surplus: Vec<Named> = held.difference(&released).cloned().collect();
    assert_eq!(
        (found.missing, found.surplus),
        (missing.len() as u64, surplus.len() as u64)
    );
    assert_eq!(in_order(found.missing_named), missing);
    assert_eq!(in_order(found.surplus_named), surplus);
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => Just(Step::Released),
        1 => Just(Step::Withdrawn),
        4 => Just(Step::Says(Keeping::Holds)),
        1 => Just(Step::Says(Keeping::Refused)),
        1 => Just(Step::Says(Keeping::Erased)),
    ];
    proptest::collection::vec((0..12_usize, step), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn digests_and_difference_are_those_of_the_sets_however_they_came_about(steps in steps()) {
        let mut two = Two::new();
        let (mut ever, mut withdrawn, mut held) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (number, step) in steps {
            two.step(number, step);
            let release = release(number);
            match step {
                Step::Released => drop(ever.insert(release)),
                // What is withdrawn does not come back; what was not there is not withdrawn.
                Step::Withdrawn => drop(ever.contains(&release).then(|| withdrawn.insert(release))),
                Step::Says(Keeping::Holds) => drop(held.insert(release)),
                Step::Says(_) => drop(held.remove(&release)),
            }
        }
        let released: BTreeSet<Named> = ever.difference(&withdrawn).cloned().collect();
        check(&two, &released, &held, &[]);
        check(&two, &released, &held, &["beta"]);
    }
}
