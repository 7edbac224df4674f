//! Packed files: which, in which tar, written how, listed how; and every lie about it that is found out.

use std::io::Write as _;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::{Value, json};
use waag_schema::release::files::{FILES_MAX, Place};
use waag_schema::release::tar::{self, Expected, TarCheck, TarError, TarLayout};
use waag_schema::release::{
    About, Arrangement, BuildError, Built, Files, FilesError, Kind, Manifest, ManifestBuilder, ManifestError,
};
use waag_schema::{FilePath, Sha256};

fn path(text: &str) -> FilePath {
    text.parse().unwrap()
}

/// A tar of these files, and what is listed of it.
fn packed(files: &[(&str, &[u8])]) -> (Vec<u8>, Vec<Expected>) {
    let (mut bytes, mut listed) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let size = content.len() as u64;
        bytes.extend(tar::header(&path(name), size));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        listed.push(Expected {
            path: path(name),
            sha256: Sha256::of(content),
            size,
        });
    }
    bytes.resize(bytes.len() + 1024, 0);
    (bytes, listed)
}

fn check(bytes: &[u8], listed: &[Expected], step: usize) -> Result<(), TarError> {
    let mut check = TarCheck::new(listed.to_vec());
    for part in bytes.chunks(step) {
        check.update(part)?;
    }
    check.finish()
}

fn odd() -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("a".to_owned(), vec![]),
        ("b c".to_owned(), vec![1; 511]),
        ("d/größe".to_owned(), vec![2; 512]),
        ("e".repeat(100), vec![3; 513]),
        ("f".repeat(101), vec![4; 3]),
        (format!("{}/{}", "g".repeat(155), "h".repeat(100)), vec![5; 1]),
        (format!("{}/{}", "i".repeat(156), "j".repeat(100)), vec![6; 2]),
        (format!("{}/x/{}", "k".repeat(200), "l".repeat(100)), vec![7; 2]),
        (vec!["m".repeat(200); 5].join("/"), vec![8; 2000]),
    ];
    files.sort();
    files
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect()
}

#[test]
fn python_and_tar_read_what_is_packed() {
    let files = odd();
    let (bytes, _) = packed(&borrowed(&files));
    let script = "import sys, io, tarfile, json\n\
        t = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))\n\
        print(json.dumps([[m.name, t.extractfile(m).read().hex(), m.mode, m.uid, m.gid, m.uname, m.gname, \
        m.mtime, m.isreg(), m.offset_data] for m in t]))";
    let said = run(Command::new("python3").args(["-c", script]), &bytes);
    let said: Value = serde_json::from_slice(&said).unwrap();
    let mut layout = TarLayout::default();
    let expected: Vec<Value> = files
        .iter()
        .map(|(name, content)| {
            let offset = layout.place(&path(name), content.len() as u64).unwrap();
            let hex: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
            json!([name, hex, 0o644, 0, 0, "", "", 0, true, offset])
        })
        .collect();
    assert_eq!(said, Value::Array(expected));
    assert_eq!(layout.size(), bytes.len() as u64);

    let said = run(
        Command::new("tar")
            .args(["--quoting-style=literal", "-tf", "-"])
            .env("LC_ALL", "C.UTF-8"),
        &bytes,
    );
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(String::from_utf8(said).unwrap().trim_end(), names.join("\n"));
}

fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn a_size_that_ustar_cannot_hold_has_a_pax_header() {
    assert_eq!(tar::header(&path("a"), (8 << 30) - 1).len(), 512);
    let header = tar::header(&path("a"), 8 << 30);
    assert_eq!(header.len(), 1536);
    assert!(header[512..].starts_with(b"19 size=8589934592\n"));
    assert_eq!(tar::header_bytes(&path("a"), 8 << 30), 1536);
    // The length counts its own digits, also where they become more by it.
    let long = format!("{}/{}", "x".repeat(200), "y".repeat(200));
    for cut in 0..150 {
        let header = tar::header(&path(&long[..long.len() - cut]), 0);
        let record = header[512..].split(|byte| *byte == b'\n').next().unwrap();
        let said = std::str::from_utf8(record).unwrap().split(' ').next().unwrap();
        assert_eq!(said.parse::<usize>().unwrap(), record.len() + 1);
    }
}

