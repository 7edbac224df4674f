//! Digests, keys, names, times and strict JSON.

use serde_json::{Value, json};
use waag_schema::base::json::parse;
use waag_schema::base::key::PublicKey;
use waag_schema::release::manifest::refuse_collisions;
use waag_schema::{
    ArtifactName, ChunkDigest, FilePath, Namespace, Reference, Sha256, SiteId, Tag, Timestamp,
};

use super::{hex, key};

pub(super) fn vectors() -> Value {
    json!({
        "digests": digests(),
        "keys": key_rows(),
        "keys_refused": keys_refused(),
        "signatures_refused": [
            {"why": "another message", "key": key(1).public(), "message": "waag", "signature": hex(&key(1).sign(b"gaaw"))},
            {"why": "S + L in place of S", "key": key(1).public(), "message": "waag", "signature": hex(&malleable())},
        ],
        "names": names(),
        "path_sets": path_sets(),
        "times": {
            "accepted": times(),
            "refused": refused::<Timestamp>(&["2026-02-29T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21 00:00:00Z",
                "2026-11-21T00:00:00+00:00", "2026-11-21T00:00:00z", "2026-11-21T00:00:00.0Z", "1969-12-31T23:59:59Z",
                "2026-11-21T23:59:60Z", ""]),
        },
        "json": strict(),
    })
}

fn key_rows() -> Vec<Value> {
    let row = |seed: u8| {
        let public = key(seed).public();
        json!({
            "seed": hex(&[seed; 32]),
            "raw": hex(public.as_bytes()),
            "text": public,
            "fingerprint": public.fingerprint(),
            "site_id": public.site_id(),
            "message": "waag",
            "signature": hex(&key(seed).sign(b"waag")),
        })
    };
    [1, 2, 3, 7].map(row).into()
}

fn times() -> Vec<Value> {
    let known = [
        "1970-01-01T00:00:00Z",
        "2000-02-29T23:59:59Z",
        "2026-11-21T00:03:11Z",
        "9999-12-31T23:59:59Z",
    ];
    known
        .map(|text| json!([text, text.parse::<Timestamp>().unwrap().unix()]))
        .into()
}

/// Input byte i is i mod 251.
fn digests() -> Vec<Value> {
    let lengths = [
        0, 1, 3, 63, 64, 65, 1023, 1024, 1025, 2048, 2049, 3072, 3073, 4096, 5121, 8193, 31744,
    ];
    let digest = |length: usize| {
        let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        json!({"length": length, "sha256": Sha256::of(&bytes), "blake3": ChunkDigest::of(&bytes)})
    };
    lengths.into_iter().map(digest).collect()
}

/// The signature of seed 1 over `waag`, its S replaced by S + L (RFC 8032, 5.1.7 asks for S < L).
fn malleable() -> [u8; 64] {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = key(1).sign(b"waag");
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    assert!(key(1).public().verify(b"waag", &signature).is_err());
    signature
}

fn ssh(raw: &[u8; 32]) -> String {
    let good = key(1).public();
    let wire = data_encoding::BASE64
        .decode(&good.to_string().as_bytes()["ssh-ed25519 ".len()..])
        .unwrap();
    let wire = [&wire[..wire.len() - 32], raw].concat();
    format!("ssh-ed25519 {}", data_encoding::BASE64.encode(&wire))
}

