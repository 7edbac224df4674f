//! Keys, openings, leaves, trees, tiles, commits, packs and checkpoints.

use serde_json::{Value, json};
use waag_schema::ledger::merkle::{self, verify_consistency, verify_inclusion};
use waag_schema::ledger::{
    BatchNonce, Checkpoint, Class, CommitRecord, Edge, Entry, EntryId, Hash, Header, InclusionProof, KeyKind,
    Leaf, MemoryTree, Opening, Origin, Pack, PackPath, RefKind, Salt, SaltedOpening, SignedCheckpoint,
    Stream, Submission, TilePath, Tree, VerifierKey, WriterId, bundle, commit,
};
use waag_schema::{Sha256, Timestamp};

use super::{LOG, hex, key, text};

pub(super) fn origin() -> Origin {
    Origin::of(&key(LOG).public().site_id(), 1)
}

/// Opens the `seq`-th entry of the open stream around an envelope.
pub(super) fn opened(seq: u64, prev: Option<u64>, envelope: &[u8]) -> SaltedOpening {
    let digest = Sha256::of(envelope);
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    let header = Header {
        id: EntryId::from_bytes(id),
        prev,
        stream: Stream::open(),
        seq,
        at: Timestamp::from_unix(1_795_219_391 + seq),
    };
    SaltedOpening {
        salt: Salt::from_bytes(*Sha256::of(&seq.to_be_bytes()).as_bytes()),
        opening: Opening::new(header, envelope).unwrap(),
    }
}

pub(super) fn vectors() -> Value {
    json!({
        "vkeys": vkeys(),
        "vkeys_refused": vkeys_refused(),
        "origins_refused": origins_refused(),
        "entries": entries().iter().map(entry).collect::<Vec<_>>(),
        "openings_refused": openings_refused(),
        "leaves_refused": leaves_refused(),
        "trees": trees(),
        "inclusion": inclusion(),
        "consistency": consistency(),
        "tile_paths": tile_paths(),
        "tiles": tiles(),
        "commit": commit_object(),
        "packs": packs(),
        "packs_refused": packs_refused(),
        "checkpoints": checkpoints(),
        "checkpoints_refused": checkpoints_refused(),
        "submissions": submissions(),
        "submissions_refused": submissions_refused(),
    })
}

fn vkeys() -> Vec<Value> {
    let ledger = origin().verifier(key(LOG).public());
    let witness = VerifierKey::new("witness.example/w1", KeyKind::Witness, key(8).public()).unwrap();
    let row = |key: VerifierKey, kind: u8| json!({"vkey": key, "name": key.name(), "kind": kind, "key": key.key(), "id": hex(&key.id())});
    vec![row(ledger, 1), row(witness, 4)]
}

fn vkeys_refused() -> Vec<String> {
    let good = origin().verifier(key(LOG).public()).to_string();
    let (name, rest) = good.split_once('+').unwrap();
    let rows = vec![
        String::new(),
        name.to_owned(),
        format!("x{good}"),
        good.to_uppercase(),
        good[..good.len() - 1].to_owned(),
        format!("{name}+00000000{}", &rest[8..]),
        format!("{name}+{}{}", rest[..8].to_uppercase(), &rest[8..]),
        format!("a b+{rest}"),
    ];
    for row in &rows {
        assert!(row.parse::<VerifierKey>().is_err(), "{row}");
    }
    rows
}

fn origins_refused() -> Vec<String> {
    let good = origin().to_string();
    let rows = vec![
        good.replace("waag/", ""),
        good.replace("/1", ""),
        good.replace("/1", "/01"),
        good.replace("/1", "/-1"),
        good.replace("/1", "/4294967296"),
        format!("{good}/"),
        good.to_uppercase(),
    ];
    for row in &rows {
        assert!(row.parse::<Origin>().is_err(), "{row}");
    }
    rows
}