#[test]
fn a_tar_is_checked_in_pieces_of_any_length() {
    let files = odd();
    let (bytes, listed) = packed(&borrowed(&files));
    for step in [1, 7, 512, 1000, bytes.len()] {
        check(&bytes, &listed, step).unwrap();
    }
    assert!(matches!(
        check(&bytes[..bytes.len() - 1], &listed, 512),
        Err(TarError::Short { .. })
    ));
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(
        check(&longer, &listed, 512),
        Err(TarError::Frame { .. })
    ));
}

#[test]
fn what_is_called_safetensors_must_be_it_in_a_tar_as_well() {
    let good = [&16_u64.to_le_bytes()[..], b"{\"a\":{}}        "].concat();
    let tensors = br#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    let better = [&(tensors.len() as u64).to_le_bytes()[..], tensors, &[1, 2]].concat();
    for (content, accepted) in [
        (&good[..], false),
        (&better, true),
        (b"", false),
        (b"short", false),
        (&[255; 40], false),
    ] {
        let (bytes, listed) = packed(&[("a.safetensors", content), ("b", b"x")]);
        for step in [1, 600, 4096] {
            assert_eq!(check(&bytes, &listed, step).is_ok(), accepted, "{content:?}");
        }
    }
}

proptest! {
    #[test]
    fn every_changed_byte_of_a_tar_is_found(at in 0_usize..8192, bit in 0_u8..8) {
        let (mut bytes, listed) = packed(&[("a/1", &[1; 700]), ("größe", &[2; 10]), ("z", b"")]);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(check(&bytes, &listed, 333).is_err());
    }

    #[test]
    fn files_are_arranged_by_one_rule(
        sizes in prop::collection::vec(prop_oneof![0_u64..5000, 0_u64..(3 << 20), 0_u64..(1 << 40)], 990..2500),
    ) {
        let paths: Vec<FilePath> = (0..sizes.len()).map(|i| path(&format!("f/{i:06}"))).collect();
        let files: Vec<(&FilePath, u64)> = paths.iter().zip(sizes.iter().copied()).collect();
        let found = Arrangement::of(&files);
        let mut all: Vec<usize> = found.alone.iter().chain(found.tars.iter().flatten()).copied().collect();
        prop_assert!(found.tars.concat().is_sorted() && found.alone.is_sorted());
        all.sort_unstable();
        prop_assert_eq!(all, (0..files.len()).collect::<Vec<_>>());
        if files.len() <= 1000 {
            prop_assert!(found.tars.is_empty());
        } else {
            prop_assert!(found.alone.len() <= 900 && (1..=512).contains(&found.tars.len()));
            let packed = found.tars.iter().flatten().map(|at| files[*at].1).max().unwrap();
            let alone = found.alone.iter().map(|at| files[*at].1).min().unwrap_or(u64::MAX);
            prop_assert!(packed < alone && alone > 1 << 20);
        }
    }

    #[test]
    fn noise_is_no_list_of_files(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let Built { manifest, .. } = release();
        prop_assert!(Files::of(&manifest, Some(&noise)).is_err());
    }
}

#[test]
fn many_small_files_make_few_tars_and_enormous_ones_not_too_many() {
    let paths: Vec<FilePath> = (0..100_000).map(|i| path(&format!("d/{i:06}"))).collect();
    let arranged = |size: u64| {
        let files: Vec<_> = paths.iter().map(|path| (path, size)).collect();
        Arrangement::of(&files)
    };
    assert_eq!(arranged(1000).tars.len(), 2);
    assert_eq!(arranged(10_000).tars.len(), 9);
    assert!(arranged(5 << 30).tars.len() <= 512);
    assert!(arranged(u64::MAX / 2).alone.is_empty());
}

/// A release with two files of its own and two tars.
fn release() -> Built {
    build(&[("k", b"alone"), ("z.md", b"# z")]).unwrap()
}

fn tars() -> [(Vec<u8>, Vec<Expected>); 2] {
    [
        packed(&[("a/1", b"one"), ("a/2", b"two"), ("config.json", b"{}")]),
        packed(&[("m/3", b"three"), ("m/4.py", b"")]),
    ]
}

fn build(own: &[(&str, &[u8])]) -> Result<Built, BuildError> {
    let mut builder = ManifestBuilder::new(Kind::Model, About::default());
    for (name, bytes) in own {
        builder = builder.file(path(name), Sha256::of(bytes), bytes.len() as u64);
    }
    for (bytes, listed) in tars() {
        builder = builder.tar(Sha256::of(&bytes), bytes.len() as u64, listed);
    }
    builder.build()
}

