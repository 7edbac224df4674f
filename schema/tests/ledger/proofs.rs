//! Proofs that stand on their own, as JSON and as C2SP's text.

use waag_schema::ledger::{
    Checkpoint, Class, Edge, EntryProof, Hash, HashSource as _, InclusionProof, LedgerError, MemoryTree,
    Origin, SignedCheckpoint, TlogProof,
};

use super::world::{commit, log_key, origin, signed};

/// Eleven entries, the signed checkpoint over them, and the proof of one.
fn proven(index: u64) -> (EntryProof, SignedCheckpoint) {
    let (record, growth) = commit(&Edge::default(), 11);
    let tree: MemoryTree = record.entries().iter().map(|entry| entry.leaf().hash()).collect();
    let inclusion = InclusionProof::make(&tree, index, 11).expect("a whole tree");
    let entry = &record.entries()[usize::try_from(index).expect("small")];
    let opened = entry.opening().expect("not a pad").clone();
    (EntryProof::new(entry.leaf(), opened, inclusion), signed(&growth))
}

fn believed(text: &[u8]) -> bool {
    let Ok(proof) = TlogProof::parse(text) else {
        return false;
    };
    proof.checkpoint.verify(&[log_key().public()], &[]).is_ok()
        && proof
            .entry()
            .is_ok_and(|entry| entry.verify(proof.checkpoint.checkpoint()).is_ok())
}

#[test]
fn a_proof_gives_the_opening_of_its_entry() {
    for index in 0..11 {
        let (proof, signed) = proven(index);
        let opening = proof.verify(signed.checkpoint()).unwrap();
        assert_eq!(opening.header().seq, index);
        assert_eq!(opening.envelope(), format!(r#"{{"n":{index}}}"#).as_bytes());
    }
}

#[test]
fn a_proof_for_another_tree_or_another_ledger_is_refused() {
    let (proof, signed) = proven(4);
    let good = signed.checkpoint();
    let larger = Checkpoint {
        size: 32,
        ..good.clone()
    };
    let elsewhere = Checkpoint {
        origin: Origin::of(good.origin.site(), 2),
        ..good.clone()
    };
    for bad in [larger, elsewhere] {
        assert!(matches!(
            proof.verify(&bad),
            Err(LedgerError::ProofRefused { .. })
        ));
    }
    let pad = EntryProof {
        class: Class::Pad,
        ..proof
    };
    assert!(pad.verify(good).is_err());
}

#[test]
fn the_json_of_a_proof_is_strict_and_survives_the_round_trip() {
    let (proof, signed) = proven(3);
    let json = serde_json::to_value(&proof).unwrap();
    assert_eq!(json["class"], "open");
    assert_eq!(json["reference"], serde_json::json!(["revokes", 0]));
    assert_eq!(json["salt"].as_str().unwrap().len(), 44);
    let read: EntryProof = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(read, proof);
    read.verify(signed.checkpoint()).unwrap();

    for key in ["index", "class", "reference", "salt", "opening", "path"] {
        let mut without = json.clone();
        without.as_object_mut().unwrap().remove(key);
        assert!(serde_json::from_value::<EntryProof>(without).is_err(), "{key}");
    }
    let mut with = json;
    with["extra"] = 1.into();
    assert!(serde_json::from_value::<EntryProof>(with).is_err());

    let text = serde_json::to_string(&signed).unwrap();
    assert_eq!(serde_json::from_str::<SignedCheckpoint>(&text).unwrap(), signed);
}

#[test]
fn the_text_of_a_proof_survives_the_round_trip() {
    for index in 0..11 {
        let (proof, signed) = proven(index);
        let file = TlogProof::of_entry(&proof, signed);
        let text = file.to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "));
        let read: TlogProof = text.parse().unwrap();
        assert_eq!(read, file);
        assert_eq!(read.entry().unwrap(), proof);
        read.verify_leaf(&proof.leaf(&origin()).hash()).unwrap();
        assert!(read.verify_leaf(&Hash::leaf(b"another")).is_err());
        assert!(believed(text.as_bytes()));
    }
}

#[test]
fn every_changed_bit_of_a_proof_is_refused() {
    let (proof, signed) = proven(3);
    let text = TlogProof::of_entry(&proof, signed).to_string().into_bytes();
    for bit in 0..text.len() * 8 {
        let mut changed = text.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!believed(&changed), "bit {bit}");
    }
    for end in 0..text.len() {
        assert!(!believed(&text[..end]), "cut at {end}");
    }
}

#[test]
fn a_proof_without_extra_data_proves_a_leaf_and_no_entry() {
    let (proof, signed) = proven(0);
    let mut file = TlogProof::of_entry(&proof, signed);
    file.extra = None;
    let read: TlogProof = file.to_string().parse().unwrap();
    assert_eq!(read, file);
    read.verify_leaf(&proof.leaf(&origin()).hash()).unwrap();
    assert!(read.entry().is_err());
}

#[test]
fn a_tree_of_one_leaf_needs_no_path() {
    let (record, growth) = commit(&Edge::default(), 1);
    let tree: MemoryTree = record.entries().iter().map(|entry| entry.leaf().hash()).collect();
    let proof = InclusionProof::make(&tree, 0, 1).unwrap();
    assert!(proof.path.is_empty());
    proof.verify(&tree.hash_at(0, 0).unwrap(), &growth.root).unwrap();
    let file = TlogProof {
        extra: None,
        index: 0,
        path: proof.path,
        checkpoint: signed(&growth),
    };
    assert_eq!(file.to_string().parse::<TlogProof>().unwrap(), file);
}
