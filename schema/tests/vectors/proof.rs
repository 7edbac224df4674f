//! Everything together: a release, proven under one checkpoint, and what is wrong with others. What is refused
//! here is refused by whoever puts the pieces together, as clients do, not by this crate.

use serde_json::{Value, json};
use waag_schema::base::bytes::Base64;
use waag_schema::ledger::{
    Checkpoint, Class, Entry, EntryProof, InclusionProof, MemoryTree, SignedCheckpoint, TlogProof, merkle,
    site_key,
};
use waag_schema::statement::{Envelope, Predicate, Subject};
use waag_schema::wire::artifact::Proof;

use super::ledger::{opened, origin};
use super::release::{FILES, built};
use super::statements::{artifact, chain, gate, genesis, keys, namespace, rotation, scorecard, sign, site};
use super::{LOG, key};

/// A ledger of these envelopes, each proven under its newest checkpoint.
fn ledger(envelopes: &[Envelope]) -> Proof {
    let mut entries = Vec::new();
    for (seq, envelope) in (0_u64..).zip(envelopes) {
        let opening = opened(seq, None, envelope.bytes());
        entries.push(Entry::new(&origin(), Class::Open, None, opening).unwrap());
    }
    let tree: MemoryTree = entries.iter().map(|entry| entry.leaf().hash()).collect();
    let size = tree.size();
    let root = merkle::root(&tree, size).unwrap();
    let checkpoint = Checkpoint {
        origin: origin(),
        size,
        root,
    };
    let proofs = (0_u64..).zip(&entries).map(|(index, entry)| {
        let inclusion = InclusionProof::make(&tree, index, size).unwrap();
        EntryProof::new(entry.leaf(), entry.opening().unwrap().clone(), inclusion)
    });
    Proof {
        entries: proofs.collect(),
        checkpoint: SignedCheckpoint::sign(checkpoint, &key(LOG)).to_string(),
        earlier: Vec::new(),
        site_key: None,
    }
}

/// The genesis, and a release, a label and a tag; no withdrawal.
fn envelopes() -> Vec<Envelope> {
    let said = chain();
    let said = said
        .iter()
        .filter(|s| !matches!(s.predicate, Predicate::Withdrawal(_)));
    std::iter::once(genesis())
        .chain(said.map(|s| sign(s, &[2])))
        .collect()
}

/// The same with a gate in the namespace's chain, signed by this key.
fn gated(signer: u8) -> Value {
    let all = envelopes();
    kept(&ledger(
        &[&all[..1], &[sign(&gate(), &[signer])], &all[1..]].concat(),
    ))
}

/// The site signs its own statements with the key of seed 9.
const OF_SITE: u8 = 9;

/// The same with what the site has measured, signed by this key, and a note of the site's key by that.
fn weighed(signer: u8, note: Option<u8>) -> Value {
    let mut proof = ledger(&[envelopes(), vec![sign(&scorecard(), &[signer])]].concat());
    proof.site_key = note.map(|by| site_key::sign(&key(by), &key(OF_SITE).public()).unwrap());
    kept(&proof)
}

fn kept(proof: &Proof) -> Value {
    json!({
        "version": 1,
        "site": site(),
        "artifact": artifact(),
        "asked": "latest",
        "manifest": Base64(built().manifest.into_bytes()),
        "proof": proof,
    })
}

pub(super) fn vectors() -> Value {
    let good = kept(&ledger(&envelopes()));
    json!({
        "log_key": origin().verifier(key(LOG).public()),
        "files": FILES.map(|(path, bytes)| json!([path, super::text(bytes)])),
        "kept": accepted(&good),
        "kept_refused": refused(&good),
        "tlog_proof": tlog_proof(),
    })
}

fn accepted(good: &Value) -> Vec<Value> {
    let mut by_digest = good.clone();
    by_digest["asked"] = json!(built().manifest.digest());
    let withdrawn: Vec<Envelope> = std::iter::once(genesis())
        .chain(chain().iter().map(|s| sign(s, &[2])))
        .collect();
    let turn = rotation(&namespace(), keys(&[5], 1, &[]), &[2, 5]);
    let rotated = |signer: u8| {
        let mut said = vec![genesis(), turn.clone()];
        let mut link = None;
        for mut statement in chain() {
            if let Some(previous) = link
                && let Predicate::Residency(residency) = &mut statement.predicate
            {
                residency.link.previous = Some(previous);
            }
            if matches!(
                statement.predicate,
                Predicate::Release(_) | Predicate::Residency(_)
            ) {
                let envelope = sign(&statement, &[signer]);
                link = Some(envelope.digest());
                said.push(envelope);
            }
        }
        let mut kept = kept(&ledger(&said));
        kept["asked"] = json!(built().manifest.digest());
        kept
    };
    vec![
        json!({"why": "asked for by tag", "proof": good, "entry": 1, "withdrawn": null, "rules": 3}),
        json!({"why": "asked for by digest", "proof": by_digest, "entry": 1, "withdrawn": null, "rules": 3}),
        json!({"why": "withdrawn", "proof": kept(&ledger(&withdrawn)), "entry": 1, "withdrawn": "trained on the wrong data", "rules": 3}),
        json!({"why": "a gate stands before a tag", "proof": gated(3), "entry": 2, "withdrawn": null, "rules": 3}),
        json!({"why": "weighed by the site", "proof": weighed(OF_SITE, Some(LOG)), "entry": 1, "withdrawn": null, "rules": 3}),
        json!({"why": "signed after a rotation", "proof": rotated(5), "entry": 2, "withdrawn": null, "rules": 3}),
    ]
}

