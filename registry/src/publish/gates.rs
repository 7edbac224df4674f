//! That a release passes the gates of its namespace, signed for whoever knows nothing of this site: a Simple Verification
//! Result.
//!
//! Invariant: one is signed only of a release that is in force and passes all gates that its namespace has now, by the
//! same rule that admits a tag; it names the gates' statements and the scorecards that have the numbers. Only the home
//! says so, whose scorecards count for its gates. Nothing is recorded: the ledger says all of it already.

use std::collections::BTreeMap;

use waag_schema::ledger::entry_number;
use waag_schema::statement::svr::{Entry, Passed, Svr};
use waag_schema::statement::{Envelope, Scorecard};
use waag_schema::wire::artifact::{Proof, SvrView};
use waag_schema::wire::site::GateView;
use waag_schema::{ArtifactName, Sha256};

use super::PublishError;
use super::catalogue::Catalogue;
use crate::access::Caller;

/// The most scorecards of a release that are looked through, as where a tag is admitted.
const SCORECARDS_MAX: usize = 64;

/// What a release passes, and by which scorecards.
struct Found {
    gates: Vec<GateView>,
    by: Vec<u64>,
}

impl Catalogue {
    /// Says, signed with the site's key, that a release passes all gates of its namespace.
    ///
    /// # Errors
    /// When there is no such release for the caller, it is recorded elsewhere, there is no gate, or it does not pass one.
    pub async fn svr(
        &self,
        caller: &Caller,
        name: &ArtifactName,
        manifest: &Sha256,
    ) -> Result<SvrView, PublishError> {
        let (state, shelf) = self.readable(caller, &name.namespace()).await?;
        if !shelf.is_own() {
            return Err(PublishError::Mismatch(format!(
                "whether {name} passes its gates is said by its home {}",
                state.home
            )));
        }
        let (artifact, digest) = (name.clone(), *manifest);
        let (release, gates, cards, entries) = self
            .reader
            .ask(move |q| {
                Ok((
                    q.release(&artifact, &digest)?,
                    q.gates(&artifact.namespace())?,
                    q.scorecards_of(&artifact, &digest, SCORECARDS_MAX)?,
                    q.scorecard_entries(&artifact, &digest, SCORECARDS_MAX)?,
                ))
            })
            .await?;
        let release =
            release.ok_or_else(|| PublishError::NotFound(format!("release {manifest} of {name}")))?;
        let found = look(gates, (&cards, &entries), release.withdrawn.is_some());
        let found = found.map_err(|unmet| PublishError::Gates {
            artifact: name.clone(),
            manifest: *manifest,
            unmet,
        })?;
        if found.gates.is_empty() {
            let namespace = name.namespace();
            return Err(PublishError::NotFound(format!(
                "gate of the namespace `{namespace}`, so nothing that {name} could pass,"
            )));
        }
        let mut entries: Vec<u64> = found.gates.iter().map(|gate| gate.entry).collect();
        entries.extend(&found.by);
        entries.sort_unstable();
        entries.dedup();
        let proof = self.ledger.prove(&entries).await?;
        let payloads = payloads(&proof)?;
        let entry = |number: u64| {
            let payload = payloads.get(&number).copied();
            let missing = || PublishError::NotFound(format!("entry {number}"));
            payload
                .map(|payload| Entry { number, payload })
                .ok_or_else(missing)
        };
        let passed = found.gates.iter().map(|gate| {
            Ok::<_, PublishError>(Passed {
                tag: gate.tag.clone(),
                gate: entry(gate.entry)?,
            })
        });
        let svr = Svr {
            artifact: name.clone(),
            manifest: *manifest,
            site: self.here.site.clone(),
            at: self.clock.now(),
            passed: passed.collect::<Result<_, _>>()?,
            scorecards: found.by.iter().copied().map(entry).collect::<Result<_, _>>()?,
        };
        let envelope = Envelope::sign(&svr.to_bytes(), &[&self.site_key]);
        let note = self.ledger.site_key();
        Ok(SvrView {
            envelope: envelope.bytes().to_vec().into(),
            site_key: note
                .ok_or_else(|| PublishError::NotFound("note of the site's key".to_owned()))?
                .to_owned(),
        })
    }
}

