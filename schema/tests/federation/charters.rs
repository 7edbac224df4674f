//! Trust: the first charter, the next one, and everything that is neither.

use proptest::prelude::*;
use waag_schema::federation::{Charter, CharterError, Keys, Proposal, SiteHandle, Standing, Terms};
use waag_schema::statement::Envelope;
use waag_schema::{Namespace, Timestamp};

use super::{after, document, first, key, signed, site, site_id, terms};

fn next(charter: &Charter, change: impl FnOnce(&mut Terms), seeds: &[u8]) -> Result<Charter, CharterError> {
    let mut terms = after(charter);
    change(&mut terms);
    charter.next(signed(&terms, seeds).bytes())
}

#[test]
fn the_first_charter_needs_the_threshold_of_its_own_keys() {
    let terms = terms(&document());
    let alone = signed(&terms, &[3]);
    let signatures = alone.signatures().unwrap();
    assert_eq!((signatures.signed.len(), signatures.missing()), (1, 1));
    assert_eq!(
        Charter::parse(alone.bytes()).unwrap_err(),
        CharterError::Threshold {
            whose: Keys::Own,
            found: 1,
            needed: 2
        }
    );
    let gathered = alone.merge(&signed(&terms, &[1])).unwrap();
    assert_eq!(Charter::parse(gathered.bytes()).unwrap().version(), 1);
    // Whose signature it is counts, and each once.
    assert!(Charter::parse(signed(&terms, &[3, 3]).bytes()).is_err());
    assert!(Charter::parse(signed(&terms, &[3, 10, 11]).bytes()).is_err());
}

#[test]
fn a_charter_is_no_statement_and_a_statement_no_charter() {
    assert!(Envelope::parse(first().bytes()).is_err());
    let statement = Envelope::sign(&terms(&document()).to_bytes(), &[&key(1), &key(2)]);
    assert!(Proposal::parse(statement.bytes()).is_err());
}

#[test]
fn the_next_charter_needs_both_thresholds() {
    let old = first();
    let rotate = |terms: &mut Terms| {
        terms.root.keys = vec![key(3).public(), key(4).public(), key(5).public()];
    };
    // Two of the old keys and two of the new ones; key 3 counts for both.
    assert!(next(&old, rotate, &[2, 3, 4]).is_ok());
    assert!(next(&old, rotate, &[1, 2, 4, 5]).is_ok());
    assert_eq!(
        next(&old, rotate, &[3, 4, 5]).unwrap_err(),
        CharterError::Threshold {
            whose: Keys::Previous,
            found: 1,
            needed: 2
        }
    );
    assert_eq!(
        next(&old, rotate, &[1, 2, 3]).unwrap_err(),
        CharterError::Threshold {
            whose: Keys::Own,
            found: 1,
            needed: 2
        }
    );
}

#[test]
fn versions_go_up_one_by_one_from_the_very_charter_that_holds() {
    let old = first();
    assert!(matches!(
        next(&old, |terms| terms.version = 3, &[1, 2]),
        Err(CharterError::NotNext { known: 1, found: 3 })
    ));
    assert!(matches!(
        old.next(old.bytes()),
        Err(CharterError::NotNext { known: 1, found: 1 })
    ));
    assert!(matches!(
        next(
            &old,
            |terms| terms.previous = Some(waag_schema::Sha256::of(b"x")),
            &[1, 2]
        ),
        Err(CharterError::OtherPast { known: 1, .. })
    ));
    assert!(matches!(
        next(&old, |terms| terms.federation = "other".parse().unwrap(), &[1, 2]),
        Err(CharterError::OtherFederation { .. })
    ));
}

#[test]
fn two_charters_of_one_version_are_a_fork_only_if_root_keys_signed_both() {
    let known = first();
    let mut other = known.terms().clone();
    other.sites.remove(2);
    assert!(matches!(
        known.next(signed(&other, &[2, 3]).bytes()),
        Err(CharterError::Fork { version: 1, .. })
    ));
    // Anybody can sign something with keys of his own.
    other.root.keys = vec![key(7).public(), key(8).public()];
    assert!(matches!(
        known.next(signed(&other, &[7, 8]).bytes()),
        Err(CharterError::NotNext { .. })
    ));
    // One signature more makes no other charter.
    assert!(
        !known
            .is_forked_by(&Charter::parse(signed(known.terms(), &[2, 3]).bytes()).unwrap())
            .unwrap()
    );
}

