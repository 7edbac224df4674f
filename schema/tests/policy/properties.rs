use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use waag_schema::Timestamp;
use waag_schema::policy::{Action, Effect, Facts, GroupTerms, Label, Member, Place, Rule, Where, decide};

use super::{place, rule, site};

/// A group whose members left at the turn of the century.
fn old() -> GroupTerms {
    let member = |code: &str| Member {
        country: code.parse().unwrap(),
        from: Timestamp::from_unix(0),
        until: Some(Timestamp::from_unix(946_684_800)),
    };
    GroupTerms {
        name: "old".parse().unwrap(),
        members: vec![member("US"), member("DE")],
    }
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let scopes = &[
        "DE",
        "FR",
        "NO",
        "US",
        "GB",
        "EU",
        "EEA",
        "*",
        "@a",
        "@b",
        "group:old",
        "group:unheard",
    ];
    let letters = &["h", "s", "e", "hs", "he", "se", "hse"];
    (select(&["+", "-"]), select(scopes), select(letters))
        .prop_map(|(sign, scope, letters)| rule(&format!("{sign}{scope}:{letters}")))
}

fn any_label() -> impl Strategy<Value = Label> {
    vec(any_rule(), 1..5).prop_map(|rules| Label::new(rules).unwrap())
}

fn any_place() -> impl Strategy<Value = Place> {
    let who = select(&["a", "b", "c", "consumer"]);
    let jurisdiction = select(&["DE", "FR", "NO", "US", "GB", "-"]);
    (who, jurisdiction).prop_map(|(who, code)| place(&format!("{who} {code}")))
}

fn any_facts() -> impl Strategy<Value = Facts> {
    (0..2_000_000_000_u64).prop_map(|seconds| Facts {
        groups: vec![old()].into(),
        ..Facts::new(site('a'), Timestamp::from_unix(seconds))
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    select(&Action::ALL)
}

fn with_rule(label: &Label, rule: Rule) -> Label {
    Label::new(label.rules().iter().cloned().chain([rule]).collect()).unwrap()
}

/// What `decide` says, written down a second time with sets in place of rules.
fn by_sets(labels: &[Label], facts: &Facts, action: Action, place: &Place) -> bool {
    let home = matches!(place, Place::Site { id, .. } if *id == facts.home)
        || (matches!(place, Place::Consumer { .. }) && action == Action::Serve);
    let named = |rule: &Rule| match (&rule.scope, place) {
        (Where::Anywhere, _) => true,
        (Where::Site(site), Place::Site { id, .. }) => site == id,
        (Where::Site(_), Place::Consumer { .. }) => false,
        (Where::Country(country), _) => Some(*country) == place.jurisdiction(),
        (Where::Group(group), _) => place
            .jurisdiction()
            .is_some_and(|country| group.contains(country, facts.at)),
        // A group that nobody names is nowhere for who allows, everywhere for who denies.
        (Where::Named(name), _) => match facts.groups.iter().find(|group| group.name == *name) {
            Some(group) => place
                .jurisdiction()
                .is_some_and(|country| group.contains(country, facts.at)),
            None => rule.effect == Effect::Deny,
        },
    };
    let one = |label: &Label| {
        let of = |effect| label.rules().iter().filter(move |rule| rule.effect == effect);
        let hit = |effect| of(effect).any(|rule| rule.actions.contains(&action) && named(rule));
        let permitted = match of(Effect::Allow).count() {
            0 => home,
            _ => hit(Effect::Allow),
        };
        permitted && !hit(Effect::Deny)
    };
    match labels {
        [] => home,
        _ => labels.iter().all(one),
    }
}

proptest! {
    #[test]
    fn the_verdict_is_that_of_a_second_reading(
        labels in vec(any_label(), 0..4), facts in any_facts(), action in any_action(), place in any_place(),
    ) {
        let verdict = decide(&labels, &facts, action, &place);
        prop_assert_eq!(verdict.allowed, by_sets(&labels, &facts, action, &place));
        prop_assert_eq!(verdict.reasons.len(), labels.len().max(1));
        prop_assert!(verdict.decisive().next().is_some());
    }

    #[test]
    fn one_more_denial_never_allows_more(
        labels in vec(any_label(), 1..4), which in any::<prop::sample::Index>(), mut denial in any_rule(),
        facts in any_facts(), action in any_action(), place in any_place(),
    ) {
        denial.effect = Effect::Deny;
        let mut stricter = labels.clone();
        let index = which.index(labels.len());
        stricter[index] = with_rule(&labels[index], denial);
        let before = decide(&labels, &facts, action, &place).allowed;
        let after = decide(&stricter, &facts, action, &place).allowed;
        prop_assert!(before || !after);
    }

    #[test]
    fn one_label_more_beside_others_never_allows_more(
        labels in vec(any_label(), 1..4), added in any_label(),
        facts in any_facts(), action in any_action(), place in any_place(),
    ) {
        let before = decide(&labels, &facts, action, &place).allowed;
        let more: Vec<Label> = labels.into_iter().chain([added]).collect();
        let after = decide(&more, &facts, action, &place).allowed;
        prop_assert!(before || !after);
    }

    #[test]
    fn a_label_of_denials_never_allows_more_than_no_label(
        rules in vec(any_rule(), 1..5), facts in any_facts(), action in any_action(), place in any_place(),
    ) {
        let denials = rules.into_iter().map(|rule| Rule { effect: Effect::Deny, ..rule });
        let label = Label::new(denials.collect()).unwrap();
        let without = decide(&[], &facts, action, &place).allowed;
        prop_assert!(without || !decide(&[label], &facts, action, &place).allowed);
    }

    #[test]
    fn the_order_of_rules_and_labels_plays_no_part(
        (labels, shuffled) in vec(any_label(), 0..4).prop_flat_map(|labels| {
            let turned: Vec<Label> = labels
                .iter()
                .map(|label| Label::new(label.rules().iter().rev().cloned().collect()).unwrap())
                .collect();
            (Just(labels), Just(turned).prop_shuffle())
        }),
        facts in any_facts(), action in any_action(), place in any_place(),
    ) {
        prop_assert_eq!(
            decide(&labels, &facts, action, &place).allowed,
            decide(&shuffled, &facts, action, &place).allowed
        );
    }

    #[test]
    fn a_label_survives_json(label in any_label()) {
        let json = serde_json::to_string(&label).unwrap();
        prop_assert_eq!(serde_json::from_str::<Label>(&json).unwrap(), label);
    }
}
