//! `waag push`: plan, then deeds.

use serde::Serialize;
use waag_client::error::ClientError;
use waag_client::keys;
use waag_client::push::{Push as Work, PushPlan, PushRequest, Pushed};
use waag_client::scan::Links;
use waag_client::site::Site;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::base::name::{Reference, Version};
use waag_schema::policy::label::Label;
use waag_schema::release::About;
#[cfg(feature = "server")]
use waag_schema::release::kind::Kind;

use super::{open_site, secrets, sign};
use crate::args::Push;
use crate::config::Config;
use crate::failure::Failure;
use crate::typed::Target;
use crate::ui::{Bytes, Encoded, Page, Report, Ui, count, listed};

pub(crate) async fn run(args: Push, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    sign::check_place(args.out.out.as_deref())?;
    // A passphrase is asked for now, while somebody is looking, and not minutes later.
    let keys = match args.dry_run {
        true => Vec::new(),
        false => secrets::signers(&args.signing, config, ui)?,
    };
    let signers = match args.dry_run {
        true => known_keys(&args, config),
        false => keys.iter().map(KeyPair::public).collect(),
    };
    let (target, dry_run, out) = (args.target.clone(), args.dry_run, args.out.out.clone());
    #[cfg(feature = "server")]
    check_suite(&args)?;
    let request = request(args, signers, &site).await?;
    let work = Work::prepare(&site, request).await?;
    if dry_run {
        return ui.report(&Planned {
            name: target.artifact.to_string(),
            tag: target.tag.to_string(),
            dry_run: true,
            plan: work.plan(),
        });
    }
    announce(work.plan(), &target, ui);
    if let Some(file) = out {
        return sign::keep(file, &work.draft(&keys).await?, ui);
    }
    let pushed = work.execute(&keys).await?;
    ui.report(&Done(pushed))
}

/// Reads a suite as whoever measures with it will, before anything is sent; the site does so itself.
#[cfg(feature = "server")]
fn check_suite(args: &Push) -> Result<(), Failure> {
    use waag_registry::evaluation::suite;

    if args.kind != Kind::Suite {
        return Ok(());
    }
    let read = suite::below(&args.path).map_err(|error| {
        Failure::failed(format!("this is no suite that can be published: {error}"))
            .hint("what a description names must be in the directory that is pushed; --kind dataset publishes any files")
    })?;
    match read.not_measured.first() {
        None => Ok(()),
        Some((path, reason)) => Err(Failure::failed(format!("{path}: {reason}"))
            .hint("`waag weigh MODEL --suite PATH` measures what can be measured of it")),
    }
}

/// The keys of a dry run: their public halves, which need no passphrase, and only where there are any.
fn known_keys(args: &Push, config: &Config) -> Vec<PublicKey> {
    let choices = args.signing.key.iter().map(|text| config.environment.key(text));
    choices
        .filter_map(|choice| keys::show(&config.home, &choice).ok())
        .map(|info| info.public)
        .collect()
}

async fn request(args: Push, signers: Vec<PublicKey>, site: &Site) -> Result<PushRequest, Failure> {
    let label = match args.residency.as_slice() {
        [] => None,
        places => Some(Label::from_cli(places, &args.allow, &args.deny).map_err(Failure::usage)?),
    };
    let base = match args.base {
        Some(base) => Some(pinned(base, site).await?),
        None => None,
    };
    let mut data = Vec::with_capacity(args.trained_on.len());
    for reference in args.trained_on {
        data.push(pinned(reference, site).await?);
    }
    Ok(PushRequest {
        path: args.path,
        artifact: args.target.artifact,
        tag: args.target.tag,
        kind: args.kind,
        about: About {
            license: args.license,
            ..About::default()
        },
        base,
        data,
        label,
        move_tag: args.move_tag,
        encode: !args.no_encode,
        allowed_formats: args.allow_format,
        links: if args.follow { Links::Follow } else { Links::Refuse },
        signers,
        draft: args.out.out.is_some(),
    })
}

/// What a tag names now: lineage must not change when the tag moves.
async fn pinned(base: Reference, site: &Site) -> Result<Reference, Failure> {
    let proven = match (site.resolve(&base.artifact, &base.version).await, &base.version) {
        // Who builds on something need not be where its label lets it be served; a digest says enough.
        (Err(ClientError::Denied { .. }), Version::Manifest(_)) => return Ok(base),
        (proven, _) => proven?,
    };
    Ok(Reference {
        artifact: base.artifact,
        version: Version::Manifest(proven.manifest.digest()),
    })
}

fn announce(plan: &PushPlan, target: &Target, ui: Ui) {
    ui.note(format_args!(
        "{}:{}  {}, {}: {} to send, {} there already",
        target.artifact,
        target.tag,
        count(plan.files, "file"),
        Bytes(plan.bytes),
        Bytes(plan.send_bytes),
        Bytes(plan.reused_bytes),
    ));
    if plan.ignored > 0 {
        ui.note(format_args!("{} left out by .waagignore", plan.ignored));
    }
}

#[derive(Serialize)]
struct Planned<'a> {
    name: String,
    tag: String,
    /// Always true: nothing was sent.
    dry_run: bool,
    #[serde(flatten)]
    plan: &'a PushPlan,
}

impl Report for Planned<'_> {
    fn page(&self, page: &mut Page) {
        let plan = self.plan;
        page.fact("would push", format_args!("{}:{}", self.name, self.tag));
        page.fact("digest", plan.digest);
        page.fact("files", format_args!("{}, {}", plan.files, Bytes(plan.bytes)));
        if plan.ignored > 0 {
            page.fact("left out", format_args!("{} by .waagignore", plan.ignored));
        }
        page.fact(
            "to send",
            format_args!(
                "{} in {} of {}",
                Bytes(plan.send_bytes),
                plan.missing_chunks,
                count(plan.chunks, "chunk")
            ),
        );
        page.fact("reused", Bytes(plan.reused_bytes));
        let records = match plan.records.as_slice() {
            [] => "nothing: it is recorded already".to_owned(),
            records => listed(records),
        };
        page.fact("to record", records);
    }

    fn essential(&self) -> String {
        self.plan.digest.to_string()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Pushed);

impl Report for Done {
    fn page(&self, page: &mut Page) {
        let Self(pushed) = self;
        page.fact("pushed", format_args!("{}:{}", pushed.name, pushed.tag));
        page.fact("digest", pushed.digest);
        page.fact("files", format_args!("{}, {}", pushed.files, Bytes(pushed.bytes)));
        page.fact(
            "sent",
            format_args!(
                "{}{} ({} reused)",
                Bytes(pushed.sent_bytes),
                Encoded(pushed.sent_bytes, pushed.wire_bytes),
                Bytes(pushed.reused_bytes)
            ),
        );
        page.fact("entry", pushed.entry);
    }

    fn essential(&self) -> String {
        self.0.digest.to_string()
    }
}
