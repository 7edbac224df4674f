//! Envelopes, statements, namespaces and chains.

use serde_json::{Value, json};
use waag_schema::base::key::KeyPair;
use waag_schema::content::{PlannerId, RecipeBuilder};
use waag_schema::ledger::{Hash, Origin, Root};
use waag_schema::policy::{Action, Label};
use waag_schema::release::Kind;
use waag_schema::statement::gate::{Gate, Requirement};
use waag_schema::statement::namespace::{Genesis, KeySet, Rotation};
use waag_schema::statement::predicate::{Residency, Withdrawal};
use waag_schema::statement::scorecard::{
    Amount, Details, Device, Harness, Measure, Scorecard, Section, SuiteRelease,
};
use waag_schema::statement::{
    Access, Chain, CharterAdopted, Content, Envelope, Erasure, Link, NamespaceState, Predicate, Release,
    RevocationList, Seen, Statement, Subject, Successor, Svr, TagMove, Visibility, svr,
};
use waag_schema::{ArtifactName, ChunkDigest, Sha256, SiteId, Timestamp};

use super::release::{FILES, built};
use super::{LOG, hex, key, text};

pub(super) fn site() -> SiteId {
    key(LOG).public().site_id()
}

pub(super) fn artifact() -> ArtifactName {
    "acme/tiny".parse().unwrap()
}

pub(super) fn keys(owners: &[u8], threshold: u32, recovery: &[u8]) -> KeySet {
    let public = |seeds: &[u8]| seeds.iter().map(|seed| key(*seed).public()).collect();
    KeySet {
        owners: public(owners),
        threshold,
        recovery: public(recovery),
    }
}

pub(super) fn sign(statement: &Statement, seeds: &[u8]) -> Envelope {
    sign_bytes(&statement.to_bytes(), seeds)
}

fn sign_bytes(payload: &[u8], seeds: &[u8]) -> Envelope {
    let pairs: Vec<KeyPair> = seeds.iter().map(|seed| key(*seed)).collect();
    Envelope::sign(payload, &pairs.iter().collect::<Vec<_>>())
}

fn genesis_statement(name: &str, keys: KeySet) -> Statement {
    Statement {
        subject: Subject::Namespace(name.parse().unwrap()),
        predicate: Predicate::Genesis(Genesis {
            keys,
            home: site(),
            visibility: Visibility::Public,
        }),
    }
}

/// The namespace of the vectors: owners 2 and 3, of whom one signs, and 4 to recover.
pub(super) fn genesis() -> Envelope {
    sign(&genesis_statement("acme", keys(&[2, 3], 1, &[4])), &[2])
}

pub(super) fn namespace() -> NamespaceState {
    NamespaceState::begin(&genesis(), &site()).unwrap()
}

pub(super) fn rotation(state: &NamespaceState, keys: KeySet, seeds: &[u8]) -> Envelope {
    let predicate = Predicate::Rotation(Rotation {
        namespace: state.id,
        link: state.chain.next(),
        keys,
    });
    let subject = Subject::Namespace(state.name.clone());
    sign(&Statement { subject, predicate }, seeds)
}

/// A gate before the tag `prod`, after the genesis.
pub(super) fn gate() -> Statement {
    let number = |suite: Option<&str>, metric: &str| Requirement {
        suite: suite.map(|name| name.parse().unwrap()),
        task: suite.map(|_| "arc".to_owned()),
        metric: metric.to_owned(),
        at_least: suite.map(|_| Amount::Real(0.7)),
        at_most: suite.is_none().then_some(Amount::Count(0)),
    };
    Statement {
        subject: Subject::Namespace("acme".parse().unwrap()),
        predicate: Predicate::Gate(Gate {
            namespace: namespace().id,
            link: namespace().chain.next(),
            tag: "prod".parse().unwrap(),
            requirements: vec![number(None, "nonfinite"), number(Some("acme/suite"), "acc")],
        }),
    }
}

/// The namespace is shared with one site, after the genesis.
fn access() -> Statement {
    Statement {
        subject: Subject::Namespace("acme".parse().unwrap()),
        predicate: Predicate::Access(Access {
            namespace: namespace().id,
            link: namespace().chain.next(),
            sites: vec![site()],
        }),
    }
}

