//! `waag mirror add | list | status | compare | run | drop | trust`, `waag where`

use serde::Serialize;
use waag_client::{ClientError, mirror};
use waag_schema::Sha256;
use waag_schema::base::name::Version;
use waag_schema::wire::federation::{
    ComparisonView, DifferingView, DropAnswer, HolderView, MirrorRule, MirrorStatus, RunAnswer, SetView,
    State, When,
};

use super::open_site;
use crate::args::{Mirror, MirrorAdd, Whereabouts};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Bytes, Page, Report, Ui};

pub(crate) async fn run(command: Mirror, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    match command {
        Mirror::Add(args) => {
            let rule = rule(args);
            mirror::add(&site, &rule).await?;
            ui.report(&Added { added: rule })
        }
        Mirror::Remove(args) => {
            let rule = rule(args);
            mirror::remove(&site, &rule).await?;
            ui.report(&Removed { removed: rule })
        }
        Mirror::List(_) => {
            let status = mirror::status(&site).await?;
            ui.report(&Rules(status))
        }
        Mirror::Status(_) => {
            let status = mirror::status(&site).await?;
            let wrong = wrong(&status);
            ui.report(&Status(status))?;
            match wrong {
                Some(text) => Err(Failure::failed(text)),
                None => Ok(()),
            }
        }
        Mirror::Compare(args) => {
            let found = mirror::compare(&site, &args.other, args.holder.as_deref()).await?;
            let complete = found.complete;
            ui.report(&Compared(found))?;
            match complete {
                true => Ok(()),
                false => Err(Failure::failed("not every release is held")),
            }
        }
        Mirror::Run(args) => {
            let answer = mirror::run(&site, args.other).await?;
            ui.report(&Ran(answer))
        }
        Mirror::Drop(args) => {
            if !args.yes {
                if !ui.can_ask() {
                    let text = "a copy is deleted by this, and nobody is there to be asked";
                    return Err(Failure::usage(text).hint("--yes if you are sure"));
                }
                let question = format!("give up this site's copy of {}?", args.reference);
                if !ui.confirm(&question)? {
                    return Err(Failure::failed("the copy stays"));
                }
            }
            match mirror::give_up(&site, &args.reference, args.copies).await {
                Ok(dropped) => ui.report(&Dropped(dropped)),
                Err(ClientError::Denied { message, reasons }) => {
                    let failure = Failure::new(Exit::Refused, message).details(reasons);
                    Err(failure.hint("`waag where` shows who says that it has a copy, and who has proved it"))
                }
                Err(error) => Err(error.into()),
            }
        }
        Mirror::Trust(args) => {
            mirror::trust(&site, &args.other).await?;
            ui.report(&Trusted { trusted: args.other })
        }
    }
}

fn rule(args: MirrorAdd) -> MirrorRule {
    MirrorRule {
        site: args.other,
        artifacts: args.artifacts,
        kinds: args.kind,
        residency: args.residency,
        when: if args.on_demand {
            When::OnDemand
        } else {
            When::Always
        },
        bytes_per_second: args.bandwidth,
        hours: args.hours,
    }
}

/// What an operator has to look at, if anything.
fn wrong(status: &MirrorStatus) -> Option<String> {
    let rules = status.rules.iter().filter(|view| view.error.is_some()).count();
    let stopped = status.peers.iter().filter(|view| view.stopped.is_some()).count();
    match (rules, stopped) {
        (0, 0) => None,
        (rules, 0) => Some(format!("{rules} of the rules copy nothing")),
        (_, stopped) => Some(format!("{stopped} of the sites are not believed any more")),
    }
}