/// Looks at what the gates require; says what is not met.
fn look(
    gates: Vec<GateView>,
    (cards, entries): (&[Scorecard], &[u64]),
    withdrawn: bool,
) -> Result<Found, Vec<String>> {
    let (mut unmet, mut by) = (Vec::new(), Vec::new());
    if withdrawn {
        unmet.push("it was withdrawn".to_owned());
    }
    let gates: Vec<GateView> = gates
        .into_iter()
        .filter(|gate| !gate.requirements.is_empty())
        .collect();
    for gate in &gates {
        for requirement in &gate.requirements {
            match requirement.met(cards) {
                Ok(at) => by.extend(entries.get(at)),
                Err(why) => unmet.push(format!("before the tag {}: {why}", gate.tag)),
            }
        }
    }
    by.sort_unstable();
    by.dedup();
    if unmet.is_empty() {
        Ok(Found { gates, by })
    } else {
        Err(unmet)
    }
}

/// Returns the digest of each entry's payload, by its number.
fn payloads(proof: &Proof) -> Result<BTreeMap<u64, Sha256>, PublishError> {
    let parts = proof.earlier.iter().map(|part| (&part.checkpoint, &part.entries));
    let mut found = BTreeMap::new();
    for (checkpoint, entries) in parts.chain([(&proof.checkpoint, &proof.entries)]) {
        let damaged =
            |what: &dyn std::fmt::Display| PublishError::Mismatch(format!("the ledger's own proof: {what}"));
        let signed = waag_schema::ledger::SignedCheckpoint::parse(checkpoint.as_bytes());
        let series = signed.map_err(|e| damaged(&e))?.checkpoint().origin.series();
        for entry in entries {
            let number = entry_number(series, entry.index).map_err(|e| damaged(&e))?;
            let envelope = Envelope::parse(entry.opening.envelope())?;
            found.insert(number, Sha256::of(envelope.payload()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use waag_schema::Timestamp;
    use waag_schema::statement::gate::Requirement;
    use waag_schema::statement::scorecard::{Amount, Device, Harness, Measure, Section};

    use super::*;

    fn card(metric: &str, value: u64) -> Scorecard {
        let text = || "x".to_owned();
        Scorecard {
            at: Timestamp::from_unix(0),
            harness: Harness {
                name: text(),
                version: text(),
                digest: Sha256::of(b"kernels"),
            },
            device: Device {
                class: text(),
                name: None,
                worker: None,
            },
            precision: text(),
            suite: None,
            sections: vec![Section::measured(
                "weights",
                vec![Measure::new(metric, Amount::Count(value))],
            )],
            details: None,
        }
    }

    fn gate(tag: &str, entry: u64, at_most: &[(&str, u64)]) -> GateView {
        let requirements = at_most.iter().map(|(metric, most)| Requirement {
            suite: None,
            task: None,
            metric: (*metric).to_owned(),
            at_least: None,
            at_most: Some(Amount::Count(*most)),
        });
        GateView {
            tag: tag.parse().unwrap(),
            requirements: requirements.collect(),
            entry,
        }
    }

    #[test]
    fn all_gates_have_to_be_passed_and_the_scorecards_that_have_the_numbers_are_named_once() {
        // Newest first.
        let cards = [card("zero", 1), card("nan", 0), card("zero", 9)];
        let of = |gates, withdrawn| look(gates, (&cards, &[30, 20, 10]), withdrawn);
        let gates = || {
            vec![
                gate("beta", 4, &[("zero", 5)]),
                gate("prod", 5, &[("nan", 0), ("zero", 1)]),
                gate("open", 6, &[]),
            ]
        };
        let found = of(gates(), false).ok().unwrap();
        let entries: Vec<u64> = found.gates.iter().map(|gate| gate.entry).collect();
        assert_eq!((entries, found.by), (vec![4, 5], vec![20, 30]));
        let mut stricter = gates();
        stricter.push(gate("strict", 7, &[("zero", 0), ("bytes", 1)]));
        let unmet = of(stricter, false).err().unwrap();
        assert_eq!(unmet.len(), 2);
        assert_eq!(unmet[0], "before the tag strict: zero at most 0: it has 1");
        assert_eq!(of(gates(), true).err().unwrap(), ["it was withdrawn"]);
        assert!(of(Vec::new(), false).ok().unwrap().gates.is_empty());
    }
}