#[test]
fn charters_on_the_way_may_have_run_out_and_the_last_one_says_so_of_itself() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let one = first();
    let two = next(&one, |terms| terms.expires = at("2020-01-01T00:00:00Z"), &[1, 2]).unwrap();
    let three = next(&two, |terms| terms.expires = at("2030-01-01T00:00:00Z"), &[1, 2]).unwrap();
    let last = one.advance(&[two.bytes(), three.bytes()]).unwrap();
    assert_eq!(last.version(), 3);
    assert_eq!(last.standing(at("2029-12-31T23:59:59Z")), Standing::Holds);
    let on = at("2030-01-01T00:00:00Z");
    assert_eq!(last.standing(on), Standing::Expired { on });
    assert!(one.advance(&[three.bytes()]).is_err(), "a step is missing");
    assert!(matches!(
        one.advance(&vec![two.bytes(); 1025]),
        Err(CharterError::TooManySteps { found: 1025 })
    ));
}

#[test]
fn questions_find_their_answer() {
    let charter = first();
    let name = |text: &str| text.parse::<Namespace>().unwrap();
    let owner = |text: &str| charter.owner(&name(text)).map(|site| site.name.to_string());
    assert_eq!(owner("oslo").as_deref(), Some("oslo"));
    assert_eq!(owner("oslo-climate").as_deref(), Some("oslo"));
    assert_eq!(owner("oslofjord"), None);
    let find = |text: &str| {
        charter
            .find(&text.parse::<SiteHandle>().unwrap())
            .map(|s| s.id.clone())
    };
    assert_eq!(find("bologna"), Some(site_id(20)));
    assert_eq!(find(site_id(20).as_str()), Some(site_id(20)));
    assert_eq!(find("athens"), None);
    let place = charter.place(&site_id(30)).unwrap();
    assert_eq!(place.jurisdiction().unwrap().as_str(), "NO");
    assert_eq!(charter.place(&site_id(99)), None);
    let group = &charter.terms().groups[0];
    let member = |code: &str, at: &str| group.contains(code.parse().unwrap(), at.parse().unwrap());
    assert!(member("US", "2025-12-31T23:59:59Z") && !member("US", "2026-01-01T00:00:00Z"));
    assert!(!member("CH", "2000-07-25T23:59:59Z") && member("CH", "2026-11-21T00:00:00Z"));
}

#[test]
fn witnesses_count_by_jurisdiction_and_never_at_home() {
    let mut document = document();
    document["sites"]
        .as_array_mut()
        .unwrap()
        .push(site(40, "bissen", "DE"));
    document["witnesses"]["jurisdictions"] = 2.into();
    let charter = Charter::parse(signed(&terms(&document), &[1, 2]).bytes()).unwrap();
    let keys = |names: &[&str]| -> Vec<_> {
        let named = |name: &&str| charter.find(&name.parse().unwrap()).unwrap().witness_key.clone();
        names.iter().map(named).collect()
    };
    let stuttgart = site_id(10);
    assert_eq!(charter.witnesses_of(&stuttgart).count(), 2);
    assert!(charter.is_witnessed(&stuttgart, &keys(&["bologna", "oslo"])));
    assert!(
        !charter.is_witnessed(&stuttgart, &keys(&["bologna", "bissen"])),
        "the same country"
    );
    assert!(
        !charter.is_witnessed(&site_id(30), &keys(&["stuttgart", "bissen"])),
        "one country twice"
    );
    assert!(!charter.is_witnessed(&site_id(99), &keys(&["bologna", "oslo"])));
}

proptest! {
    #[test]
    fn any_change_of_the_signed_bytes_is_refused(index in 0_usize..4096, flip in 1_u8..=255) {
        let charter = first();
        let mut bytes = charter.bytes().to_vec();
        let index = index % bytes.len();
        bytes[index] ^= flip;
        // What still reads has the same document: base64 has spare bits nowhere, so nothing does but a key's name.
        if let Ok(read) = Charter::parse(&bytes) {
            prop_assert_eq!(read.digest(), charter.digest());
        }
    }

    #[test]
    fn whoever_signs_is_counted_once_and_only_if_he_may(seeds in proptest::collection::vec(1_u8..8, 1..8)) {
        let terms = terms(&document());
        let counted = (1..=3).filter(|seed| seeds.contains(seed)).count();
        prop_assert_eq!(Charter::parse(signed(&terms, &seeds).bytes()).is_ok(), counted >= 2);
    }

    #[test]
    fn noise_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Proposal::parse(&bytes).is_err());
    }
}