#[test]
fn a_packed_release_shows_all_its_files_and_no_tar() {
    let Built { manifest, list, .. } = release();
    insta::assert_snapshot!("packed_manifest", std::str::from_utf8(manifest.bytes()).unwrap());
    insta::assert_snapshot!(
        "packed_list",
        std::str::from_utf8(list.as_ref().unwrap()).unwrap()
    );
    assert_eq!((manifest.file_count(), manifest.total_size()), (7, 5 + 3 + 8 + 5));
    let files = Files::of(&manifest, list.as_deref()).unwrap();
    let shown: Vec<(&str, u64, Place)> = files
        .iter()
        .map(|file| (file.path.as_str(), file.size, file.place))
        .collect();
    let within = |tar, offset| Place::Within { tar, offset };
    assert_eq!(
        shown,
        [
            ("a/1", 3, within(0, 512)),
            ("a/2", 3, within(0, 1536)),
            ("config.json", 2, within(0, 2560)),
            ("k", 5, Place::Layer),
            ("m/3", 5, within(1, 512)),
            ("m/4.py", 0, within(1, 1536)),
            ("z.md", 3, Place::Layer),
        ]
    );
    assert_eq!((files.len(), files.bytes()), (7, 21));
    assert_eq!(files.expected(1), tars()[1].1);
    let found = files.at(&path("a/2")).unwrap();
    assert_eq!(files.locate(found), (Sha256::of(&tars()[0].0), 1536));
    let blobs: Vec<String> = manifest.blobs().map(|(path, _)| path.into_owned()).collect();
    assert_eq!(
        blobs,
        [
            "k",
            "z.md",
            ".waag/files-0.tar",
            ".waag/files-1.tar",
            ".waag/files.json"
        ]
    );
    assert_eq!(Files::of(&manifest, None), Err(FilesError::NoList));
}

#[test]
fn no_file_collides_with_a_packed_one() {
    for own in ["a/1", "A/1", "a", "a/1/x", "CONFIG.json"] {
        let error = build(&[(own, b"x")]).unwrap_err();
        assert!(
            matches!(error, BuildError::Files(FilesError::Collision(_))),
            "{own}: {error}"
        );
    }
}

/// A release whose list says something else; the manifest names the new list, and these numbers if they are given.
fn lying(change: impl FnOnce(&mut Value), totals: Option<(&str, &str)>) -> FilesError {
    let Built { manifest, list, .. } = release();
    let mut value: Value = serde_json::from_slice(&list.unwrap()).unwrap();
    change(&mut value);
    let list = serde_json::to_vec(&value).unwrap();
    let mut manifest: Value = serde_json::from_slice(manifest.bytes()).unwrap();
    let digest = Sha256::of(&list).to_string();
    let last = manifest["layers"].as_array().unwrap().len() - 1;
    manifest["layers"][last]["digest"] = json!(digest);
    manifest["layers"][last]["size"] = json!(list.len());
    manifest["annotations"]["eu.waag.files"] = json!(digest);
    if let Some((count, bytes)) = totals {
        manifest["annotations"]["eu.waag.files.count"] = json!(count);
        manifest["annotations"]["eu.waag.files.bytes"] = json!(bytes);
    }
    let manifest = Manifest::parse(serde_json::to_vec(&manifest).unwrap()).unwrap();
    Files::of(&manifest, Some(&list)).unwrap_err()
}