fn refused(good: &Value) -> Vec<Value> {
    let with = |change: fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let recorded = |envelopes: &[Envelope]| kept(&ledger(envelopes));
    let all = envelopes();
    let turn = rotation(&namespace(), keys(&[5], 1, &[]), &[2, 5]);
    let rotated = [&[genesis(), turn], &all[1..]].concat();
    let other_content = {
        let mut statement = chain().swap_remove(0);
        if let Predicate::Release(release) = &mut statement.predicate {
            release.content.pop();
        }
        let mut kept = recorded(&[genesis(), sign(&statement, &[2])]);
        kept["asked"] = json!(built().manifest.digest());
        kept
    };
    let by_site = {
        let release = sign(&chain()[0], &[LOG]);
        let mut kept = recorded(&[genesis(), release]);
        kept["asked"] = json!(built().manifest.digest());
        kept
    };
    let other_release = {
        let mut statement = scorecard();
        statement.subject = Subject::Manifest(artifact(), waag_schema::Sha256::of(b"x"));
        let mut proof = ledger(&[envelopes(), vec![sign(&statement, &[OF_SITE])]].concat());
        proof.site_key = Some(site_key::sign(&key(LOG), &key(OF_SITE).public()).unwrap());
        kept(&proof)
    };
    let rows = [
        ("a gate that a recovery key has signed", gated(4)),
        (
            "a scorecard and no word of the site's key",
            weighed(OF_SITE, None),
        ),
        (
            "a site's key that the ledger's did not sign",
            weighed(OF_SITE, Some(OF_SITE)),
        ),
        ("a scorecard that an owner has signed", weighed(2, Some(LOG))),
        ("another release's scorecard", other_release),
        ("version 2", with(|kept| kept["version"] = json!(2))),
        (
            "another site",
            with(|kept| kept["site"] = json!(key(9).public().site_id())),
        ),
        (
            "another artifact",
            with(|kept| kept["artifact"] = json!("acme/tony")),
        ),
        (
            "another artifact of another namespace",
            with(|kept| kept["artifact"] = json!("other/tiny")),
        ),
        (
            "a tag that no statement moved here",
            with(|kept| kept["asked"] = json!("1.0")),
        ),
        (
            "another manifest than was asked for",
            with(|kept| kept["asked"] = json!(waag_schema::Sha256::of(b"x"))),
        ),
        (
            "another manifest than was signed",
            with(|kept| kept["manifest"] = json!(Base64([built().manifest.bytes(), b"\n"].concat()))),
        ),
        (
            "another salt",
            with(|kept| kept["proof"]["entries"][1]["salt"] = kept["proof"]["entries"][0]["salt"].clone()),
        ),
        (
            "another class",
            with(|kept| kept["proof"]["entries"][1]["class"] = json!("admin")),
        ),
        (
            "another reference",
            with(|kept| kept["proof"]["entries"][1]["reference"] = json!(["revokes", 0])),
        ),
        (
            "another index",
            with(|kept| kept["proof"]["entries"][1]["index"] = json!(0)),
        ),
        (
            "a shorter path",
            with(|kept| {
                kept["proof"]["entries"][1]["path"].as_array_mut().unwrap().pop();
            }),
        ),
        (
            "out of the ledger's order",
            with(|kept| kept["proof"]["entries"].as_array_mut().unwrap().swap(0, 1)),
        ),
        (
            "no genesis",
            with(|kept| {
                kept["proof"]["entries"].as_array_mut().unwrap().remove(0);
            }),
        ),
        (
            "no release",
            with(|kept| {
                kept["proof"]["entries"].as_array_mut().unwrap().remove(1);
            }),
        ),
        (
            "no tag",
            with(|kept| {
                kept["proof"]["entries"].as_array_mut().unwrap().pop();
            }),
        ),
        (
            "a checkpoint that is not signed by the pinned key",
            with(|kept| {
                let note: SignedCheckpoint = kept["proof"]["checkpoint"].as_str().unwrap().parse().unwrap();
                kept["proof"]["checkpoint"] =
                    json!(SignedCheckpoint::sign(note.checkpoint().clone(), &key(9)).to_string());
            }),
        ),
        ("two geneses", recorded(&[&all[..1], &all[..]].concat())),
        ("the keys before the rotation sign after it", recorded(&rotated)),
        ("a statement twice", recorded(&[&all[..2], &all[1..]].concat())),
        ("a release that leaves a file out", other_content),
        ("signed by the site and not by the publisher", by_site),
    ];
    rows.map(|(why, proof)| json!({"why": why, "proof": proof}))
        .into()
}

/// The release's entry as C2SP's text.
fn tlog_proof() -> Value {
    let proof = ledger(&envelopes());
    let checkpoint = proof.checkpoint.parse().unwrap();
    let entry = &proof.entries[1];
    let text = TlogProof::of_entry(entry, checkpoint).to_string();
    assert_eq!(
        TlogProof::parse(text.as_bytes()).unwrap().entry().unwrap(),
        *entry
    );
    json!({"text": text, "entry": entry})
}