fn entries() -> Vec<Entry> {
    let entry = |class, reference, seq, prev, envelope: &[u8]| {
        Entry::new(&origin(), class, reference, opened(seq, prev, envelope)).unwrap()
    };
    vec![
        entry(Class::Open, None, 0, None, b"{}"),
        entry(Class::Restricted, None, 1, Some(0), br#"{"n":1}"#),
        entry(Class::Admin, Some((RefKind::Erases, 1)), 2, None, br#"{"n":2}"#),
        Entry::pad([0x5a; 32]),
        entry(
            Class::Open,
            Some((RefKind::Revokes, 0)),
            3,
            Some(1),
            br#"{"n":3}"#,
        ),
    ]
}

fn entry(entry: &Entry) -> Value {
    let leaf = entry.leaf();
    let mut row = json!({
        "origin": origin(),
        "class": leaf.class,
        "reference": leaf.reference,
        "commitment": leaf.commitment,
        "leaf": hex(&leaf.encode()),
        "leaf_hash": leaf.hash(),
    });
    if let Some(SaltedOpening { salt, opening }) = entry.opening() {
        row["salt"] = json!(salt);
        row["opening"] = json!(hex(opening.as_bytes()));
        row["header"] = json!(text(
            &opening.as_bytes()[4..opening.as_bytes().len() - 4 - opening.envelope().len()]
        ));
        row["envelope"] = json!(text(opening.envelope()));
    }
    row
}

fn opening_bytes(header: &str, envelope: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [
        &length(header.as_bytes())[..],
        header.as_bytes(),
        &length(envelope),
        envelope,
    ]
    .concat()
}

fn openings_refused() -> Vec<Value> {
    let good = opened(0, None, b"{}").opening;
    let header = text(&good.as_bytes()[4..good.as_bytes().len() - 6]);
    assert_eq!(opening_bytes(header, b"{}"), good.as_bytes());
    let with = |from: &str, to: &str| {
        assert!(header.contains(from), "{from}");
        opening_bytes(&header.replace(from, to), b"{}")
    };
    let rows = vec![
        ("no envelope", opening_bytes(header, b"")),
        ("a byte behind its end", [good.as_bytes(), &[0]].concat()),
        (
            "a byte short",
            good.as_bytes()[..good.as_bytes().len() - 1].to_vec(),
        ),
        ("version 2", with("\"v\":1", "\"v\":2")),
        ("no prev", with("\"prev\":null,", "")),
        ("an unknown key", with("\"v\":1", "\"v\":1,\"x\":1")),
        ("a key twice", with("\"v\":1", "\"v\":1,\"v\":1")),
        (
            "an id in upper case",
            with("\"id\":\"44136fa3", "\"id\":\"44136FA3"),
        ),
        ("another form of time", with("Z\"", "+00:00\"")),
        ("a stream of another form", with("\"open\"", "\"Open\"")),
        ("a negative seq", with("\"seq\":0", "\"seq\":-1")),
        (
            "a header of more than 4 KiB",
            opening_bytes(&format!("{header}{}", " ".repeat(4096)), b"{}"),
        ),
    ];
    for (why, bytes) in &rows {
        assert!(Opening::decode(bytes).is_err(), "{why}");
    }
    rows.into_iter()
        .map(|(why, bytes)| json!({"why": why, "opening": hex(&bytes)}))
        .collect()
}

fn leaves_refused() -> Vec<Value> {
    let good = entries()[0].leaf().encode();
    let with = |at: usize, bytes: &[u8]| {
        let mut leaf = good.to_vec();
        leaf[at..at + bytes.len()].copy_from_slice(bytes);
        leaf
    };
    let rows = vec![
        ("version 2", with(0, &[2])),
        ("class 4", with(1, &[4])),
        ("reference of kind 5", with(2, &[5, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("a target without a kind", with(3, &[0; 8])),
        ("a kind without a target", with(2, &[1])),
        (
            "a target of 2^53 - 1",
            with(2, &[1, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("42 bytes", good[..42].to_vec()),
        ("44 bytes", [&good[..], &[0]].concat()),
    ];
    for (why, leaf) in &rows {
        assert!(Leaf::decode(leaf).is_err(), "{why}");
    }
    rows.into_iter()
        .map(|(why, leaf)| json!({"why": why, "leaf": hex(&leaf)}))
        .collect()
}

/// The tree whose leaf i is i as u64be.
fn numbered(size: u64) -> MemoryTree {
    (0..size).map(|i| Hash::leaf(&i.to_be_bytes())).collect()
}

fn root(size: u64) -> merkle::Tree {
    let root = merkle::root(&numbered(size), size).unwrap();
    Tree { size, root }
}

fn trees() -> Vec<Value> {
    let sizes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 256, 257, 300, 513];
    sizes
        .map(|size| json!({"size": size, "root": root(size).root}))
        .into()
}

fn inclusion() -> Vec<Value> {
    let tree = numbered(300);
    let pairs = [
        (0, 1),
        (0, 2),
        (1, 2),
        (2, 3),
        (0, 7),
        (3, 7),
        (6, 7),
        (0, 300),
        (255, 300),
        (256, 300),
        (299, 300),
    ];
    let mut rows = Vec::new();
    let mut row = |why: &str, proof: &InclusionProof, leaf: u64, tree: &Tree, holds: bool| {
        let hash = Hash::leaf(&leaf.to_be_bytes());
        let found = verify_inclusion(&hash, proof.index, proof.size, &proof.path, &tree.root).is_ok();
        assert_eq!(found, holds, "{why}");
        rows.push(json!({"why": why, "leaf_hash": hash, "proof": proof, "root": tree.root, "holds": holds}));
    };
    for (index, size) in pairs {
        let proof = InclusionProof::make(&tree, index, size).unwrap();
        row("it holds", &proof, index, &root(size), true);
        row("another leaf", &proof, index + 1, &root(size), false);
        let mut long = proof.clone();
        long.path.push(Hash::from_bytes([0; 32]));
        row("a hash too many", &long, index, &root(size), false);
        if size > 1 {
            let mut short = proof.clone();
            short.path.pop();
            row("a hash too few", &short, index, &root(size), false);
            let moved = InclusionProof {
                index: index ^ 1,
                ..proof.clone()
            };
            row("another index", &moved, index, &root(size), false);
        }
    }
    let outside = InclusionProof {
        index: 7,
        size: 7,
        path: Vec::new(),
    };
    row("an index beyond the tree", &outside, 7, &root(7), false);
    let beyond = InclusionProof {
        index: 0,
        size: 0,
        path: Vec::new(),
    };
    row("nothing is in an empty tree", &beyond, 0, &root(0), false);
    rows
}

fn consistency() -> Vec<Value> {
    let tree = numbered(300);
    let pairs = [
        (0, 0),
        (0, 5),
        (1, 1),
        (1, 2),
        (1, 8),
        (2, 3),
        (3, 4),
        (4, 8),
        (5, 7),
        (6, 7),
        (7, 300),
        (256, 300),
        (257, 300),
        (299, 300),
        (300, 300),
    ];
    let mut rows = Vec::new();
    let mut row = |why: &str, old: &Tree, new: &Tree, path: &[Hash], holds: bool| {
        assert_eq!(
            verify_consistency(old, new, path).is_ok(),
            holds,
            "{why} {old:?} {new:?}"
        );
        let tree = |tree: &Tree| json!({"size": tree.size, "root": tree.root});
        rows.push(json!({"why": why, "old": tree(old), "new": tree(new), "path": path, "holds": holds}));
    };
    for (old, new) in pairs {
        let path = merkle::prove_consistency(&tree, old, new).unwrap();
        let (old, new) = (root(old), root(new));
        row("it holds", &old, &new, &path, true);
        let other = Tree {
            root: root(299 - old.size % 2).root,
            ..old
        };
        row("another old root", &other, &new, &path, false);
        if old.size > 0 {
            let other = Tree {
                root: root(298 - new.size % 2).root,
                ..new
            };
            row("another new root", &old, &other, &path, false);
        }
        row(
            "a hash too many",
            &old,
            &new,
            &[&path[..], &[Hash::from_bytes([0; 32])]].concat(),
            false,
        );
        if let Some((_, shorter)) = path.split_last() {
            row("a hash too few", &old, &new, shorter, false);
        }
    }
    row("a tree does not shrink", &root(5), &root(4), &[], false);
    rows
}

fn tile_paths() -> Value {
    let good = [
        "tile/0/000",
        "tile/0/x001/x234/067",
        "tile/6/000.p/1",
        "tile/entries/000",
        "tile/entries/x001/000.p/255",
    ];
    let bad = [
        "tile/0/0",
        "tile/00/000",
        "tile/7/000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/data/000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/x001",
    ];
    for path in good {
        assert_eq!(path.parse::<TilePath>().unwrap().to_string(), path);
    }
    for path in bad {
        assert!(path.parse::<TilePath>().is_err(), "{path}");
    }
    json!({"accepted": good, "refused": bad})
}

/// The tiles of a tree of 300 numbered leaves, by the SHA-256 of their bytes.
fn tiles() -> Value {
    let leaves: Vec<Hash> = (0_u64..300).map(|i| Hash::leaf(&i.to_be_bytes())).collect();
    let growth = Edge::default().grow(&leaves).unwrap();
    let row = |(path, bytes): &(TilePath, Vec<u8>)| json!({"path": path.to_string(), "length": bytes.len(), "sha256": Sha256::of(bytes)});
    json!({"size": 300, "tiles": growth.tiles.iter().map(row).collect::<Vec<_>>()})
}

fn commit_object() -> Value {
    let (record, growth) = CommitRecord::new(
        &Edge::default(),
        WriterId::from_bytes([7; 16]),
        BatchNonce::from_bytes([8; 16]),
        entries(),
    )
    .unwrap();
    let bytes = record.encode();
    assert_eq!(CommitRecord::decode(&origin(), &bytes).unwrap(), record);
    let leaves: Vec<Leaf> = entries().iter().map(|entry| *entry.leaf()).collect();
    let bundle = bundle::grow(0, &[], &leaves).unwrap();
    json!({
        "key": commit::key(0),
        "bytes": hex(&bytes),
        "writer": record.writer(),
        "nonce": record.nonce(),
        "before": {"size": record.before().size, "root": record.before().root},
        "after": {"size": growth.size, "root": growth.root},
        "bundle": {"path": bundle[0].0.to_string(), "bytes": hex(&bundle[0].1)},
    })
}

fn packs() -> Vec<Value> {
    let mut pack = Pack::default();
    for entry in entries() {
        if let Some(opening) = entry.opening() {
            pack.append(opening.clone()).unwrap();
        }
    }
    pack.erase(1);
    let slots = (0..pack.len()).map(|slot| {
        pack.slot(slot)
            .map(|opened| json!({"salt": opened.salt, "opening": hex(opened.opening.as_bytes())}))
    });
    let paths = [
        (0, "body/open/000", 0),
        (255, "body/open/000", 255),
        (256_001, "body/open/x001/000", 1),
    ];
    for (seq, path, slot) in paths {
        let (found, at) = PackPath::of(&Stream::open(), seq);
        assert_eq!((found.to_string().as_str(), at), (path, slot));
    }
    vec![
        json!({"stream": "open", "bytes": hex(&pack.encode()), "slots": slots.collect::<Vec<_>>(), "paths": paths}),
    ]
}

fn packs_refused() -> Vec<Value> {
    let rows = vec![
        ("a length without an opening", vec![0, 0, 0, 1]),
        ("half a length", vec![0, 0]),
        ("257 slots", vec![0; 4 * 257]),
    ];
    for (why, bytes) in &rows {
        assert!(Pack::decode(bytes).is_err(), "{why}");
    }
    rows.into_iter()
        .map(|(why, bytes)| json!({"why": why, "pack": hex(&bytes)}))
        .collect()
}

fn witness() -> VerifierKey {
    VerifierKey::new("witness.example/w1", KeyKind::Witness, key(8).public()).unwrap()
}

fn signed(size: u64) -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        origin: origin(),
        size,
        root: root(size).root,
    };
    SignedCheckpoint::sign(checkpoint, &key(LOG))
}

fn cosigned(time: u64) -> SignedCheckpoint {
    let mut note = signed(300);
    let line = note
        .cosign(witness().name(), &key(8), Timestamp::from_unix(time))
        .unwrap();
    note.add(line).unwrap();
    note
}

fn checkpoint_row(why: &str, note: &str, holds: bool) -> Value {
    let found = SignedCheckpoint::parse(note.as_bytes())
        .and_then(|signed| Ok((signed.verify(&[key(LOG).public()], &[witness()])?, signed)));
    assert_eq!(found.is_ok(), holds, "{why}");
    let mut row = json!({"why": why, "note": note, "log_key": origin().verifier(key(LOG).public()), "witnesses": [witness()]});
    if let Ok((cosignatures, signed)) = found {
        row["size"] = json!(signed.checkpoint().size);
        row["root"] = json!(signed.checkpoint().root);
        let times = cosignatures
            .iter()
            .map(|c| json!([c.witness.name(), c.time.unix()]));
        row["cosignatures"] = times.collect();
    }
    row
}

fn checkpoints() -> Vec<Value> {
    let stranger = {
        let mut note = signed(300);
        let line = note
            .cosign("stranger.example", &key(9), Timestamp::from_unix(5))
            .unwrap();
        note.add(line).unwrap();
        note.to_string()
    };
    vec![
        checkpoint_row("an empty tree", &signed(0).to_string(), true),
        checkpoint_row("signed by its ledger", &signed(300).to_string(), true),
        checkpoint_row("cosigned", &cosigned(1_795_219_400).to_string(), true),
        checkpoint_row("a stranger's line beside", &stranger, true),
        checkpoint_row("an extension line", &extended(), true),
    ]
}

/// A checkpoint as another implementation may write it.
fn extended() -> String {
    let body = format!("{}extension line\n", signed(300).checkpoint());
    let note = waag_schema::ledger::Note::new(&body).unwrap();
    let line = note.sign(&origin().to_string(), &key(LOG)).unwrap();
    format!("{body}\n{line}\n")
}

fn checkpoints_refused() -> Vec<Value> {
    let good = cosigned(1_795_219_400).to_string();
    let plain = signed(300).to_string();
    let only_witness = good
        .lines()
        .filter(|line| !line.starts_with("— waag/"))
        .collect::<Vec<_>>()
        .join("\n")
        + "\n";
    let by_other = {
        let note = signed(300);
        SignedCheckpoint::sign(note.checkpoint().clone(), &key(9)).to_string()
    };
    let resized = plain.replace("\n300\n", "\n301\n");
    let last = plain.trim_end().len() - 5;
    let broken = format!("{}A{}", &plain[..last], &plain[last + 1..]);
    let damaged_witness = {
        let line = good.lines().last().unwrap();
        let at = good.rfind(line).unwrap() + line.len() - 6;
        let letter = if &good[at..=at] == "A" { "B" } else { "A" };
        format!("{}{letter}{}", &good[..at], &good[at + 1..])
    };
    let rows = [
        ("another size than was signed", resized),
        ("a leading zero", plain.replace("\n300\n", "\n0300\n")),
        ("a signature that does not hold", broken),
        ("a known witness's signature that does not hold", damaged_witness),
        ("signed by another key under the ledger's name", by_other),
        ("a witness alone", only_witness),
        ("no newline at its end", plain.trim_end().to_owned()),
        ("no empty line", plain.replace("\n\n", "\n")),
        ("a hyphen for a dash", plain.replace('—', "-")),
        ("a carriage return", plain.replace("\n300\n", "\n300\r\n")),
        ("two spaces in a signature line", plain.replace("/1 ", "/1  ")),
        (
            "an empty tree with another's root",
            plain.replace("\n300\n", "\n0\n"),
        ),
    ];
    rows.into_iter()
        .map(|(why, note)| checkpoint_row(why, &note, false))
        .collect()
}

fn submission_row(why: &str, body: &str, holds: bool) -> Value {
    let found = Submission::parse(body.as_bytes());
    assert_eq!(found.is_ok(), holds, "{why}");
    let mut row = json!({"why": why, "body": body});
    if let Ok(found) = found {
        assert_eq!(found.to_string(), body, "{why}");
        row["old"] = json!(found.old);
        row["proof"] = found
            .proof
            .iter()
            .map(|hash| json!(hex(hash.as_bytes())))
            .collect();
        row["origin"] = json!(found.origin());
        row["note"] = json!(found.note.to_string());
    }
    row
}

/// The example of C2SP tlog-witness.
const SPECIFIED: &str = "old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
";

fn submitted() -> String {
    format!("old 0\n\n{}", signed(300))
}

fn submissions() -> Vec<Value> {
    vec![
        submission_row("the example of C2SP tlog-witness", SPECIFIED, true),
        submission_row("the first one of a ledger", &submitted(), true),
    ]
}

fn submissions_refused() -> Vec<Value> {
    let first = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
    let rows = [
        ("no old size", submitted().replace("old 0\n", "")),
        ("a leading zero", submitted().replace("old 0", "old 00")),
        ("two spaces", submitted().replace("old 0", "old  0")),
        ("no empty line", submitted().replacen("\n\n", "\n", 1)),
        (
            "64 hashes",
            submitted().replacen("\n\n", &format!("\n{}\n", first.repeat(64)), 1),
        ),
        (
            "a hash of 31 bytes",
            submitted().replacen("\n\n", "\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n\n", 1),
        ),
        ("a carriage return", submitted().replace("old 0\n", "old 0\r\n")),
        (
            "a checkpoint without a signature",
            submitted().split('—').next().unwrap().to_owned(),
        ),
    ];
    rows.into_iter()
        .map(|(why, body)| submission_row(why, &body, false))
        .collect()
}