#[test]
fn a_list_that_lies_is_refused() {
    let refused = |change: fn(&mut Value)| lying(change, None);
    assert!(matches!(
        refused(|list| list["version"] = json!(2)),
        FilesError::Version(2)
    ));
    assert!(matches!(
        refused(|list| list["more"] = json!(1)),
        FilesError::Json(_)
    ));
    assert!(matches!(
        refused(|list| list["layers"][0]["files"][0] = json!(["a/1", "x", 3, 512])),
        FilesError::Json(_)
    ));
    assert!(matches!(
        refused(|list| list["layers"][0]["files"][0][0] = json!("../a")),
        FilesError::Json(_)
    ));
    assert!(matches!(
        refused(|list| list["layers"][0]["files"][0]
            .as_array_mut()
            .unwrap()
            .push(json!(1))),
        FilesError::Json(_)
    ));
    // Overlapping, in another file's header, or beyond the end.
    for offset in [0_u64, 1024, 1535, 512, 1 << 40] {
        let error = lying(|list| list["layers"][0]["files"][1][3] = json!(offset), None);
        assert!(matches!(error, FilesError::Offset { .. }), "{offset}: {error}");
    }
    assert!(matches!(
        refused(|list| list["layers"][1]["files"][1][2] = json!(1)),
        FilesError::TarSize { index: 1, .. }
    ));
    assert!(matches!(
        refused(|list| {
            list["layers"][0]["files"].as_array_mut().unwrap().pop();
        }),
        FilesError::TarSize { index: 0, .. }
    ));
    assert!(matches!(
        refused(|list| list["layers"][0]["files"][0][0] = json!("b/1")),
        FilesError::Order(_)
    ));
    // From one tar to the next as well.
    assert!(matches!(
        refused(|list| list["layers"][1]["files"][0][0] = json!("a/3")),
        FilesError::Order(_)
    ));
    assert!(matches!(
        refused(|list| list["layers"][0]["files"][1][0] = json!("a/1")),
        FilesError::Order(_)
    ));
    assert!(matches!(
        refused(|list| list["layers"].as_array_mut().unwrap().swap(0, 1)),
        FilesError::OtherTars
    ));
    assert!(matches!(
        refused(|list| {
            list["layers"].as_array_mut().unwrap().pop();
        }),
        FilesError::OtherTars
    ));
    assert!(matches!(
        refused(|list| list["layers"][1]["digest"] = json!(Sha256::of(b"other"))),
        FilesError::OtherTars
    ));
    for own in ["K", "k/x", "Z.MD"] {
        let error = lying(|list| list["layers"][1]["files"][1][0] = json!(own), None);
        let known = matches!(error, FilesError::Collision(_) | FilesError::Order(_));
        assert!(known, "{own}: {error}");
    }
    for totals in [("6", "21"), ("7", "22"), ("0", "0")] {
        let error = lying(|_| {}, Some(totals));
        assert!(matches!(error, FilesError::Totals { .. }), "{error}");
    }
}

#[test]
fn a_list_of_too_many_files_is_refused() {
    let many: Vec<Value> = (0..=FILES_MAX)
        .map(|i| json!([format!("{i:07}"), Sha256::of(b""), 0, 0]))
        .collect();
    let error = lying(|list| list["layers"][0]["files"] = many.into(), None);
    assert_eq!(error, FilesError::TooMany(FILES_MAX + 1 + 2 + 2));
}

#[test]
fn another_list_than_the_manifests_is_refused() {
    let Built { manifest, list, .. } = release();
    let mut list = list.unwrap();
    list.push(b' ');
    assert!(matches!(
        Files::of(&manifest, Some(&list)),
        Err(FilesError::WrongList { .. })
    ));
}

#[test]
fn a_manifest_that_announces_packed_files_has_them() {
    let refused = |change: fn(&mut Value)| {
        let Built { manifest, .. } = release();
        let mut value: Value = serde_json::from_slice(manifest.bytes()).unwrap();
        change(&mut value);
        Manifest::parse(serde_json::to_vec(&value).unwrap()).unwrap_err()
    };
    // Without the announcement, nothing may lie under `.waag`.
    assert!(matches!(
        refused(|m| {
            m["annotations"].as_object_mut().unwrap().remove("eu.waag.files");
        }),
        ManifestError::Path(_)
    ));
    for key in ["eu.waag.files.count", "eu.waag.files.bytes"] {
        for bad in ["", "07", "-1", "+1", "x", "18446744073709551616"] {
            let Built { manifest, .. } = release();
            let mut value: Value = serde_json::from_slice(manifest.bytes()).unwrap();
            value["annotations"][key] = json!(bad);
            let error = Manifest::parse(serde_json::to_vec(&value).unwrap()).unwrap_err();
            assert!(matches!(error, ManifestError::Annotation { .. }), "{key} {bad}");
        }
    }
    assert!(matches!(
        refused(|m| m["annotations"]["eu.waag.files"] = json!(Sha256::of(b"x"))),
        ManifestError::Path(_)
    ));
    assert!(matches!(
        refused(|m| {
            m["layers"].as_array_mut().unwrap().pop();
        }),
        ManifestError::Annotation { .. }
    ));
    assert!(matches!(
        refused(|m| {
            m["layers"].as_array_mut().unwrap().drain(2..4);
        }),
        ManifestError::Annotation { .. }
    ));
    // Tars in another order, or compressed.
    assert!(matches!(
        refused(|m| m["layers"].as_array_mut().unwrap().swap(2, 3)),
        ManifestError::Path(_)
    ));
    assert!(matches!(
        refused(|m| {
            m["layers"][2]["mediaType"] = json!("application/vnd.cncf.model.doc.v1.tar+gzip");
        }),
        ManifestError::Path(_)
    ));
}