pub(crate) async fn holders(args: Whereabouts, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    let artifact = &args.reference.artifact;
    let wanted: Option<Sha256> = match &args.reference.version {
        Version::Manifest(digest) => Some(*digest),
        Version::Tag(tag) if tag.moves() => None,
        Version::Tag(tag) => {
            let view = site.artifact(artifact).await?;
            let found = view.tags.iter().find(|view| view.tag == *tag);
            let missing = || ClientError::NotFound(format!("there is no version `{tag}` of {artifact} here"));
            Some(found.ok_or_else(missing)?.manifest)
        }
    };
    let mut holders = mirror::holders(&site, artifact).await?;
    holders.retain(|view| wanted.is_none_or(|wanted| view.manifest == wanted));
    if holders.is_empty() {
        let reference = &args.reference;
        return Err(ClientError::NotFound(format!("no site says anything of {reference}")).into());
    }
    ui.report(&Holders { holders })
}

#[derive(Serialize)]
struct Removed {
    removed: MirrorRule,
}

impl Report for Removed {
    fn page(&self, page: &mut Page) {
        page.fact("removed", described(&self.removed));
    }

    fn essential(&self) -> String {
        self.removed.site.clone()
    }
}

#[derive(Serialize)]
struct Added {
    added: MirrorRule,
}

impl Report for Added {
    fn page(&self, page: &mut Page) {
        page.fact("mirrored", described(&self.added));
    }

    fn essential(&self) -> String {
        self.added.site.clone()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Dropped(DropAnswer);

impl Report for Dropped {
    fn page(&self, page: &mut Page) {
        page.fact("dropped", format_args!("{}@{}", self.0.artifact, self.0.manifest));
        for site in &self.0.others {
            page.fact("proved", format_args!("{site} has it"));
        }
    }

    fn essential(&self) -> String {
        self.0.manifest.to_string()
    }
}

#[derive(Serialize)]
struct Trusted {
    trusted: String,
}

impl Report for Trusted {
    fn page(&self, page: &mut Page) {
        page.fact("believed", &self.trusted);
    }

    fn essential(&self) -> String {
        self.trusted.clone()
    }
}

/// A rule in one line.
fn described(rule: &MirrorRule) -> String {
    let mut text = match rule.artifacts.as_slice() {
        [] => format!("everything of {}", rule.site),
        globs => format!("{} of {}", globs.join(", "), rule.site),
    };
    for kind in &rule.kinds {
        text.push_str(&format!(", {kind}s"));
    }
    if !rule.residency.is_empty() {
        let places: Vec<String> = rule.residency.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", labelled for {}", places.join(" or ")));
    }
    if rule.when == When::OnDemand {
        text.push_str(", once somebody asks");
    }
    if let Some(rate) = rule.bytes_per_second {
        text.push_str(&format!(", at most {}/s", Bytes(rate)));
    }
    if let Some(hours) = rule.hours {
        text.push_str(&format!(", at {hours} UTC"));
    }
    text
}

#[derive(Serialize)]
#[serde(transparent)]
struct Rules(MirrorStatus);

impl Report for Rules {
    fn page(&self, page: &mut Page) {
        let row = |view: &waag_schema::wire::federation::RuleView| {
            [
                described(&view.rule),
                view.matches.to_string(),
                view.error.clone().unwrap_or_default(),
            ]
        };
        page.table(["rule", "releases", ""], self.0.rules.iter().map(row));
    }

