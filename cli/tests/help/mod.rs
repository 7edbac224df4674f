//! Each page of help, as a snapshot: a change of words or of options is seen when it is reviewed.

use std::process::Command;

/// Every command, by the words that lead to it.
const COMMANDS: [&str; 66] = [
    "",
    "serve",
    "login",
    "logout",
    "whoami",
    "key",
    "key generate",
    "key show",
    "key list",
    "namespace",
    "namespace create",
    "namespace show",
    "namespace rotate",
    "namespace gate",
    "namespace share",
    "namespace submit",
    "push",
    "pull",
    "verify",
    "show",
    "list",
    "search",
    "diff",
    "tag",
    "sign",
    "label",
    "withdraw",
    "weigh",
    "worker",
    "scorecard",
    "explain",
    "mirror",
    "mirror add",
    "mirror remove",
    "mirror list",
    "mirror status",
    "mirror compare",
    "mirror run",
    "mirror drop",
    "mirror trust",
    "where",
    "bundle",
    "bundle export",
    "bundle import",
    "charter",
    "charter init",
    "charter add-site",
    "charter remove-site",
    "charter sign",
    "charter show",
    "charter adopt",
    "compare",
    "leaderboard",
    "ledger",
    "ledger show",
    "ledger prove",
    "ledger verify",
    "ledger fsck",
    "ledger erase",
    "token",
    "token create",
    "token list",
    "token revoke",
    "doctor",
    "demo",
    "completions",
];

fn help(words: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waag"));
    let output = command
        .env_clear()
        .args(words.split_whitespace())
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a page of help lists.
fn commands_on(page: &str) -> Vec<&str> {
    let listed = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    listed
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect()
}

#[test]
fn every_page_of_help_reads_as_it_was_reviewed() {
    for words in COMMANDS {
        let name = if words.is_empty() {
            "waag".to_owned()
        } else {
            words.replace(' ', "-")
        };
        insta::assert_snapshot!(name, help(words));
    }
}

#[test]
fn no_command_is_without_a_reviewed_page() {
    let mut open = vec![String::new()];
    let mut found = Vec::new();
    while let Some(words) = open.pop() {
        let page = help(&words);
        open.extend(
            commands_on(&page)
                .into_iter()
                .map(|word| format!("{words} {word}").trim().to_owned()),
        );
        found.push(words);
    }
    found.sort();
    let mut known = COMMANDS.map(str::to_owned);
    known.sort();
    assert_eq!(found, known);
}
