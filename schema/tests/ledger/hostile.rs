//! Noise, and noise that looks right at first: every decoder answers, none panics.

use proptest::prelude::*;
use waag_schema::ledger::{
    Checkpoint, CommitRecord, Edge, EntryProof, Leaf, Note, NoteSignature, Opening, Origin, Pack, PackPath,
    SignedCheckpoint, Stream, TilePath, TileSource, TlogProof, VerifierKey, bundle, commit as commits,
};

use super::world::{commit, entry, opened, origin, signed};

/// Offers the bytes to every decoder. Whatever is accepted must be written back as it was read.
fn offer(bytes: &[u8]) {
    if let Ok(leaf) = Leaf::decode(bytes) {
        assert_eq!(leaf.encode().as_slice(), bytes);
    }
    if let Ok(opening) = Opening::decode(bytes) {
        assert_eq!(opening.as_bytes(), bytes);
    }
    if let Ok(pack) = Pack::decode(bytes) {
        assert_eq!(pack.encode(), bytes);
    }
    if let Ok(record) = CommitRecord::decode(&origin(), bytes) {
        assert_eq!(record.encode(), bytes);
        let _ = record.grow(&Edge::default());
    }
    for path in ["tile/entries/000", "tile/entries/000.p/1", "tile/0/000.p/1"] {
        let path: TilePath = path.parse().expect("a path");
        if let Ok(leaves) = bundle::decode(&path, bytes) {
            assert_eq!(bundle::encode(&leaves), bytes);
        }
        let _ = TileSource::new(257).insert(&path, bytes);
    }
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
        let _ = note.verify(&[]);
    }
    if let Ok(signed) = SignedCheckpoint::parse(bytes) {
        assert_eq!(signed.to_string().as_bytes(), bytes);
    }
    if let Ok(proof) = TlogProof::parse(bytes) {
        assert_eq!(proof.to_string().as_bytes(), bytes);
        let _ = proof
            .entry()
            .map(|entry| entry.verify(proof.checkpoint.checkpoint()).is_ok());
    }
    let _ = serde_json::from_slice::<EntryProof>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let same = |written: String| assert_eq!(written, text);
    let _ = text.parse::<TilePath>().map(|path| same(path.to_string()));
    let _ = text.parse::<PackPath>().map(|path| same(path.to_string()));
    let _ = text.parse::<Origin>().map(|origin| same(origin.to_string()));
    let _ = text.parse::<Stream>().map(|stream| same(stream.to_string()));
    let _ = text.parse::<VerifierKey>().map(|key| same(key.to_string()));
    let _ = text.parse::<NoteSignature>().map(|line| same(line.to_string()));
    let _ = text.parse::<Checkpoint>();
    let _ = commits::parse_key(text).map(|size| same(commits::key(size)));
}

/// One good example of everything that is decoded.
fn examples() -> Vec<Vec<u8>> {
    let (record, growth) = commit(&Edge::default(), 3);
    let mut pack = Pack::default();
    for seq in 0..4 {
        pack.append(opened(seq, b"{}")).expect("room for four");
    }
    pack.erase(1);
    let leaf = *entry(3).leaf();
    let signed = signed(&growth);
    let proof = TlogProof {
        extra: Some(b"extra".to_vec()),
        index: 1,
        path: vec![leaf.hash(); 3],
        checkpoint: signed.clone(),
    };
    vec![
        leaf.encode().to_vec(),
        opened(5, b"{}").opening.as_bytes().to_vec(),
        pack.encode(),
        record.encode(),
        bundle::encode(&[leaf]),
        signed.to_string().into_bytes(),
        proof.to_string().into_bytes(),
        b"tile/1/x001/x234/067.p/8".to_vec(),
        b"body/open/x001/234".to_vec(),
        commits::key(77).into_bytes(),
        origin().to_string().into_bytes(),
        signed.note().signatures()[0].to_string().into_bytes(),
    ]
}

#[test]
fn a_length_that_promises_too_much_costs_nothing() {
    for length in [u32::MAX, 1 << 30, 300 * 1024] {
        let bytes = [&length.to_be_bytes()[..], &[0; 64]].concat();
        assert!(Opening::decode(&bytes).is_err());
        assert!(Pack::decode(&bytes).is_err());
    }
    let mut commit = commit(&Edge::default(), 1).0.encode();
    commit[120..124].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(CommitRecord::decode(&origin(), &commit).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn random_bytes_make_no_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        offer(&bytes);
    }

    #[test]
    fn random_text_makes_no_decoder_panic(text in "[ -~\n—]{0,120}") {
        offer(text.as_bytes());
    }

    #[test]
    fn damaged_examples_make_no_decoder_panic(
        which: prop::sample::Index,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..4),
    ) {
        let mut bytes = which.get(&examples()).clone();
        for (at, value, kind) in damage {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                2 => bytes.truncate(at),
                _ => drop(bytes.remove(at)),
            }
        }
        offer(&bytes);
    }
}
