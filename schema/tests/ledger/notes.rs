//! Signed notes and checkpoints: the specification's samples, another implementation, refusals.

use data_encoding::BASE64;
use proptest::prelude::*;
use signed_note::{StandardVerifier, VerifierList};
use waag_schema::Timestamp;
use waag_schema::base::key::KeyPair;
use waag_schema::ledger::note::SIGNATURES_MAX;
use waag_schema::ledger::{
    Checkpoint, KeyKind, LedgerError, Note, NoteSignature, Origin, Root, SignedCheckpoint, VerifierKey,
};

use super::world::{log_key, numbered_tree, origin};

const NEUMANN_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NEUMANN_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
     then you don't know what your problem is.\n\
     \n\
     — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const FOO_KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const FOO_NOTE: &str = "This is an example message.\n\
     \n\
     — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn witness() -> KeyPair {
    KeyPair::from_seed(&[9; 32])
}

fn witness_key() -> VerifierKey {
    VerifierKey::new("waag/w/witness", KeyKind::Witness, witness().public()).expect("a plain name")
}

fn checkpoint() -> Checkpoint {
    let tree = numbered_tree(1234);
    let root = waag_schema::ledger::merkle::root(&tree, 1234).expect("a whole tree");
    Checkpoint {
        origin: origin(),
        size: 1234,
        root,
    }
}

fn cosigned() -> SignedCheckpoint {
    let mut signed = SignedCheckpoint::sign(checkpoint(), &log_key());
    let line = signed
        .cosign("waag/w/witness", &witness(), Timestamp::from_unix(1_679_315_147))
        .expect("a plain name");
    signed.add(line).expect("two signatures");
    signed
}

#[test]
fn the_samples_of_go_and_of_the_specification_hold() {
    for (key, note) in [(NEUMANN_KEY, NEUMANN_NOTE), (FOO_KEY, FOO_NOTE)] {
        let key: VerifierKey = key.parse().unwrap();
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(parsed.to_string(), note);
        let keys = [key.clone()];
        let verified = parsed.verify(&keys).unwrap();
        assert_eq!(verified.len(), 1);
        assert_eq!((verified[0].key, verified[0].time), (&key, None));
    }
}

#[test]
fn signing_the_sample_gives_the_sample() {
    // Go's documentation has this secret key: the type byte 1 and the seed.
    let secret = BASE64
        .decode(b"AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")
        .unwrap();
    let pair = KeyPair::from_seed(secret[1..].try_into().unwrap());
    let (text, _) = NEUMANN_NOTE.rsplit_once("\n\n").unwrap();
    let mut note = Note::new(&format!("{text}\n")).unwrap();
    note.add(note.sign("PeterNeumann", &pair).unwrap()).unwrap();
    assert_eq!(note.to_string(), NEUMANN_NOTE);
    let key = VerifierKey::new("PeterNeumann", KeyKind::Ledger, pair.public()).unwrap();
    assert_eq!(key.to_string(), NEUMANN_KEY);
}

#[test]
fn a_witness_key_in_use_has_the_id_that_it_prints() {
    let text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    let key: VerifierKey = text.parse().unwrap();
    assert_eq!(key.kind(), KeyKind::Witness);
    assert_eq!(key.to_string(), text);
}

#[test]
fn verifier_keys_that_do_not_add_up_are_refused() {
    for bad in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumana+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+BRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ] {
        assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
    }
    let key = log_key().public();
    for bad in ["", "a b", "a+b", "a\u{a0}b", "a\nb", &"n".repeat(257)] {
        assert!(VerifierKey::new(bad, KeyKind::Ledger, key).is_err(), "{bad:?}");
    }
}

#[test]
fn another_implementation_believes_our_checkpoint_and_reads_it_alike() {
    let signed = cosigned();
    let bytes = signed.to_string().into_bytes();
    let vkey = origin().verifier(log_key().public()).to_string();
    let theirs = signed_note::Note::from_bytes(&bytes).unwrap();
    let verifier = StandardVerifier::new(&vkey).unwrap();
    let (verified, unverified) = theirs
        .verify(&VerifierList::new(vec![Box::new(verifier)]))
        .unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 1));
    let read = tlog_tiles::Checkpoint::from_bytes(theirs.text()).unwrap();
    assert_eq!(read.origin(), origin().to_string());
    assert_eq!(read.size(), 1234);
    assert_eq!(read.hash().0, *checkpoint().root.as_bytes());
    assert_eq!(read.to_bytes(), checkpoint().to_string().into_bytes());
}

