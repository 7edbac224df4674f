//! What happens in the demo, in order: what is about to be seen, the command, and how it has to end.

use std::path::Path;

use serde::Serialize;

use super::sites::{Running, program};
use crate::failure::Failure;
use crate::ui::Ui;

/// A command that was run.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// As a person types it.
    command: String,
    /// How it ended.
    exit: i32,
}

/// Who types: each has a home, with keys, tokens and sites that they believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Publishes in Stuttgart, and operates the three sites.
    Publisher,
    /// Pulls in Bologna, and has nothing but a token and the charter.
    Consumer,
}

/// How a command has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Done,
    /// The site does not have it, or has it no more.
    NotFound,
}

/// A step of the story. In its words `{name}` stands for the address of the site.
struct Step {
    tells: &'static str,
    who: Who,
    words: &'static [&'static str],
    /// The file that takes what it prints.
    into: Option<&'static str>,
    ends: Ends,
}

const fn step(tells: &'static str, words: &'static [&'static str]) -> Step {
    Step {
        tells,
        who: Who::Publisher,
        words,
        into: None,
        ends: Ends::Done,
    }
}

const fn consumer(tells: &'static str, words: &'static [&'static str], ends: Ends) -> Step {
    Step {
        tells,
        who: Who::Consumer,
        words,
        into: None,
        ends,
    }
}

/// A token, whose secret goes where only its holder reads it.
const fn token(tells: &'static str, words: &'static [&'static str], into: &'static str) -> Step {
    Step {
        tells,
        who: Who::Publisher,
        words,
        into: Some(into),
        ends: Ends::Done,
    }
}

const STORY: &[Step] = &[
    step(
        "Three sites were started: Stuttgart and Bologna in the EU, Oslo in the EEA. Somebody who operates them signs in at each.",
        &["login", "{oslo}", "--token-file", "oslo/admin-token"],
    ),
    step("", &["login", "{bologna}", "--token-file", "bologna/admin-token"]),
    step(
        "",
        &["login", "{stuttgart}", "--token-file", "stuttgart/admin-token"],
    ),
    token(
        "Tokens for a publisher in Germany and a reader in Italy: labels are matched against what a token says.",
        &[
            "token",
            "create",
            "publisher",
            "--scope",
            "admin",
            "--jurisdiction",
            "DE",
            "--site",
            "{stuttgart}",
            "-q",
        ],
        "publisher.token",
    ),
    token(
        "",
        &[
            "token",
            "create",
            "reader",
            "--jurisdiction",
            "IT",
            "--namespace",
            "neckar",
            "--site",
            "{bologna}",
            "-q",
        ],
        "reader.token",
    ),
    step("", &["login", "{stuttgart}", "--token-file", "publisher.token"]),
    step(
        "A key, which publishes and here signs the charter as well.",
        &["key", "generate", "--no-passphrase"],
    ),
    step(
        "The three found a federation. Its charter says which sites there are, where they are, and whose names are whose.",
        &[
            "charter",
            "init",
            "charter.json",
            "--federation",
            "demo",
            "--root",
            "default",
            "--threshold",
            "1",
        ],
    ),
    step(
        "",
        &[
            "charter",
            "add-site",
            "charter.json",
            "--name",
            "stuttgart",
            "--owns",
            "neckar",
            "--site",
            "{stuttgart}",
        ],
    ),
    step(
        "",
        &[
            "charter",
            "add-site",
            "charter.json",
            "--name",
            "bologna",
            "--owns",
            "reno",
            "--site",
            "{bologna}",
        ],
    ),
    step(
        "",
        &[
            "charter",
            "add-site",
            "charter.json",
            "--name",
            "oslo",
            "--owns",
            "aker",
            "--site",
            "{oslo}",
        ],
    ),
    step("", &["charter", "sign", "charter.json"]),
    step(
        "Each site checks it, and enters in its own ledger that it goes by it.",
        &["charter", "adopt", "charter.json", "--site", "{stuttgart}"],
    ),
    step("", &["charter", "adopt", "charter.json", "--site", "{bologna}"]),
    step("", &["charter", "adopt", "charter.json", "--site", "{oslo}"]),
    step(
        "A model is published in Stuttgart. Its label, signed with it, says: in the EU.",
        &["namespace", "create", "neckar"],
    ),
    step("", &["push", "model", "neckar/tiny:1.0", "--residency", "EU"]),
    step(
        "The site weighs what was published, and signs what it found.",
        &["scorecard", "neckar/tiny:1.0", "--wait"],
    ),
    step(
        "Bologna copies what Stuttgart publishes: it follows Stuttgart's ledger, checks every entry, then fetches the bytes.",
        &["mirror", "add", "stuttgart", "neckar/*", "--site", "{bologna}"],
    ),
    step("", &["mirror", "run", "--site", "{bologna}"]),
    step(
        "Oslo wants the same. Norway is in the EEA and not in the EU: Oslo refuses the copy by itself, and says so in its ledger.",
        &["mirror", "add", "stuttgart", "neckar/*", "--site", "{oslo}"],
    ),
    step("", &["mirror", "run", "--site", "{oslo}"]),
    step(
        "Anybody can ask why, and gets the statements that the answer rests on.",
        &["explain", "neckar/tiny", "--at", "oslo", "--action", "hold"],
    ),
    step(
        "",
        &["explain", "neckar/tiny", "--at", "bologna", "--action", "hold"],
    ),
    step(
        "Stuttgart follows the two in turn, and sees what each has said of its copy.",
        &["mirror", "run", "--site", "{stuttgart}"],
    ),
    step("", &["where", "neckar/tiny"]),
    consumer(
        "Somebody in Italy has a token of Bologna and the charter. They pull from Bologna ...",
        &["charter", "adopt", "--here", "charter.json"],
        Ends::Done,
    ),
    consumer(
        "",
        &["login", "{bologna}", "--token-file", "reader.token"],
        Ends::Done,
    ),
    consumer(
        "",
        &["pull", "neckar/tiny:1.0", "out", "--site", "{bologna}"],
        Ends::Done,
    ),
    consumer(
        "... and prove, without any network, that Stuttgart's ledger holds what came.",
        &["verify", "out"],
        Ends::Done,
    ),
    step(
        "The publisher takes the release back, with every copy.",
        &[
            "withdraw",
            "neckar/tiny:1.0",
            "--reason",
            "it was a demo",
            "--erase",
        ],
    ),
    step(
        "Bologna hears of it, deletes its copy, looks that it is gone, and signs a receipt.",
        &["mirror", "run", "--site", "{bologna}"],
    ),
    step("", &["mirror", "run", "--site", "{stuttgart}"]),
    step("", &["where", "neckar/tiny"]),
    consumer(
        "Nobody gets it in Bologna any more.",
        &["pull", "neckar/tiny:1.0", "again", "--site", "{bologna}"],
        Ends::NotFound,
    ),
];

/// Runs the story and prints it as it goes.
pub(super) fn tell(place: &Path, sites: &[Running], ui: Ui) -> Result<Vec<Told>, Failure> {
    ui.tell(format_args!(
        "Everything happens in {}, and is gone afterwards unless --keep says otherwise.",
        place.display()
    ))?;
    for site in sites {
        ui.tell(format_args!(
            "$ waag serve --data {} --listen {} &",
            site.name,
            site.url.trim_start_matches("http://")
        ))?;
    }
    STORY.iter().map(|step| run(step, place, sites, ui)).collect()
}

fn run(step: &Step, place: &Path, sites: &[Running], ui: Ui) -> Result<Told, Failure> {
    let words: Vec<String> = step.words.iter().map(|word| filled(word, sites)).collect();
    let typed: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let command = format!("waag {}", typed.join(" "));
    if !step.tells.is_empty() {
        ui.tell(format_args!("\n# {}", step.tells))?;
    }
    let home = match step.who {
        Who::Publisher => "home",
        Who::Consumer => "consumer",
    };
    let shown = match step.who {
        Who::Publisher => command.clone(),
        Who::Consumer => format!("WAAG_HOME=consumer {command}"),
    };
    let shown = match step.into {
        Some(file) => format!("{shown} > {file}"),
        None => shown,
    };
    ui.tell(format_args!("$ {shown}"))?;
    let output = program()?
        .current_dir(place)
        .env("WAAG_HOME", place.join(home))
        .args(&words)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|e| super::failed("run a command in", place, &e))?;
    match step.into {
        Some(file) => {
            let path = place.join(file);
            std::fs::write(&path, &output.stdout).map_err(|e| super::failed("write", &path, &e))?;
        }
        None => {
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                ui.tell(format_args!("  {line}"))?;
            }
        }
    }
    let messages = String::from_utf8_lossy(&output.stderr);
    let exit = output.status.code().unwrap_or(-1);
    let expected = match step.ends {
        Ends::Done => 0,
        Ends::NotFound => 5,
    };
    if exit != expected {
        return Err(Failure::failed(format!(
            "`{command}` ended with {exit}, the story has {expected}: {}",
            messages.trim()
        )));
    }
    if step.ends == Ends::NotFound {
        for line in messages.lines() {
            ui.tell(format_args!("  {line}"))?;
        }
    }
    Ok(Told { command, exit })
}

/// Puts the addresses of sites in.
fn filled(word: &str, sites: &[Running]) -> String {
    let name = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
    let site = name.and_then(|name| sites.iter().find(|site| site.name == name));
    site.map_or_else(|| word.to_owned(), |site| site.url.clone())
}

/// Writes a word as a shell takes it; the story has no word with a quote in it.
fn quoted(word: &str) -> String {
    if word.contains([' ', '*']) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}
