//! The threat table: for each attack that the design names, the tests that cover it, or why there is none.

use std::collections::BTreeSet;
use std::path::Path;

/// An attack, the tests that try it, and what no test can show.
struct Threat {
    attack: &'static str,
    tests: &'static [&'static str],
    untested: Option<&'static str>,
}

const fn threat(attack: &'static str, tests: &'static [&'static str]) -> Threat {
    Threat {
        attack,
        tests,
        untested: None,
    }
}

const fn partly(attack: &'static str, tests: &'static [&'static str], why: &'static str) -> Threat {
    Threat {
        attack,
        tests,
        untested: Some(why),
    }
}

const TABLE: &[Threat] = &[
    threat(
        "arbitrary installation, wrong file",
        &[
            "what_is_corrupted_on_its_way_is_never_taken_for_what_was_signed",
            "a_chunk_that_is_another_leaves_nothing_shown",
            "each_file_that_is_not_as_signed_is_named_by_verify_and_mended_by_pull",
        ],
    ),
    threat(
        "rollback to an older tag or ledger",
        &[
            "a_ledger_that_was_set_back_or_forked_is_not_believed",
            "a_site_that_is_set_back_is_refused",
            "an_older_tree_moves_nothing_and_convicts_nobody",
            "a_tag_moves_only_from_what_its_publisher_saw",
        ],
    ),
    partly(
        "indefinite freeze, stale mirror",
        &[
            "an_unchanged_tree_is_cosigned_again_when_its_line_is_old",
            "a_copy_is_not_given_out_after_a_day_without_a_word_from_home",
            "what_is_known_of_withdrawals_may_be_too_old",
        ],
        "consumers do not demand a fresh cosignature yet",
    ),
    threat(
        "mix and match of parts of different times",
        &[
            "entries_that_are_missing_moved_or_changed_are_refused",
            "a_proof_for_another_tree_or_another_ledger_is_refused",
        ],
    ),
    partly(
        "fast-forward to a huge size or a future time",
        &[
            "leaves_that_are_not_in_the_signed_tree_leave_nothing_behind",
            "lines_of_strangers_on_other_trees_or_from_the_future_are_not_taken",
        ],
        "ten million entries, beyond which growth is refused, are more than a test makes",
    ),
    threat(
        "endless data, slow loris",
        &[
            "who_says_nothing_or_too_little_is_not_waited_for",
            "who_takes_nothing_is_cut_off_sooner_while_others_wait",
            "one_connection_too_many_of_one_address_is_told_so",
            "a_length_that_promises_too_much_costs_nothing",
        ],
    ),
    threat(
        "extraneous dependencies",
        &[
            "a_release_must_speak_of_exactly_the_manifests_files",
            "a_manifest_that_names_missing_content_is_refused",
        ],
    ),
    threat(
        "split view, equivocation",
        &[
            "a_second_history_is_kept_as_evidence_and_ends_the_trust_until_an_admin_decides",
            "two_trees_of_one_size_are_kept_as_evidence_by_the_witness",
            "a_history_that_was_cosigned_elsewhere_convicts_whoever_shows_another_one",
            "two_that_were_shown_different_histories_find_it_when_they_hear_each_other_whichever_is_longer",
            "what_was_never_signed_hurts_nobody",
            "a_tree_that_is_shown_to_others_only_is_trouble_and_what_is_shown_later_is_none",
            "two_who_ask_at_once_never_get_lines_on_trees_that_contradict_each_other",
            "whatever_happens_between_sites_labels_hold_and_views_converge",
        ],
    ),
    threat(
        "withheld openings",
        &[
            "openings_that_are_withheld_are_noticed",
            "an_opening_that_is_withheld_from_a_stream_is_noticed_and_its_home_is_not_taken_for_heard",
            "a_stream_that_gets_shorter_is_noticed",
            "a_withdrawal_in_a_stream_cannot_be_kept_back",
        ],
    ),
    threat(
        "compromised publisher key",
        &[
            "after_a_rotation_only_the_new_keys_count_and_before_it_only_the_old",
            "recovery_keys_bring_back_a_namespace_whose_owners_are_lost",
            "a_namespace_of_two_owners_needs_both_keys",
        ],
    ),
    threat(
        "compromised site",
        &[
            "a_token_without_the_namespaces_key_publishes_nothing",
            "a_namespace_of_another_site_is_not_begun",
            "only_the_namespaces_own_keys_count",
        ],
    ),
    threat(
        "compromised charter keys below the threshold",
        &[
            "the_next_charter_needs_both_thresholds",
            "two_charters_of_one_version_are_refused_and_kept",
        ],
    ),
    threat(
        "a malicious mirror serves bad bytes",
        &[
            "a_chunk_that_is_another_leaves_nothing_shown",
            "a_copy_is_shown_served_and_proven_by_its_homes_ledger",
        ],
    ),
    partly(
        "a mirror claims copies that it lacks",
        &[
            "a_holder_that_has_lost_a_chunk_or_makes_its_answers_up_is_found_out_and_nothing_goes_for_it",
            "a_copy_is_given_up_once_others_prove_that_they_have_it_and_comes_back_only_when_it_is_asked_for",
            "two_that_give_up_the_same_copy_at_once_do_not_count_on_each_other",
            "who_may_not_know_of_a_release_gets_the_answer_of_who_has_none",
        ],
        "who fetches the ranges elsewhere while it is asked has them, and is not told from who keeps them",
    ),
    threat(
        "name squatting, confusable names",
        &[
            "a_namespace_of_another_site_is_not_begun",
            "overlaps_are_found_wherever_they_stand",
            "names_that_break_the_rules_are_usage_errors",
        ],
    ),
    threat(
        "an oracle of deduplication, digests that are tried",
        &["knowing_a_digest_gives_nothing"],
    ),
    threat(
        "private names that leak",
        &[
            "a_stranger_reads_the_same_whatever_a_private_namespace_holds",
            "a_private_namespace_does_not_exist_for_others",
            "strangers_at_home_and_at_the_mirror_and_a_third_site_have_the_same_whatever_a_shared_namespace_holds",
        ],
    ),
    threat(
        "theft of a token",
        &[
            "an_expired_or_revoked_token_lets_nobody_in",
            "a_token_that_is_revoked_while_a_body_comes_does_nothing",
            "a_token_without_the_key_and_a_key_without_the_token_publish_nothing",
        ],
    ),
    threat(
        "replay of a site's requests",
        &["a_signed_request_holds_once", "a_signature_holds_for_a_minute"],
    ),
    threat(
        "a signature of one kind taken for another",
        &[
            "a_charter_is_no_statement_and_a_statement_no_charter",
            "a_cosignature_signs_the_time_and_the_whole_text",
        ],
    ),
    threat(
        "whoever runs the store edits or deletes",
        &[
            "every_damaged_object_is_named",
            "a_tile_that_was_exchanged_is_found_out",
            "a_store_that_was_rolled_back_is_not_signed_over",
        ],
    ),
    threat(
        "a restored backup or a cloned machine forks the ledger",
        &[
            "a_guard_that_has_seen_more_than_was_restored_lets_only_a_successor_go_on",
            "what_an_operator_says_was_seen_is_not_signed_over",
        ],
    ),
    threat(
        "poisoned content in leaves",
        &["a_leaf_that_means_nothing_is_refused"],
    ),
    partly(
        "requests to elsewhere by addresses that a peer supplies",
        &[],
        "only addresses of the charter are asked and no redirect is followed: no address of a peer's reaches the code that asks",
    ),
    threat(
        "tampering with the index",
        &["an_index_edited_by_hand_is_noticed_and_folded_anew"],
    ),
    threat(
        "manipulated time",
        &[
            "lines_of_strangers_on_other_trees_or_from_the_future_are_not_taken",
            "an_unchanged_tree_is_cosigned_again_when_its_line_is_old",
        ],
    ),
    partly(
        "forgery of old signatures by quantum computers",
        &[],
        "key kinds for it are not built; ledgers can be cosigned anew before then",
    ),
];

/// Every function that a test attribute stands over, in all crates.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    let crates = ["schema", "client", "kernels", "registry", "cli"];
    let places = crates
        .iter()
        .flat_map(|one| [root.join(one).join("src"), root.join(one).join("tests")]);
    let mut directories: Vec<_> = places.collect();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                collect(&std::fs::read_to_string(&path).unwrap(), &mut found);
            }
        }
    }
    found
}

fn collect(source: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        // In `proptest!` the attribute is written in the same way.
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if is_test {
                found.insert(
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || *c == '_')
                        .collect(),
                );
            }
            is_test = false;
        }
    }
}

#[test]
fn every_threat_has_a_test_or_says_why_not() {
    let known = tests();
    assert_eq!(TABLE.len(), 27);
    for threat in TABLE {
        assert!(
            !threat.tests.is_empty() || threat.untested.is_some(),
            "{}",
            threat.attack
        );
        assert!(threat.untested.is_none_or(|why| !why.is_empty()));
        for test in threat.tests {
            assert!(
                known.contains(*test),
                "{}: there is no test `{test}`",
                threat.attack
            );
        }
    }
}