#[test]
fn a_cosignature_signs_the_time_and_the_whole_text() {
    let signed = cosigned();
    let line = &signed.note().signatures()[1].to_string();
    let base64 = line.strip_prefix("— waag/w/witness ").unwrap();
    let bytes = BASE64.decode(base64.as_bytes()).unwrap();
    assert_eq!(bytes.len(), 4 + 8 + 64);
    assert_eq!(bytes[..4], witness_key().id());
    assert_eq!(bytes[4..12], 1_679_315_147_u64.to_be_bytes());
    let message = format!("cosignature/v1\ntime 1679315147\n{}", checkpoint());
    witness()
        .public()
        .verify(message.as_bytes(), bytes[12..].try_into().unwrap())
        .unwrap();

    let found = signed.verify(&[log_key().public()], &[witness_key()]).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].time.unix(), 1_679_315_147);
}

#[test]
fn a_checkpoint_counts_only_when_its_own_ledger_signed() {
    let signed = cosigned();
    let stranger = KeyPair::from_seed(&[5; 32]).public();
    assert!(
        signed
            .verify(&[stranger, log_key().public()], &[])
            .unwrap()
            .is_empty()
    );
    for keys in [vec![], vec![stranger]] {
        assert_eq!(
            signed.verify(&keys, &[witness_key()]).unwrap_err(),
            LedgerError::NotSigned {
                name: origin().to_string()
            }
        );
    }
    // The log's key among the witnesses does not make it a witness.
    let as_witness = origin().verifier(log_key().public());
    assert!(signed.verify(&[stranger], &[as_witness]).is_err());
}

#[test]
fn a_bad_signature_of_a_known_key_refuses_the_whole_note() {
    let signed = cosigned();
    let other = Checkpoint {
        size: 1235,
        ..checkpoint()
    };
    // A true cosignature, but for another size.
    let foreign = SignedCheckpoint::sign(other, &log_key())
        .cosign("waag/w/witness", &witness(), Timestamp::from_unix(1))
        .unwrap();
    let mut mixed = signed;
    mixed.add(foreign).unwrap();
    assert_eq!(mixed.note().signatures().len(), 2, "it replaces the earlier one");
    assert_eq!(
        mixed.verify(&[log_key().public()], &[witness_key()]).unwrap_err(),
        LedgerError::BadSignature {
            name: "waag/w/witness".to_owned()
        }
    );
    // Whoever does not know the witness passes it over.
    mixed.verify(&[log_key().public()], &[]).unwrap();
}

#[test]
fn two_log_keys_may_sign_while_one_follows_the_other() {
    let mut signed = cosigned();
    let next = KeyPair::from_seed(&[2; 32]);
    signed.sign_also(&next).unwrap();
    for keys in [
        vec![log_key().public()],
        vec![next.public()],
        vec![next.public(), log_key().public()],
    ] {
        assert_eq!(signed.verify(&keys, &[witness_key()]).unwrap().len(), 1);
    }
}

#[test]
fn every_changed_bit_of_a_checkpoint_is_noticed() {
    let bytes = cosigned().to_string().into_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(signed) = SignedCheckpoint::parse(&changed) else {
            continue;
        };
        let found = signed.verify(&[log_key().public()], &[witness_key()]);
        assert!(
            found.is_err() || found.is_ok_and(|cosignatures| cosignatures.is_empty()),
            "bit {bit}"
        );
    }
}

#[test]
fn extension_lines_are_signed_and_mean_nothing() {
    let text = format!("{}an extension\n", checkpoint());
    let mut note = Note::new(&text).unwrap();
    note.add(note.sign(&origin().to_string(), &log_key()).unwrap())
        .unwrap();
    let signed = SignedCheckpoint::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(signed.checkpoint(), &checkpoint());
    assert_eq!(signed.note().text(), text);
    signed.verify(&[log_key().public()], &[]).unwrap();
}

#[test]
fn texts_that_are_no_checkpoint_are_refused() {
    let good = checkpoint().to_string();
    let lines: Vec<_> = good.lines().collect();
    let (name, root) = (lines[0], lines[2]);
    let empty = Root::empty();
    for bad in [
        String::new(),
        "\n".to_owned(),
        format!("{name}\n1234\n"),
        format!("{name}\n1234\n{root}"),
        format!("{name}\n01234\n{root}\n"),
        format!("{name}\n+1234\n{root}\n"),
        format!("{name}\n9007199254740992\n{root}\n"),
        format!("{name}\n0\n{root}\n"),
        format!("{name}\n1234\n{}\n", &root[1..]),
        format!("{name}\n1234\n{root}\n\n"),
        format!("{name}\n1234\n{root}\n\nx\n"),
        format!("{name}/\n1234\n{root}\n"),
        format!("example.com/log\n1234\n{root}\n"),
    ] {
        assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
    }
    assert!(format!("{name}\n0\n{empty}\n").parse::<Checkpoint>().is_ok());
    for bad in [
        "waag",
        "waag//1",
        "waag/abc/1",
        &name.replace("/1", "/01"),
        &name.replace("/1", "/4294967296"),
    ] {
        assert!(bad.parse::<Origin>().is_err(), "{bad}");
    }
}