fn keys_refused() -> Vec<String> {
    let good = key(1).public().to_string();
    let mut identity = [0; 32];
    identity[0] = 1;
    let zero = [0; 32];
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let eighth = data_encoding::HEXLOWER
        .decode(b"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
        .unwrap();
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    // y = p + 3, where 3 is a point's
    let (mut three, mut beyond) = ([0; 32], [0xff; 32]);
    (three[0], beyond[0], beyond[31]) = (3, 0xf0, 0x7f);
    assert!(PublicKey::from_bytes(&three).is_ok());
    let keys = vec![
        String::new(),
        "ssh-ed25519".to_owned(),
        good.replace("ed25519", "rsa"),
        good[..good.len() - 1].to_owned(),
        format!("{good}AA=="),
        good["ssh-ed25519 ".len()..].to_owned(),
        ssh(&identity),
        ssh(&zero),
        ssh(&minus_one),
        ssh(&eighth.try_into().unwrap()),
        ssh(&off_curve),
        ssh(&beyond),
    ];
    for text in &keys {
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
    keys
}

fn accepted<T: std::str::FromStr + ToString>(texts: &[&str]) -> Vec<String> {
    for text in texts {
        assert_eq!(text.parse::<T>().ok().unwrap().to_string(), *text);
    }
    texts.iter().map(ToString::to_string).collect()
}

fn refused<T: std::str::FromStr>(texts: &[&str]) -> Vec<String> {
    for text in texts {
        assert!(text.parse::<T>().is_err(), "{text}");
    }
    texts.iter().map(ToString::to_string).collect()
}

fn names() -> Value {
    let (long, longer) = ("n".repeat(39), "n".repeat(40));
    let (tag, more) = ("t".repeat(128), "t".repeat(129));
    let (artifact, beyond) = (format!("a/{}", "n".repeat(96)), format!("a/{}", "n".repeat(97)));
    let (part, path) = ("p".repeat(256), format!("{}x", "pp/".repeat(341)));
    let site = key(1).public().site_id().to_string();
    let digest = Sha256::of(b"m");
    let by_digest = format!("acme/tiny@{digest}");
    json!({
        "namespace": {
            "accepted": accepted::<Namespace>(&["a", "acme", "acme-labs", "x1", "0", &long]),
            "refused": refused::<Namespace>(&["", "Acme", "acme_x", "-a", "a-", "a--b", "a.b", "api", "v1", "v2", "cas",
                "ledger", "datasets", "models", "spaces", "kernels", "metrics", "healthz", "readyz", "assets", "ä", &longer]),
        },
        "artifact": {
            "accepted": accepted::<ArtifactName>(&["acme/tiny", "a/b", "acme-labs/llama-3.1_8b", "x1/api", &artifact]),
            "refused": refused::<ArtifactName>(&["tiny", "acme/", "/tiny", "acme/a/b", "acme/a--b", "acme/a..b", "acme/a._b",
                "acme/-a", "acme/a-", "api/x", "acme/x.git", "acme/x.ipynb", "acme/a b", "acme/Tiny", &beyond]),
        },
        "tag": {
            "accepted": accepted::<Tag>(&["latest", "1.0", "_x", "A-b.c_d", &tag]),
            "refused": refused::<Tag>(&["", ".x", "-x", "a b", "a/b", "a:b", "ä", &more]),
        },
        "site": {
            "accepted": accepted::<SiteId>(&[&site]),
            "refused": refused::<SiteId>(&["", &site.to_uppercase(), &site[1..], &site.replace(&site[..1], "1")]),
        },
        "path": {
            "accepted": accepted::<FilePath>(&["config.json", "a/b/c.bin", ".gitattributes", "größe.txt", "a..b", "x/.waag",
                &part[1..], &path]),
            "refused": refused::<FilePath>(&["", "/etc/passwd", "..", "../x", "a/../b", "a/./b", "a//b", "a/", "./a",
                "a\u{0}b", "a\nb", "a\u{7f}b", "a\u{85}b", "a\\b", "C:x", ".waag/x", ".WAAG", &part, &format!("{path}x/")]),
        },
        "reference": {
            "accepted": accepted::<Reference>(&["acme/tiny:latest", "acme/tiny:1.0", &by_digest]),
            "refused": refused::<Reference>(&["acme", "acme/tiny:", "acme/tiny:-x", "acme/tiny@sha256:00",
                &format!("acme/tiny@sha256:{}", digest.hex().to_uppercase()), "acme/tiny@latest"]),
        },
    })
}

/// Sets of paths that can, or cannot, stand side by side in one manifest.
fn path_sets() -> Value {
    let stands = |set: &[&str]| {
        let paths: Vec<FilePath> = set.iter().map(|path| path.parse().unwrap()).collect();
        refuse_collisions(paths.iter()).is_ok()
    };
    let good: [&[&str]; 3] = [&["a", "b"], &["a/b", "a/c", "a.b", "ab"], &["a-b", "a/b", "a.c"]];
    let bad: [&[&str]; 6] = [
        &["a", "a"],
        &["README.md", "readme.md"],
        &["GRÖSSE", "größe", "grösse"],
        &["a", "a/b"],
        &["A", "a/b"],
        &["a", "a-b", "a/b/c"],
    ];
    assert!(good.into_iter().all(stands) && !bad.into_iter().any(stands));
    json!({"accepted": good, "refused": bad})
}

fn strict() -> Value {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let good = [
        r#" {"b":[1,-2,true,false,null,"x"],"a":{}} "#,
        "9007199254740991",
        "-9007199254740991",
        "0",
        r#""\ud83d\ude00\u0000""#,
        &deep(16),
    ];
    let bad = [
        "",
        "nul",
        "{} {}",
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"b":1,"\u0062":2}}"#,
        "1.5",
        "1.0",
        "1e3",
        "-0",
        "01",
        "9007199254740992",
        "-9007199254740992",
        "NaN",
        "[1,]",
        r#"{"a":1,}"#,
        "\u{feff}{}",
        "\"a\tb\"",
        r#""\ud800""#,
        "/**/{}",
        "'a'",
        "\u{a0}{}",
        &deep(17),
    ];
    for text in good {
        parse(text.as_bytes(), 4096).unwrap();
    }
    for text in bad {
        assert!(parse(text.as_bytes(), 4096).is_err(), "{text}");
    }
    json!({"accepted": good, "refused": bad})
}
