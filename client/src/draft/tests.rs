//! Drafts as they pass from one owner to the next: in turns, tampered with, by keys that count and keys that do not.

use waag_schema::base::bytes::Base64;
use waag_schema::policy::Label;
use waag_schema::release::{About, Kind, ManifestBuilder};
use waag_schema::statement::predicate::{Content, Release, Residency, Withdrawal};
use waag_schema::statement::{Chain, TagMove};

use super::scene::{ground, key, pairs};
use super::*;

/// A release with a label and a tag, as a push makes it.
fn push(ground: &Ground) -> (Vec<Statement>, Upload) {
    let bytes = b"weights";
    let recipe = crate::read::cut(bytes);
    let content = |bytes: &[u8]| {
        let recipe = crate::read::cut(bytes);
        Content {
            sha256: Sha256::of(bytes),
            size: bytes.len() as u64,
            planner: recipe.planner(),
            recipe: recipe.digest(),
        }
    };
    let built = ManifestBuilder::new(Kind::Model, About::default())
        .file("notes.txt".parse().unwrap(), Sha256::of(bytes), recipe.size())
        .build()
        .unwrap();
    let artifact: ArtifactName = "acme/tiny".parse().unwrap();
    let (namespace, link) = (ground.state.id, Chain::default().next());
    let subject = Subject::Manifest(artifact.clone(), built.manifest.digest());
    let statements = vec![
        Statement {
            subject: subject.clone(),
            predicate: Predicate::Release(Release {
                namespace,
                link,
                kind: Kind::Model,
                config: content(&built.config),
                content: vec![content(bytes)],
            }),
        },
        Statement {
            subject: Subject::Artifact(artifact),
            predicate: Predicate::Residency(Residency {
                namespace,
                link,
                label: Label::from_cli(&["EU".parse().unwrap()], &[], &[]).unwrap(),
            }),
        },
        Statement {
            subject,
            predicate: Predicate::Tag(TagMove {
                namespace,
                link,
                tag: "1.0".parse().unwrap(),
                from: None,
            }),
        },
    ];
    let upload = Upload {
        id: Sha256::of(b"session"),
        manifest: built.manifest,
    };
    (statements, upload)
}

fn begin(ground: &Ground, seeds: &[u8]) -> Draft {
    let (statements, upload) = push(ground);
    Draft::begin(ground.clone(), statements, Some(upload), &pairs(seeds)).unwrap()
}

/// Passes a draft to somebody else, as a file.
fn pass(draft: &Draft) -> Draft {
    reread(draft, &draft.bytes()).unwrap()
}

fn reread(draft: &Draft, bytes: &[u8]) -> Result<Draft> {
    let state = draft.ground.state.clone();
    Draft::parse(bytes, |_, _, _| Ok(state))
}

#[test]
fn two_owners_sign_in_turns_until_the_ledger_admits_all_of_it() {
    let ground = ground(&[1, 2, 3], 2, &[]);
    let mut draft = begin(&ground, &[1]);
    assert_eq!(draft.envelopes().len(), 1);
    // Each turn completes one statement and begins the next.
    for (turn, (seed, begun)) in [(2, 2), (1, 3), (3, 3)].into_iter().enumerate() {
        let before = draft.standing().unwrap();
        assert!(!before.complete, "turn {turn}");
        draft = pass(&draft);
        assert!(draft.sign(&pairs(&[seed])).unwrap() > 0, "turn {turn}");
        assert_eq!(draft.envelopes().len(), begun, "turn {turn}");
        // Nobody counts twice.
        let again = draft.clone();
        assert_eq!(draft.sign(&pairs(&[seed, seed])).unwrap(), 0);
        assert_eq!(draft, again);
    }
    assert!(draft.standing().unwrap().complete);
    let mut chain = Chain::default();
    for envelope in pass(&draft).envelopes() {
        let statement = Statement::parse(envelope.payload()).unwrap();
        ground.state.admit(envelope, &statement, &chain).unwrap();
        chain = chain.then(envelope.digest());
    }
    assert_eq!(chain.counter, 3);
}

#[test]
fn whoever_holds_enough_keys_completes_it_in_one_step() {
    let ground = ground(&[1, 2], 2, &[]);
    let draft = begin(&ground, &[1, 2, 1]);
    assert!(pass(&draft).standing().unwrap().complete);
}

