//! Leaves, openings, packs and commits.

use proptest::prelude::*;
use waag_schema::Timestamp;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::opening::{ENVELOPE_BYTES_MAX, HEADER_BYTES_MAX};
use waag_schema::ledger::pack::PACK_SLOTS;
use waag_schema::ledger::{
    BatchNonce, Class, CommitRecord, Commitment, Edge, Entry, EntryId, Header, Leaf, LedgerError, Opening,
    Origin, Pack, PackPath, RefKind, Salt, SaltedOpening, Stream, WriterId, commit as commits,
};

use super::world::{commit, entry, log_key, opened, origin};

fn any_leaf() -> impl Strategy<Value = Leaf> {
    let class = prop::sample::select(vec![Class::Open, Class::Restricted, Class::Admin, Class::Pad]);
    let kind = prop::sample::select(vec![
        RefKind::Revokes,
        RefKind::Erases,
        RefKind::FreezesNamespace,
        RefKind::Unrevokes,
    ]);
    let reference = prop::option::of((kind, 0_u64..(1 << 53) - 1));
    (class, reference, any::<[u8; 32]>()).prop_map(|(class, reference, commitment)| Leaf {
        class,
        reference,
        commitment: Commitment::from_bytes(commitment),
    })
}

fn any_opened() -> impl Strategy<Value = SaltedOpening> {
    let header = (
        any::<[u8; 16]>(),
        prop::option::of(0_u64..1 << 53),
        "[a-z0-9][a-z0-9-]{0,63}",
        0_u64..1 << 53,
        0_u64..253_402_300_800,
    );
    let envelope = prop::collection::vec(any::<u8>(), 1..200);
    (header, envelope, any::<[u8; 32]>()).prop_map(|((id, prev, stream, seq, at), envelope, salt)| {
        let header = Header {
            id: EntryId::from_bytes(id),
            prev,
            stream: stream.parse().expect("of the right form"),
            seq,
            at: Timestamp::from_unix(at),
        };
        SaltedOpening {
            salt: Salt::from_bytes(salt),
            opening: Opening::new(header, &envelope).expect("a small envelope"),
        }
    })
}

/// The bytes of an opening whose header is this text.
fn with_header(header: &str) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("short").to_be_bytes();
    [
        &length(header.as_bytes())[..],
        header.as_bytes(),
        &length(b"{}"),
        b"{}",
    ]
    .concat()
}

const HEADER: &str = r#"{"v":1,"id":"07070707070707070707070707070707","prev":6,"stream":"open","seq":7,"at":"2026-11-21T00:03:18Z"}"#;

#[test]
fn a_leaf_is_these_43_bytes() {
    let leaf = Leaf {
        class: Class::Restricted,
        reference: Some((RefKind::Erases, 812)),
        commitment: Commitment::from_bytes([0xcc; 32]),
    };
    let mut expected = vec![1, 1, 2, 0, 0, 0, 0, 0, 0, 3, 44];
    expected.extend([0xcc; 32]);
    assert_eq!(leaf.encode().as_slice(), expected);
    let plain = Leaf {
        class: Class::Open,
        reference: None,
        ..leaf
    };
    assert_eq!(
        plain.encode()[..11],
        [1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]
    );
}

#[test]
fn a_leaf_that_means_nothing_is_refused() {
    let good = entry(0).leaf().encode();
    for (at, value) in [(0, 0), (0, 2), (1, 4), (2, 1), (2, 5), (3, 0)] {
        let mut bad = good;
        bad[at] = value;
        assert!(Leaf::decode(&bad).is_err(), "byte {at} = {value}");
    }
    assert!(Leaf::decode(&good[..42]).is_err());
    assert!(Leaf::decode(&[&good[..], &[0]].concat()).is_err());
}

#[test]
fn an_opening_is_these_bytes() {
    let SaltedOpening { opening, .. } = opened(7, b"{}");
    assert_eq!(opening.as_bytes(), with_header(HEADER));
    assert_eq!(opening.envelope(), b"{}");
    assert_eq!(opening.header().prev, Some(6));
}