    fn essential(&self) -> String {
        let rules: Vec<String> = self.0.rules.iter().map(|view| described(&view.rule)).collect();
        rules.join("\n")
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Status(MirrorStatus);

impl Report for Status {
    fn page(&self, page: &mut Page) {
        for peer in &self.0.peers {
            let heard = peer.heard.map_or_else(|| "never".to_owned(), |at| at.to_string());
            page.fact(
                &peer.name,
                format_args!("{} entries followed, heard from {heard}", peer.entries),
            );
            page.fact_if("  trouble", peer.trouble.as_ref());
            page.fact_if("  not believed", peer.stopped.as_ref());
        }
        for view in self.0.rules.iter().filter(|view| view.error.is_some()) {
            let error = view.error.as_deref().unwrap_or_default();
            page.fact("rule", format_args!("{}: {error}", described(&view.rule)));
        }
        let row = |view: &waag_schema::wire::federation::MirroredView| {
            [
                view.artifact.to_string(),
                view.manifest.to_string().chars().take(19).collect(),
                word(&view.state).to_owned(),
                Bytes(view.bytes).to_string(),
                view.reason.clone().unwrap_or_default(),
            ]
        };
        page.table(
            ["artifact", "release", "state", "size", "reason"],
            self.0.releases.iter().map(row),
        );
    }

    fn essential(&self) -> String {
        let held = self
            .0
            .releases
            .iter()
            .filter(|view| view.state == State::Held)
            .count();
        format!("{held} of {}", self.0.releases.len())
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Compared(ComparisonView);

impl Report for Compared {
    fn page(&self, page: &mut Page) {
        let found = &self.0;
        let set = |set: &SetView| {
            format!(
                "{} releases, {}, by {} entries",
                set.releases, set.digest, set.entries
            )
        };
        page.fact("home", &found.home);
        page.fact("  released", set(&found.released));
        page.fact("holder", &found.holder);
        page.fact("  held", set(&found.held));
        page.fact("missing", found.missing);
        page.fact("held beside", found.surplus);
        let row = |view: &DifferingView| {
            [
                view.artifact.to_string(),
                view.manifest.to_string().chars().take(19).collect(),
                if view.held { "held beside" } else { "missing" }.to_owned(),
                view.reason.clone().unwrap_or_default(),
            ]
        };
        page.table(
            ["artifact", "release", "", "reason"],
            found.differing.iter().map(row),
        );
    }

    fn essential(&self) -> String {
        if self.0.complete { "complete" } else { "incomplete" }.to_owned()
    }
}

const fn word(state: &State) -> &'static str {
    match state {
        State::Held => "held",
        State::Waiting => "waiting",
        State::OnDemand => "on demand",
        State::Refused => "refused",
        State::Failed => "failed",
        State::Withdrawn => "withdrawn",
        State::Erased => "erased",
        State::Dropped => "dropped",
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Ran(RunAnswer);

impl Report for Ran {
    fn page(&self, page: &mut Page) {
        page.fact("followed", format_args!("{} new entries", self.0.entries));
        page.fact("fetched", self.0.fetched);
        page.fact("refused", self.0.refused);
        page.fact("erased", self.0.erased);
        page.fact("failed", self.0.failed);
        for trouble in &self.0.troubles {
            page.fact("trouble", trouble);
        }
    }

    fn essential(&self) -> String {
        self.0.fetched.to_string()
    }
}

#[derive(Serialize)]
struct Holders {
    holders: Vec<HolderView>,
}

impl Report for Holders {
    fn page(&self, page: &mut Page) {
        let row = |view: &HolderView| {
            [
                view.site.to_string(),
                view.jurisdiction.clone().unwrap_or_else(|| "-".to_owned()),
                view.state.clone(),
                view.manifest.to_string().chars().take(19).collect(),
                view.since.to_string(),
                view.verified.to_string(),
                checked(view),
                view.reason.clone().unwrap_or_default(),
            ]
        };
        page.table(
            [
                "site",
                "in",
                "state",
                "release",
                "since",
                "as known at",
                "checked",
                "reason",
            ],
            self.holders.iter().map(row),
        );
    }

    fn essential(&self) -> String {
        let holds = self
            .holders
            .iter()
            .filter(|view| matches!(view.state.as_str(), "home" | "holds"));
        holds
            .map(|view| view.site.to_string())
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// What came of it when the site that tells this last asked for proof of the bytes.
fn checked(view: &HolderView) -> String {
    match &view.checked {
        Some(checked) => match (&checked.failed, checked.ok) {
            (None, _) => format!("ok at {}", checked.at),
            (Some(reason), None) => format!("failed: {reason}"),
            (Some(reason), Some(ok)) => format!("failed: {reason}; ok at {ok}"),
        },
        None if matches!(view.state.as_str(), "home" | "holds") => "never".to_owned(),
        None => "-".to_owned(),
    }
}