#[test]
fn a_note_has_at_most_32_signatures_and_64_kib() {
    let mut note = Note::new("text\n").unwrap();
    let line = |n: usize| note.sign(&format!("key{n}"), &log_key()).unwrap();
    let lines: Vec<_> = (0..=SIGNATURES_MAX).map(line).collect();
    let (last, first) = lines.split_last().unwrap();
    for line in first {
        note.add(line.clone()).unwrap();
    }
    Note::parse(note.to_string().as_bytes()).unwrap();
    assert!(matches!(
        note.add(last.clone()),
        Err(LedgerError::TooLarge { .. })
    ));
    let crowded = format!("{note}{last}\n");
    assert!(matches!(
        Note::parse(crowded.as_bytes()),
        Err(LedgerError::TooLarge { .. })
    ));
    assert!(Note::new(&format!("{}\n", "x".repeat(64 * 1024))).is_err());
}

#[test]
fn texts_that_are_no_note_are_refused() {
    let sig = FOO_NOTE.lines().last().unwrap();
    for bad in [
        String::new(),
        "text\n".to_owned(),
        "text\n\n".to_owned(),
        format!("text\n{sig}\n"),
        format!("text\n\n{sig}"),
        format!("text\n\n{sig}\n\n"),
        format!("te\txt\n\n{sig}\n"),
        format!("text\r\n\n{sig}\n"),
        format!("text\n\n{sig}\nnot a signature\n"),
        format!("text\n\n{}\n", sig.replace('—', "-")),
        "text\n\n— name AAAAAA==\n".to_owned(),
        "text\n\n— name AAAA\n".to_owned(),
        "text\n\n— na+me AAAAAAA=\n".to_owned(),
        "text\n\n—  AAAAAAA=\n".to_owned(),
    ] {
        assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(Note::parse(b"text\xff\n\n").is_err());
    // The last empty line parts text and signatures, so a text may hold empty lines.
    let text = format!("a\n\nb\n\n\n{sig}\n");
    let note = Note::parse(text.as_bytes()).unwrap();
    assert_eq!((note.text(), note.to_string()), ("a\n\nb\n\n", text));
}

#[test]
fn a_time_beyond_the_year_9999_is_no_cosignature() {
    let text = checkpoint().to_string();
    let time = 1_u64 << 62;
    let signature = witness().sign(format!("cosignature/v1\ntime {time}\n{text}").as_bytes());
    let bytes = [&witness_key().id()[..], &time.to_be_bytes(), &signature].concat();
    let line: NoteSignature = format!("— waag/w/witness {}", BASE64.encode(&bytes))
        .parse()
        .unwrap();
    let mut signed = SignedCheckpoint::sign(checkpoint(), &log_key());
    signed.add(line).unwrap();
    assert!(signed.verify(&[log_key().public()], &[witness_key()]).is_err());
}

proptest! {
    #[test]
    fn notes_and_keys_survive_the_round_trip(
        text in "([a-zäö—+ ]{0,20}\n){1,5}",
        names in prop::collection::vec("[a-zé./]{1,20}", 1..5),
        seed: [u8; 32],
        time in 0_u64..253_402_300_799,
    ) {
        let pair = KeyPair::from_seed(&seed);
        let mut note = Note::new(&text).unwrap();
        let mut keys = Vec::new();
        for name in &names {
            note.add(note.sign(name, &pair).unwrap()).unwrap();
            note.add(note.cosign(name, &pair, Timestamp::from_unix(time)).unwrap()).unwrap();
            for kind in [KeyKind::Ledger, KeyKind::Witness] {
                let key = VerifierKey::new(name, kind, pair.public()).unwrap();
                prop_assert_eq!(&key.to_string().parse::<VerifierKey>().unwrap(), &key);
                keys.push(key);
            }
        }
        let parsed = Note::parse(note.to_string().as_bytes()).unwrap();
        prop_assert_eq!(&parsed, &note);
        let verified = parsed.verify(&keys).unwrap();
        prop_assert_eq!(verified.len(), parsed.signatures().len());
        prop_assert!(verified.iter().all(|v| v.time.is_none_or(|t| t.unix() == time)));
    }
}