/// Computed with Python's `hmac` and `hashlib` from the formula in the module's documentation.
#[test]
fn a_commitment_is_this_mac() {
    let SaltedOpening { salt, opening } = opened(7, b"{}");
    let commitment = Commitment::to(&origin(), &salt, &opening);
    assert_eq!(origin().to_string(), "waag/gr2q7gf5lh6pzfdnurnkvputhpqvjjfv/1");
    assert_eq!(
        commitment.to_string(),
        "PFnAeIojrudA5ZqmdC9F/4Poofd4YSkcSMp+78RT+sw="
    );
}

#[test]
fn a_commitment_is_to_one_opening_one_salt_and_one_ledger() {
    let SaltedOpening { salt, opening } = opened(7, b"{}");
    let commitment = Commitment::to(&origin(), &salt, &opening);
    let other = Origin::of(&log_key().public().site_id(), 2);
    let elsewhere = Origin::of(&KeyPair::from_seed(&[2; 32]).public().site_id(), 1);
    assert_ne!(Commitment::to(&other, &salt, &opening), commitment);
    assert_ne!(Commitment::to(&elsewhere, &salt, &opening), commitment);
    assert_ne!(
        Commitment::to(&origin(), &Salt::from_bytes([0; 32]), &opening),
        commitment
    );
    assert_ne!(
        Commitment::to(&origin(), &salt, &opened(7, b"[]").opening),
        commitment
    );
    assert_eq!(format!("{salt:?}"), "Salt(..)");
}