/// What a file becomes when it is one chunk.
pub(super) fn content(bytes: &[u8]) -> Content {
    let mut recipe = RecipeBuilder::new(PlannerId::FastCdc1);
    recipe.push_chunk(ChunkDigest::of(bytes), bytes.len()).unwrap();
    Content {
        sha256: Sha256::of(bytes),
        size: bytes.len() as u64,
        planner: PlannerId::FastCdc1,
        recipe: recipe.finish().digest(),
    }
}

fn released(link: Link) -> Predicate {
    let mut files: Vec<Content> = FILES.iter().map(|(_, bytes)| content(bytes)).collect();
    files.sort_by_key(|file| file.sha256);
    files.dedup();
    Predicate::Release(Release {
        namespace: namespace().id,
        link,
        kind: Kind::Model,
        config: content(&built().config),
        content: files,
    })
}

pub(super) fn label() -> Label {
    Label::from_cli(
        &["EU".parse().unwrap(), "NO".parse().unwrap()],
        &[],
        &[Action::Evaluate],
    )
    .unwrap()
}

/// The statements on one artifact, in the order of their chain.
pub(super) fn chain() -> Vec<Statement> {
    let manifest = Subject::Manifest(artifact(), built().manifest.digest());
    let namespace = namespace().id;
    type Say = fn(Sha256, Link) -> Predicate;
    let says: [(Subject, Say); 4] = [
        (manifest.clone(), |_, link| released(link)),
        (Subject::Artifact(artifact()), |namespace, link| {
            let label = label();
            Predicate::Residency(Residency {
                namespace,
                link,
                label,
            })
        }),
        (manifest.clone(), |namespace, link| {
            Predicate::Tag(TagMove {
                namespace,
                link,
                tag: "latest".parse().unwrap(),
                from: None,
            })
        }),
        (manifest, |namespace, link| {
            Predicate::Withdrawal(Withdrawal {
                namespace,
                link,
                reason: "trained on the wrong data".to_owned(),
                erase: false,
            })
        }),
    ];
    let mut chain = Chain::default();
    let mut statements = Vec::new();
    for (subject, say) in says {
        let predicate = say(namespace, chain.next());
        let statement = Statement { subject, predicate };
        chain = chain.then(sign(&statement, &[2]).digest());
        statements.push(statement);
    }
    statements
}

pub(super) fn vectors() -> Value {
    json!({
        "pae": [{"payload": "hello", "pae": hex(b"DSSEv1 28 application/vnd.in-toto+json 5 hello")}],
        "site": site(),
        "statements": statements(),
        "payloads_refused": payloads_refused(),
        "envelopes": envelopes(),
        "envelopes_refused": envelopes_refused(),
        "namespaces": namespaces(),
        "chains": chains(),
        "verification_result": verification_result(),
    })
}

fn statements() -> Vec<Value> {
    let mut all = vec![(genesis(), "namespace")];
    all.push((rotation(&namespace(), keys(&[5], 1, &[]), &[2, 5]), "rotation"));
    all.extend(
        chain()
            .iter()
            .map(|statement| (sign(statement, &[2]), statement.predicate.name())),
    );
    all.extend(
        of_the_site()
            .iter()
            .map(|statement| (sign(statement, &[9]), statement.predicate.name())),
    );
    all.push((sign(&gate(), &[2]), "gate"));
    all.push((sign(&access(), &[2]), "access"));
    all.push((sign(&scorecard(), &[9]), "scorecard"));
    all.push((sign(&suite_scorecard(), &[9]), "scorecard"));
    let row = |(envelope, predicate): (Envelope, &str)| {
        json!({
            "predicate": predicate,
            "payload": text(envelope.payload()),
            "envelope": text(envelope.bytes()),
            "envelope_digest": envelope.digest(),
            "payload_digest": Sha256::of(envelope.payload()),
        })
    };
    all.into_iter().map(row).collect()
}

/// What a site says for others of a release that passes its gates.
pub(super) fn svr() -> Svr {
    let entry = |number, statement: &Statement| svr::Entry {
        number,
        payload: Sha256::of(&statement.to_bytes()),
    };
    Svr {
        artifact: artifact(),
        manifest: built().manifest.digest(),
        site: site(),
        at: Timestamp::from_unix(1_795_219_200),
        passed: vec![svr::Passed {
            tag: "prod".parse().unwrap(),
            gate: entry(5, &gate()),
        }],
        scorecards: vec![entry(6, &scorecard()), entry(7, &suite_scorecard())],
    }
}