#[test]
fn a_draft_says_what_it_says() {
    let ground = ground(&[1, 2], 2, &[]);
    let standing = begin(&ground, &[1]).standing().unwrap();
    let (_, upload) = push(&ground);
    let digest = upload.manifest.digest();
    assert_eq!(standing.kind, "release");
    assert_eq!(standing.subject, format!("acme/tiny@{digest}"));
    assert_eq!(
        standing.says,
        [
            format!("releases the model {digest}"),
            "1 file, 7 bytes".to_owned(),
            "label: allow hold, serve, evaluate at EU".to_owned(),
            format!("tag `1.0`: from nothing to {digest}"),
        ]
    );
    assert_eq!(standing.files.len(), 1);
    assert_eq!(
        (standing.files[0].path.as_str(), standing.files[0].bytes),
        ("notes.txt", 7)
    );
    let kinds: Vec<_> = standing.parts.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, ["release", "residency", "tag"]);
}

#[test]
fn keys_of_others_sign_nothing() {
    let mut draft = begin(&ground(&[1, 2], 2, &[5]), &[1]);
    let before = draft.clone();
    // A recovery key signs rotations only.
    for stranger in [9, 5] {
        let error = draft.sign(&pairs(&[stranger])).unwrap_err();
        assert!(matches!(error, ClientError::NotOwner { found: 0, .. }), "{error}");
    }
    assert_eq!(draft, before);
    // Beside one that counts it is left out.
    draft.sign(&pairs(&[9, 2])).unwrap();
    let stranger = key(9).public().fingerprint();
    assert!(
        draft
            .envelopes()
            .iter()
            .all(|e| e.key_ids().all(|id| id != stranger))
    );
}

#[test]
fn a_draft_that_was_tampered_with_is_refused() {
    let ground = ground(&[1, 2], 2, &[]);
    let draft = begin(&ground, &[1]);
    let refused = |bytes: &[u8], what: &str| {
        let read = reread(&draft, bytes).and_then(|draft| draft.standing().map(drop));
        assert!(matches!(read, Err(ClientError::Verification { .. })), "{what}");
    };
    let json: serde_json::Value = serde_json::from_slice(&draft.bytes()).unwrap();
    let with = |path: &str, value: serde_json::Value| {
        let mut json = json.clone();
        *json.pointer_mut(path).unwrap() = value;
        serde_json::to_vec(&json).unwrap()
    };
    let base64 = |bytes: &[u8]| serde_json::to_value(Base64(bytes.to_vec())).unwrap();
    refused(b"{}", "no draft");
    refused(&with("/version", 2.into()), "another version");
    refused(
        &with("/unsigned", serde_json::json!([base64(b"{}")])),
        "no statement",
    );
    refused(
        &with("/upload", serde_json::Value::Null),
        "a release without its manifest",
    );
    refused(&with("/envelopes", serde_json::json!([])), "the release is gone");

    // What an owner signed says something else now.
    let signed = String::from_utf8(draft.envelopes()[0].bytes().to_vec()).unwrap();
    let mut other = push(&ground).0.remove(0);
    if let Predicate::Release(release) = &mut other.predicate {
        release.link.previous = Some(Sha256::of(b"another history"));
    }
    let forged = Envelope::sign(&other.to_bytes(), &[&key(9)]);
    let forged = String::from_utf8(forged.bytes().to_vec()).unwrap();
    let forged = forged.replace(&key(9).public().fingerprint(), &key(1).public().fingerprint());
    assert_ne!(signed, forged);
    refused(
        &with("/envelopes/0", base64(forged.as_bytes())),
        "a forged signature",
    );

    // A statement about something else is slipped in behind.
    let foreign = Statement {
        subject: Subject::Manifest("acme/other".parse().unwrap(), Sha256::of(b"x")),
        predicate: Predicate::Withdrawal(Withdrawal {
            namespace: ground.state.id,
            link: Link {
                counter: 2,
                previous: None,
            },
            reason: "unwanted".to_owned(),
            erase: false,
        }),
    };
    let foreign = serde_json::json!([base64(&foreign.to_bytes())]);
    refused(&with("/unsigned", foreign), "several artifacts");
}

#[test]
fn a_draft_of_another_namespace_is_refused() {
    let draft = begin(&ground(&[1], 1, &[]), &[1]);
    let other = ground(&[3], 1, &[]).state;
    let read = Draft::parse(&draft.bytes(), |_, _, _| Ok(other));
    assert!(matches!(read, Err(ClientError::Verification { .. })));
}

#[test]
fn a_draft_survives_its_file_and_is_read_by_a_home_that_knows_the_site() {
    let dir = tempfile::tempdir().unwrap();
    let (path, home) = (dir.path().join("draft.json"), crate::home::Home::new(dir.path()));
    let draft = begin(&ground(&[1, 2], 2, &[]), &[1]);
    draft.write(&path).unwrap();
    assert_eq!(reread(&draft, &std::fs::read(&path).unwrap()).unwrap(), draft);
    for missing in [&path, &dir.path().join("none")] {
        let read = Draft::read(missing, &home);
        assert!(matches!(read, Err(ClientError::Absent(_))), "{read:?}");
    }
}