#[test]
fn a_header_that_two_could_read_differently_is_refused() {
    assert!(Opening::decode(&with_header(HEADER)).is_ok());
    for (from, to) in [
        (r#""v":1"#, r#""v":2"#),
        (r#""v":1,"#, ""),
        (r#""prev":6,"#, ""),
        (r#""prev":6"#, r#""prev":6.0"#),
        (r#""prev":6"#, r#""prev":-6"#),
        (r#""prev":6"#, r#""prev":9007199254740992"#),
        (r#""seq":7"#, r#""seq":7,"seq":8"#),
        (r#""seq":7"#, r#""seq":7,"extra":8"#),
        (r#""seq":7"#, r#""seq":null"#),
        ("0707", "070g"),
        ("0707", "07"),
        (r#""open""#, r#""Open""#),
        (r#""open""#, r#""-open""#),
        (r#""open""#, r#""../open""#),
        ("2026-11-21T", "2026-11-31T"),
        ("00:03:18Z", "00:03:18+00:00"),
    ] {
        let header = HEADER.replacen(from, to, 1);
        assert_ne!(header, HEADER);
        assert!(Opening::decode(&with_header(&header)).is_err(), "{header}");
    }
    // Spelt otherwise but of one meaning: other bytes, so another commitment, and still readable.
    let spaced = HEADER.replace(r#","id""#, r#", "id""#);
    let opening = Opening::decode(&with_header(&spaced)).unwrap();
    assert_eq!(opening.as_bytes(), with_header(&spaced));
    let long = HEADER.replace(r#","id""#, &format!(r#",{}"id""#, " ".repeat(HEADER_BYTES_MAX)));
    assert!(matches!(
        Opening::decode(&with_header(&long)),
        Err(LedgerError::TooLarge { .. })
    ));
}

#[test]
fn an_envelope_has_1_byte_to_256_kib() {
    let header = opened(0, b"{}").opening.header().clone();
    let largest = vec![b'x'; ENVELOPE_BYTES_MAX];
    let opening = Opening::new(header.clone(), &largest).unwrap();
    assert_eq!(Opening::decode(opening.as_bytes()).unwrap(), opening);
    assert!(Opening::new(header.clone(), &[]).is_err());
    assert!(Opening::new(header.clone(), &[largest.as_slice(), b"x"].concat()).is_err());
    let far = Header {
        seq: 1 << 53,
        ..header
    };
    assert!(matches!(
        Opening::new(far, b"{}"),
        Err(LedgerError::TooLarge { .. })
    ));
}

#[test]
fn a_pack_is_these_bytes() {
    let mut pack = Pack::default();
    let first = opened(7, b"{}");
    assert_eq!(pack.append(first.clone()).unwrap(), 0);
    assert_eq!(pack.append(opened(8, b"{}")).unwrap(), 1);
    assert!(pack.erase(1));
    let length = u32::try_from(first.opening.as_bytes().len())
        .unwrap()
        .to_be_bytes();
    let expected = [
        &length[..],
        first.salt.as_bytes(),
        first.opening.as_bytes(),
        &[0; 4],
    ]
    .concat();
    assert_eq!(pack.encode(), expected);
    let read = Pack::decode(&expected).unwrap();
    assert_eq!((read.len(), read.slot(0), read.slot(1)), (2, Some(&first), None));
}

#[test]
fn erasing_leaves_nothing_behind_and_the_others_as_they_were() {
    let mut pack = Pack::default();
    for seq in 0..PACK_SLOTS as u64 {
        let slot = pack
            .append(opened(seq, format!("canary {seq:03}").as_bytes()))
            .unwrap();
        assert_eq!(slot as u64, seq);
    }
    assert!(pack.append(opened(256, b"one too many")).is_err());
    let before = pack.clone();
    assert!(pack.erase(200));
    assert!(!pack.erase(200) && !pack.erase(256));
    let bytes = pack.encode();
    let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    assert!(holds(b"canary 201") && !holds(b"canary 200"));
    assert!(!holds(opened(200, b"x").salt.as_bytes()));
    let read = Pack::decode(&bytes).unwrap();
    assert_eq!(read, pack);
    for slot in (0..PACK_SLOTS).filter(|slot| *slot != 200) {
        assert_eq!(read.slot(slot), before.slot(slot));
    }
    assert!(Pack::decode(&[bytes.as_slice(), &[0; 4]].concat()).is_err());
    assert!(Pack::decode(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn an_entry_of_a_stream_has_its_place_in_a_pack() {
    let (path, slot) = PackPath::of(&Stream::open(), 256 * 1_234 + 5);
    assert_eq!((path.to_string().as_str(), slot), ("body/open/x001/234", 5));
    assert_eq!(path.to_string().parse::<PackPath>().unwrap(), path);
    for bad in [
        "body/open",
        "body/open/1",
        "body//000",
        "body/../000",
        "body/Open/000",
        "body/open/000/",
    ] {
        assert!(bad.parse::<PackPath>().is_err(), "{bad}");
    }
}

#[test]
fn a_commit_carries_a_ledger_from_one_tree_to_the_next() {
    let (first, growth) = commit(&Edge::default(), 3);
    let (second, after) = commit(&growth.edge, 300);
    assert_eq!(second.before().root, growth.root);
    assert_eq!((second.after().size, second.after().root), (303, after.root));
    for (record, edge) in [(&first, &Edge::default()), (&second, &growth.edge)] {
        let read = CommitRecord::decode(&origin(), &record.encode()).unwrap();
        assert_eq!(&read, record);
        assert_eq!(read.grow(edge).unwrap().root, record.after().root);
    }
    assert!(matches!(
        second.grow(&Edge::default()),
        Err(LedgerError::WrongTree { .. })
    ));
    assert_eq!(commits::key(303), "seq/00000000000000000303");
    assert_eq!(commits::parse_key("seq/00000000000000000303"), Some(303));
    for bad in [
        "seq/303",
        "seq/+0000000000000000303",
        "seq/99999999999999999999",
        "00000000000000000303",
    ] {
        assert_eq!(commits::parse_key(bad), None);
    }
}

#[test]
fn a_commit_for_another_ledger_is_refused() {
    let (record, _) = commit(&Edge::default(), 3);
    let other = Origin::of(&log_key().public().site_id(), 2);
    assert!(matches!(
        CommitRecord::decode(&other, &record.encode()),
        Err(LedgerError::WrongCommitment { index: 0, .. })
    ));
}

#[test]
fn every_changed_bit_of_a_commit_is_noticed_or_names_its_writer() {
    let (record, _) = commit(&commit(&Edge::default(), 2).1.edge, 3);
    let edge = commit(&Edge::default(), 2).1.edge;
    let bytes = record.encode();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let accepted =
            CommitRecord::decode(&origin(), &changed).is_ok_and(|record| record.grow(&edge).is_ok());
        // Writer and nonce say who, not what: nothing else follows from them.
        let names_writer = (88..120).contains(&(bit / 8));
        assert_eq!(accepted, names_writer, "bit {bit}");
    }
}

#[test]
fn a_pad_has_no_opening_and_all_else_has_one() {
    let pad = Entry::pad([3; 32]);
    let both = vec![pad.clone(), entry(1)];
    let ids = (WriterId::from_bytes([1; 16]), BatchNonce::from_bytes([2; 16]));
    let (record, _) = CommitRecord::new(&Edge::default(), ids.0, ids.1, both).unwrap();
    let bytes = record.encode();
    assert_eq!(CommitRecord::decode(&origin(), &bytes).unwrap().entries()[0], pad);
    assert!(Entry::new(&origin(), Class::Pad, None, opened(0, b"{}")).is_err());

    // The pad's class stands at the second byte of the first entry.
    let mut open = bytes;
    open[124 + 1] = 0;
    assert!(CommitRecord::decode(&origin(), &open).is_err());
}

#[test]
fn a_commit_has_1_to_1024_entries() {
    let ids = (WriterId::from_bytes([1; 16]), BatchNonce::from_bytes([2; 16]));
    let make =
        |count: usize| CommitRecord::new(&Edge::default(), ids.0, ids.1, vec![Entry::pad([0; 32]); count]);
    assert!(make(0).is_err());
    assert!(make(1024).is_ok());
    assert!(matches!(make(1025), Err(LedgerError::TooLarge { .. })));
    let large = vec![b'x'; ENVELOPE_BYTES_MAX];
    let entry = Entry::new(&origin(), Class::Open, None, opened(0, &large)).unwrap();
    let many = CommitRecord::new(&Edge::default(), ids.0, ids.1, vec![entry; 256]);
    assert!(matches!(many, Err(LedgerError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn leaves_survive_the_round_trip(leaf in any_leaf()) {
        prop_assert_eq!(Leaf::decode(&leaf.encode()).unwrap(), leaf);
    }

    #[test]
    fn openings_survive_the_round_trip(opened in any_opened()) {
        let bytes = opened.opening.as_bytes();
        let read = Opening::decode(bytes).unwrap();
        prop_assert_eq!(read.header(), opened.opening.header());
        prop_assert_eq!(read.envelope(), opened.opening.envelope());
        prop_assert_eq!(read.as_bytes(), bytes);
    }

    #[test]
    fn packs_survive_the_round_trip(
        slots in prop::collection::vec((any_opened(), any::<bool>()), 0..12),
    ) {
        let mut pack = Pack::default();
        for (opened, erased) in slots {
            let slot = pack.append(opened).unwrap();
            if erased {
                pack.erase(slot);
            }
        }
        prop_assert_eq!(&Pack::decode(&pack.encode()).unwrap(), &pack);
    }

    #[test]
    fn commits_survive_the_round_trip(
        before in 0_u64..600,
        opened in prop::collection::vec((any_opened(), any_leaf()), 1..12),
        ids: ([u8; 16], [u8; 16]),
    ) {
        let leaves: Vec<_> = (0..before).map(super::world::numbered).collect();
        let edge = Edge::default().grow(&leaves).unwrap().edge;
        let entries = opened.into_iter().map(|(opened, leaf)| {
            if leaf.class == Class::Pad {
                Entry::pad(*leaf.commitment.as_bytes())
            } else {
                Entry::new(&origin(), leaf.class, leaf.reference, opened).unwrap()
            }
        });
        let (writer, nonce) = (WriterId::from_bytes(ids.0), BatchNonce::from_bytes(ids.1));
        let (record, growth) = CommitRecord::new(&edge, writer, nonce, entries.collect()).unwrap();
        let read = CommitRecord::decode(&origin(), &record.encode()).unwrap();
        prop_assert_eq!(read.grow(&edge).unwrap(), growth);
        prop_assert_eq!(read, record);
    }
}
