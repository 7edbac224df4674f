//! Signed requests against `httpsig`, another implementation of RFC 9421: what one signs the other reads, and each takes the
//! other's signature.

use httpsig::prelude::message_component::HttpMessageComponent;
use httpsig::prelude::{
    AlgorithmName, HttpSignatureBase, HttpSignatureHeaders, HttpSignatureParams, PublicKey, SecretKey,
    VerifyingKey as _,
};
use proptest::prelude::*;
use waag_schema::Timestamp;
use waag_schema::wire::request::{Claims, Covered, SignedHeaders};

use super::{key, site_id};

const NOW: Timestamp = Timestamp::from_unix(1_795_219_200);
const SEED: u8 = 7;

/// The components of a request as somebody else would take them from it, in the order of the profile.
fn components(covered: &Covered<'_>, digest: Option<&str>) -> Vec<HttpMessageComponent> {
    let mut lines = vec![
        format!("\"@method\": {}", covered.method),
        format!("\"@authority\": {}", covered.authority),
        format!("\"@path\": {}", covered.path),
        format!("\"@query\": ?{}", covered.query.unwrap_or_default()),
    ];
    lines.extend(digest.map(|digest| format!("\"content-digest\": {digest}")));
    let read = |line: &String| HttpMessageComponent::try_from(line.as_str()).unwrap();
    lines.iter().map(read).collect()
}

/// Reads the headers as somebody else does, and returns what is to be signed.
fn their_base(covered: &Covered<'_>, headers: &SignedHeaders) -> HttpSignatureBase {
    let all = HttpSignatureHeaders::try_parse(&headers.signature, &headers.input).unwrap();
    let theirs = all.get("waag").unwrap();
    assert_eq!(theirs.signature_header_value(), headers.signature);
    assert_eq!(theirs.signature_input_header_value(), headers.input);
    let components = components(covered, headers.content_digest.as_deref());
    HttpSignatureBase::try_new(&components, theirs.signature_params()).unwrap()
}

fn signature(headers: &SignedHeaders) -> Vec<u8> {
    let text = headers.signature.strip_prefix("waag=:").unwrap();
    let text = text.strip_suffix(':').unwrap();
    data_encoding::BASE64.decode(text.as_bytes()).unwrap()
}

fn both_ways(covered: &Covered<'_>, nonce: [u8; 16]) {
    let claims = Claims {
        site: site_id(SEED),
        created: NOW,
        nonce,
    };
    let ours = claims.sign(covered, &key(SEED));
    // Ours is read there, and holds.
    let base = their_base(covered, &ours);
    let public = PublicKey::from_bytes(&AlgorithmName::Ed25519, key(SEED).public().as_bytes()).unwrap();
    public.verify(&base.as_bytes(), &signature(&ours)).unwrap();

    // The same, put together there and signed there, holds here.
    let input = ours.input.strip_prefix("waag=").unwrap();
    let parameters = HttpSignatureParams::try_from(input).unwrap();
    let components = components(covered, ours.content_digest.as_deref());
    let base = HttpSignatureBase::try_new(&components, &parameters).unwrap();
    let secret = SecretKey::from_bytes(&AlgorithmName::Ed25519, &[SEED; 32]).unwrap();
    let theirs = base.build_signature_headers(&secret, Some("waag")).unwrap();
    let theirs = SignedHeaders {
        content_digest: ours.content_digest.clone(),
        input: theirs.signature_input_header_value(),
        signature: theirs.signature_header_value(),
    };
    // Their signature is another one each time, since they mix in noise; what is said of it is the same.
    assert_eq!(theirs.input, ours.input);
    let read = Claims::parse(&theirs.input).unwrap();
    read.verify(covered, &theirs, &key(SEED).public(), NOW).unwrap();
}

#[test]
fn another_implementation_reads_what_sites_sign_and_signs_what_they_read() {
    let covered = Covered {
        method: "GET",
        authority: "waag.example",
        path: "/ledger/checkpoint",
        query: None,
        body: None,
    };
    both_ways(&covered, [7; 16]);
    let covered = Covered {
        method: "POST",
        authority: "waag.example:7070",
        path: "/api/v1/artifacts/acme/tiny/chunks",
        query: Some("a=b&c=%20d"),
        body: Some(b"{}"),
    };
    both_ways(&covered, [0xab; 16]);
}

#[test]
fn another_implementation_refuses_what_was_changed_on_its_way() {
    let covered = Covered {
        method: "GET",
        authority: "waag.example",
        path: "/ledger/checkpoint",
        query: None,
        body: None,
    };
    let claims = Claims {
        site: site_id(SEED),
        created: NOW,
        nonce: [7; 16],
    };
    let headers = claims.sign(&covered, &key(SEED));
    let changed = Covered {
        path: "/ledger/1/checkpoint",
        ..covered
    };
    let public = PublicKey::from_bytes(&AlgorithmName::Ed25519, key(SEED).public().as_bytes()).unwrap();
    let base = their_base(&changed, &headers);
    assert!(public.verify(&base.as_bytes(), &signature(&headers)).is_err());
}

proptest! {
    #[test]
    fn each_takes_the_others_signature_of_any_request(
        method in "GET|POST|PUT",
        authority in "[a-z0-9]{1,12}(\\.[a-z]{2,8}){0,2}(:[1-9][0-9]{1,4})?",
        path in "(/[A-Za-z0-9._~-]{1,12}){1,5}",
        query in proptest::option::of("[a-z]{1,5}=[A-Za-z0-9%]{0,8}"),
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        nonce in any::<[u8; 16]>(),
    ) {
        let covered = Covered {
            method: &method,
            authority: &authority,
            path: &path,
            query: query.as_deref(),
            body: body.as_deref(),
        };
        both_ways(&covered, nonce);
    }
}