/// One, signed with the site's key, beside the note by which the ledger's key names that.
fn verification_result() -> Value {
    let envelope = sign_bytes(&svr().to_bytes(), &[9]);
    let note = waag_schema::ledger::site_key::sign(&key(LOG), &key(9).public()).unwrap();
    assert_eq!(Svr::parse(envelope.payload()).unwrap(), svr());
    json!({
        "envelope": text(envelope.bytes()),
        "site": site(),
        "site_key": note,
        "log_key": Origin::of(&site(), 1).verifier(key(LOG).public()).to_string(),
        "properties": ["WAAG_GATE_prod"],
        "manifest": built().manifest.digest(),
    })
}

/// What a site has measured on the release.
pub(super) fn scorecard() -> Statement {
    let weights = vec![
        Measure::new("parameters", Amount::Count(12)),
        Measure::new("l2_norm", Amount::Real(0.001_5)).over(12),
        Measure::new("minimum", Amount::Real(f64::NEG_INFINITY)).over(12),
    ];
    Statement {
        subject: Subject::Manifest(artifact(), built().manifest.digest()),
        predicate: Predicate::Scorecard(Scorecard {
            at: Timestamp::from_unix(1_795_219_200),
            harness: Harness {
                name: "waag".to_owned(),
                version: "1.1".to_owned(),
                digest: Sha256::of(b"kernels"),
            },
            device: Device {
                class: "cpu".to_owned(),
                name: None,
                worker: None,
            },
            precision: "exact".to_owned(),
            suite: None,
            sections: vec![
                Section::measured("weights", weights),
                Section::not_measured("language", "no suite was asked for"),
                Section::measured(
                    "speed",
                    vec![Measure::new("decode_tokens_per_second.f32", Amount::Real(12.5)).over(16)],
                )
                .without("decode_joules_per_1000_tokens.f32", "no meter can be read"),
            ],
            details: Some(Details {
                sha256: Sha256::of(b"{}"),
                size: 2,
            }),
        }),
    }
}

/// What a site has measured on the release with a suite.
fn suite_scorecard() -> Statement {
    let Statement {
        subject,
        predicate: Predicate::Scorecard(card),
    } = scorecard()
    else {
        panic!("a scorecard")
    };
    let results = vec![
        Measure::new("input_tokens", Amount::Count(9017)),
        Measure::new("acc_norm", Amount::Real(0.7))
            .of_task("waag_choice")
            .within(Some(Amount::Real(0.0625)))
            .over(60),
        Measure::new("acc_norm", Amount::Real(0.5))
            .of_task("other")
            .apart(Some(Amount::Real(1e-4)))
            .over(1),
    ];
    Statement {
        subject,
        predicate: Predicate::Scorecard(Scorecard {
            precision: "f32".to_owned(),
            suite: Some(SuiteRelease {
                artifact: "acme/short".parse().unwrap(),
                manifest: Sha256::of(b"suite"),
            }),
            device: Device {
                worker: Some("node-7".to_owned()),
                ..card.device
            },
            sections: vec![Section::measured("language", results)],
            ..card
        }),
    }
}

/// What a site says of its own ledger.
fn of_the_site() -> [Statement; 4] {
    let subject = Subject::Site(site());
    let erasure = Erasure {
        entry: 3,
        stream: "open".to_owned(),
        seq: 3,
        ground: "court-order".to_owned(),
    };
    let list = RevocationList {
        at: Timestamp::from_unix(1_795_219_200),
        size: 5,
        entries: vec![1, 4],
    };
    let root = |text: &[u8]| Root::from_bytes(*Hash::leaf(text).as_bytes());
    let successor = Successor {
        origin: Origin::of(&site(), 1),
        size: 5,
        root: root(b"five"),
        seen: Some(Seen {
            origin: Origin::of(&site(), 1),
            size: 9,
            root: Some(root(b"nine")),
        }),
    };
    [
        Predicate::Erasure(erasure),
        Predicate::RevocationList(list),
        Predicate::Successor(successor),
        Predicate::CharterAdopted(CharterAdopted {
            federation: "example".parse().unwrap(),
            version: 2,
            sha256: waag_schema::Sha256::of(b"a charter"),
        }),
    ]
    .map(|predicate| Statement {
        subject: subject.clone(),
        predicate,
    })
}

fn payloads_refused() -> Vec<Value> {
    let said: Vec<String> = chain().iter().map(|s| text(&s.to_bytes()).to_owned()).collect();
    let [release, residency, tag, withdrawal] = said.as_slice() else {
        panic!("four statements")
    };
    let genesis = text(genesis().payload()).to_owned();
    let [erasure, list, ..] = of_the_site().map(|s| text(&s.to_bytes()).to_owned());
    let weighed = text(&scorecard().to_bytes()).to_owned();
    let measured = text(&suite_scorecard().to_bytes()).to_owned();
    let replaced = |from: &str, to: &str, text: &str| {
        assert!(text.contains(from), "{from} in {text}");
        text.replace(from, to)
    };
    let config = content(&built().config).sha256;
    let mut unsorted: Value = serde_json::from_str(release).unwrap();
    unsorted["predicate"]["content"].as_array_mut().unwrap().reverse();
    let gate = text(&gate().to_bytes()).to_owned();
    let shared = text(&access().to_bytes()).to_owned();
    let one = site().to_string();
    let rows = [
        (
            "a namespace shared with a site twice",
            replaced(
                &format!(r#"["{one}"]"#),
                &format!(r#"["{one}","{one}"]"#),
                &shared,
            ),
        ),
        (
            "a gate that requires nothing of a number",
            replaced(r#""atMost":"0""#, r#""atMost":null"#, &gate),
        ),
        (
            "a gate with a number in another spelling",
            replaced(r#""7e-1""#, r#""0.7""#, &gate),
        ),
        (
            "a ground that is no code",
            replaced("court-order", "Court order", &erasure),
        ),
        (
            "a site's statement under another name",
            replaced(r#""name":"site:"#, r#""name":"zite:"#, &erasure),
        ),
        ("a list that is not ascending", replaced("[1,4]", "[4,1]", &list)),
        (
            "a list that names entries behind it",
            replaced("[1,4]", "[1,5]", &list),
        ),
        (
            "a task without a name",
            replaced(r#""task":"other""#, r#""task":"""#, &measured),
        ),
        (
            "a task that is null",
            replaced(r#""task":"other""#, r#""task":null"#, &measured),
        ),
        (
            "a tolerance beyond a tenth",
            replaced(r#""tolerance":"1e-4""#, r#""tolerance":"2e-1""#, &measured),
        ),
        (
            "a tolerance below nothing",
            replaced(r#""tolerance":"1e-4""#, r#""tolerance":"-0e0""#, &measured),
        ),
        (
            "a tolerance that is null",
            replaced(r#""tolerance":"1e-4""#, r#""tolerance":null"#, &measured),
        ),
        (
            "a metric of a task twice",
            replaced(r#""task":"other""#, r#""task":"waag_choice""#, &measured),
        ),
        (
            "a suite without a manifest",
            replaced(
                r#""artifact":"acme/short","#,
                r#""artifact":"acme/short","manifests":"","#,
                &measured,
            ),
        ),
        (
            "a number with another spelling",
            replaced(r#""1.5e-3""#, r#""0.0015""#, &weighed),
        ),
        (
            "a number with a digit too many",
            replaced(r#""1.5e-3""#, r#""1.50e-3""#, &weighed),
        ),
        (
            "a section that was measured and was not",
            replaced(r#""notMeasured":null"#, r#""notMeasured":"lazy""#, &weighed),
        ),
        (
            "a number that is there and is missing",
            replaced(
                r#""metric":"decode_joules_per_1000_tokens.f32""#,
                r#""metric":"decode_tokens_per_second.f32""#,
                &weighed,
            ),
        ),
        (
            "a number that is missing for no reason",
            replaced(r#""no meter can be read""#, r#""""#, &weighed),
        ),
        (
            "a list of what is missing with nothing in it",
            replaced(
                r#""notMeasured":null,"results":[{"metric":"parameters""#,
                r#""missing":[],"notMeasured":null,"results":[{"metric":"parameters""#,
                &weighed,
            ),
        ),
        (
            "a metric twice",
            replaced(r#""metric":"l2_norm""#, r#""metric":"parameters""#, &weighed),
        ),
        ("another _type", replaced("Statement/v1", "Statement/v0.1", tag)),
        (
            "an unknown predicate type",
            replaced("predicate:tag:1", "predicate:tag:2", tag),
        ),
        ("an unknown field", replaced(r#""tag":"#, r#""x":1,"tag":"#, tag)),
        (
            "an unknown field in link",
            replaced(r#""counter":3"#, r#""counter":3,"x":1"#, tag),
        ),
        (
            "a key twice",
            replaced(r#""counter":3"#, r#""counter":3,"counter":3"#, tag),
        ),
        (
            "no `previous` in link",
            replaced(r#","previous":null"#, "", release),
        ),
        ("no `from`", replaced(r#""from":null,"#, "", tag)),
        (
            "a list in place of an object",
            replaced(r#"{"counter":1,"previous":null}"#, "[1,null]", release),
        ),
        (
            "an object in place of a word",
            replaced(r#""kind":"model""#, r#""kind":{"model":null}"#, release),
        ),
        (
            "a number in quotes",
            replaced(r#""counter":3"#, r#""counter":"3""#, tag),
        ),
        (
            "a number with a fraction",
            replaced(r#""counter":3"#, r#""counter":3.0"#, tag),
        ),
        (
            "two subjects",
            replaced(
                r#""subject":["#,
                &format!(
                    r#""subject":[{{"name":"acme/tiny","digest":{{"sha256":"{}"}}}},"#,
                    config.hex()
                ),
                tag,
            ),
        ),
        ("no subject", {
            let at = tag.find(r#""subject":["#).unwrap() + 11;
            let end = tag.find("}],").unwrap() + 1;
            format!("{}{}", &tag[..at], &tag[end..])
        }),
        (
            "another digest in the subject",
            replaced(
                r#""digest":{"sha256":""#,
                r#""digest":{"sha512":"","sha256":""#,
                tag,
            ),
        ),
        (
            "a name whose digest is not the subject's",
            replaced(r#""name":"acme/tiny""#, r#""name":"acme/tony""#, residency),
        ),
        ("content that is not sorted", unsorted.to_string()),
        (
            "a reason of 1,001 bytes",
            replaced("trained on the wrong data", &"x".repeat(1001), withdrawal),
        ),
        ("a label without rules", {
            let mut v: Value = serde_json::from_str(residency).unwrap();
            v["predicate"]["label"]["rules"] = json!([]);
            v.to_string()
        }),
        (
            "a threshold of 0",
            replaced(r#""threshold":1"#, r#""threshold":0"#, &genesis),
        ),
        (
            "a threshold that the owners cannot meet",
            replaced(r#""threshold":1"#, r#""threshold":3"#, &genesis),
        ),
        (
            "a key twice in a set",
            replaced(
                &key(4).public().to_string(),
                &key(2).public().to_string(),
                &genesis,
            ),
        ),
        (
            "a name that is reserved",
            replaced(r#""name":"acme""#, r#""name":"api""#, &genesis),
        ),
    ];
    for (why, payload) in &rows {
        assert!(Statement::parse(payload.as_bytes()).is_err(), "{why}");
    }
    rows.map(|(why, payload)| json!({"why": why, "payload": payload}))
        .into()
}

fn envelopes() -> Vec<Value> {
    let row = |why: &str, envelope: Envelope, known: &[u8], threshold: usize| {
        let known: Vec<_> = known.iter().map(|seed| key(*seed).public()).collect();
        envelope.verify(&known, threshold).unwrap();
        json!({"why": why, "envelope": text(envelope.bytes()), "keys": known, "threshold": threshold})
    };
    let merged = sign_bytes(b"{}", &[2]).merge(&sign_bytes(b"{}", &[3])).unwrap();
    let spaced = text(sign_bytes(b"{}", &[2]).bytes()).replace(',', " ,\n");
    vec![
        row("one of one", sign_bytes(b"{}", &[2]), &[2], 1),
        row("two of two, gathered apart", merged, &[3, 2], 2),
        row(
            "a signature of nobody known beside",
            sign_bytes(b"{}", &[7, 2]),
            &[2, 3],
            1,
        ),
        row(
            "spaces are the writer's",
            Envelope::parse(spaced.as_bytes()).unwrap(),
            &[2],
            1,
        ),
    ]
}

fn envelopes_refused() -> Vec<Value> {
    let good = text(sign_bytes(b"{}", &[2]).bytes()).to_owned();
    let both = text(sign_bytes(b"{}", &[2, 3]).bytes()).to_owned();
    let signed_by_3 = text(sign_bytes(b"{}", &[3]).bytes()).to_owned();
    let (id2, id3) = (key(2).public().fingerprint(), key(3).public().fingerprint());
    let many = text(sign_bytes(b"{}", &[2; 33]).bytes()).to_owned();
    let sig = |text: &str| {
        let at = text.find(r#""sig":""#).unwrap() + 7;
        text[at..at + 88].to_owned()
    };
    let rows: Vec<(&str, String, usize)> = vec![
        ("another payload", good.replace("e30=", "W10="), 1),
        (
            "a payload that is not canonical base64",
            good.replace("e30=", "e31"),
            1,
        ),
        (
            "another payload type",
            good.replace("vnd.in-toto+json", "json"),
            1,
        ),
        ("one of two", good.clone(), 2),
        (
            "one key twice is one of two",
            text(sign_bytes(b"{}", &[2, 2]).bytes()).to_owned(),
            2,
        ),
        (
            "signed by nobody known",
            text(sign_bytes(b"{}", &[7]).bytes()).to_owned(),
            1,
        ),
        (
            "a threshold of 0 still asks for one",
            text(sign_bytes(b"{}", &[7]).bytes()).to_owned(),
            0,
        ),
        (
            "a known key's signature that does not hold, beside a good one",
            both.replacen(&sig(&both), &sig(&signed_by_3), 1),
            1,
        ),
        (
            "another's signature under a known key's name",
            signed_by_3.replace(&id3, &id2),
            1,
        ),
        (
            "no signatures",
            {
                let at = good.find("\"signatures\":[").unwrap() + 14;
                format!("{}]}}", &good[..at])
            },
            1,
        ),
        ("33 signatures", many, 1),
        ("an unknown field", good.replacen('{', r#"{"x":1,"#, 1), 1),
        (
            "a signature without a keyid",
            good.replace(&format!(r#""keyid":"{id2}","#), ""),
            1,
        ),
        (
            "a signature of 63 bytes",
            good.replace(&sig(&good), &data_encoding::BASE64.encode(&[0; 63])),
            1,
        ),
        (
            "lists in place of objects",
            format!(
                r#"["e30=","application/vnd.in-toto+json",[["{id2}","{}"]]]"#,
                sig(&good)
            ),
            1,
        ),
    ];
    let known = [key(2).public(), key(3).public()];
    let row = |(why, envelope, threshold): (&str, String, usize)| {
        let verified = Envelope::parse(envelope.as_bytes()).and_then(|e| e.verify(&known, threshold));
        assert!(verified.is_err(), "{why}");
        json!({"why": why, "envelope": envelope, "keys": known, "threshold": threshold})
    };
    rows.into_iter().map(row).collect()
}

fn texts(envelopes: &[Envelope]) -> Vec<&str> {
    envelopes.iter().map(|envelope| text(envelope.bytes())).collect()
}

/// A genesis and rotations; the first that is refused ends a row.
fn namespaces() -> Vec<Value> {
    let two = |signers: &[u8]| sign(&genesis_statement("acme", keys(&[2, 3], 2, &[4, 5])), signers);
    let start = NamespaceState::begin(&two(&[2, 3]), &site()).unwrap();
    let turn = |set: KeySet, signers: &[u8]| vec![two(&[2, 3]), rotation(&start, set, signers)];
    let mut elsewhere = genesis_statement("acme", keys(&[2], 1, &[]));
    if let Predicate::Genesis(genesis) = &mut elsewhere.predicate {
        genesis.home = key(9).public().site_id();
    }
    let renamed = {
        let predicate = Predicate::Rotation(Rotation {
            namespace: start.id,
            link: start.chain.next(),
            keys: keys(&[6], 1, &[]),
        });
        let subject = Subject::Namespace("acme2".parse().unwrap());
        sign(&Statement { subject, predicate }, &[2, 3, 6])
    };
    let replayed = {
        let first = rotation(&start, keys(&[2, 3, 6], 2, &[]), &[2, 3, 6]);
        vec![two(&[2, 3]), first.clone(), first]
    };
    let rows: Vec<(&str, Vec<Envelope>)> = vec![
        ("it begins with its threshold", vec![two(&[2, 3])]),
        ("one owner of two is too few to begin", vec![two(&[2])]),
        ("recovery keys do not begin", vec![two(&[4, 5])]),
        ("another site is its home", vec![sign(&elsewhere, &[2])]),
        (
            "old and new threshold sign a rotation",
            turn(keys(&[6, 7], 2, &[]), &[2, 3, 6, 7]),
        ),
        (
            "the new threshold is missing",
            turn(keys(&[6, 7], 2, &[]), &[2, 3, 6]),
        ),
        ("the old threshold is missing", turn(keys(&[6], 1, &[]), &[2, 6])),
        (
            "as many recovery keys stand for the old owners",
            turn(keys(&[6], 1, &[]), &[4, 5, 6]),
        ),
        (
            "one recovery key of two is too few",
            turn(keys(&[6], 1, &[]), &[4, 6]),
        ),
        (
            "owners and recovery keys do not add up",
            turn(keys(&[6], 1, &[]), &[2, 4, 6]),
        ),
        (
            "an owner who stays signs once for both",
            turn(keys(&[2, 3, 6], 2, &[]), &[2, 3]),
        ),
        ("a rotation under another name", vec![two(&[2, 3]), renamed]),
        ("a rotation that was recorded before", replayed),
    ];
    let row = |(why, envelopes): (&str, Vec<Envelope>)| {
        let mut state: Option<NamespaceState> = None;
        let mut refused_at = None;
        for (index, envelope) in envelopes.iter().enumerate() {
            let next = match &state {
                None => NamespaceState::begin(envelope, &site()),
                Some(state) => state.rotate(envelope),
            };
            match next {
                Ok(next) => state = Some(next),
                Err(_) => {
                    refused_at = Some(index);
                    break;
                }
            }
        }
        let state = state.filter(|_| refused_at.is_none());
        json!({
            "why": why,
            "envelopes": texts(&envelopes),
            "refused_at": refused_at,
            "id": state.as_ref().map(|s| s.id),
            "owners": state.as_ref().map(|s| s.keys.owners.clone()),
            "threshold": state.as_ref().map(|s| s.keys.threshold),
            "chain": state.as_ref().map(|s| s.chain),
        })
    };
    rows.into_iter().map(row).collect()
}

/// Statements on one artifact by the namespace of the vectors; the first that is refused ends a row.
fn chains() -> Vec<Value> {
    let good: Vec<Envelope> = chain().iter().map(|statement| sign(statement, &[2])).collect();
    let first = chain().swap_remove(0);
    let changed = |change: fn(&mut Release)| {
        let mut statement = first.clone();
        if let Predicate::Release(release) = &mut statement.predicate {
            change(release);
        }
        sign(&statement, &[2])
    };
    let foreign = Statement {
        subject: Subject::Manifest("other/tiny".parse().unwrap(), built().manifest.digest()),
        ..first.clone()
    };
    let again = |link: Link| {
        let predicate = released(link);
        sign(
            &Statement {
                predicate,
                ..first.clone()
            },
            &[2],
        )
    };
    let fork = again(Link {
        counter: 2,
        previous: Some(Sha256::of(b"another")),
    });
    let unlinked = again(Link {
        counter: 2,
        previous: None,
    });
    let rows: Vec<(&str, Vec<Envelope>)> = vec![
        ("each follows the one before", good.clone()),
        ("a replay", vec![good[0].clone(), good[0].clone()]),
        ("a gap", vec![good[0].clone(), good[2].clone()]),
        ("it does not begin at 1", vec![good[1].clone()]),
        ("a fork", vec![good[0].clone(), fork]),
        ("no predecessor is named", vec![good[0].clone(), unlinked]),
        (
            "another namespace's id",
            vec![changed(|release| release.namespace = Sha256::of(b"other"))],
        ),
        ("another namespace's artifact", vec![sign(&foreign, &[2])]),
        ("signed by a recovery key", vec![sign(&first, &[4])]),
        ("signed by nobody known", vec![sign(&first, &[7])]),
        ("a genesis is not about an artifact", vec![genesis()]),
    ];
    let row = |(why, envelopes): (&str, Vec<Envelope>)| {
        let namespace = namespace();
        let mut chain = Chain::default();
        let refused_at = envelopes.iter().position(|envelope| {
            let statement = Statement::parse(envelope.payload()).unwrap();
            let admitted = namespace.admit(envelope, &statement, &chain).is_ok();
            chain = chain.then(envelope.digest());
            !admitted
        });
        json!({
            "why": why,
            "genesis": text(genesis().bytes()),
            "envelopes": texts(&envelopes),
            "refused_at": refused_at,
        })
    };
    rows.into_iter().map(row).collect()
}
