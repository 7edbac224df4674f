//! `waag charter init | add-site | remove-site`: the draft, before anybody signs it.

use std::path::Path;

use serde::Serialize;
use waag_client::ClientError;
use waag_client::charter::CharterFile;
use waag_client::site::contact;
use waag_client::trust::Trust;
use waag_schema::base::key::PublicKey;
use waag_schema::federation::{LedgerTerms, RootKeys, SiteTerms, Terms, Witnesses};
use waag_schema::ledger::{Origin, VerifierKey};
use waag_schema::policy::place::Country;
use waag_schema::wire::site::SiteView;
use waag_schema::{SiteId, Timestamp};

use super::complete;
use crate::args::{CharterAddSite, CharterInit, CharterRemoveSite};
use crate::commands::rotate::public_key;
use crate::commands::{now, settings};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui, count};

const SECONDS_OF_A_DAY: u64 = 86_400;

pub(super) fn init(args: CharterInit, config: &Config, ui: Ui) -> Result<(), Failure> {
    if args.file.exists() {
        let message = format!("{} is there already; nothing was written", args.file.display());
        return Err(Failure::failed(message));
    }
    let key = |text: &String| public_key(text, config);
    let given: Vec<PublicKey> = args.root.iter().map(key).collect::<Result<_, _>>()?;
    let before = args.from.as_deref().map(complete).transpose()?;
    let terms = match (&before, args.federation) {
        (Some(before), _) => {
            let terms = before.terms().clone();
            let keys = if given.is_empty() { terms.root.keys } else { given };
            Terms {
                version: terms.version + 1,
                previous: Some(before.digest()),
                expires: expires(args.expires, args.days),
                root: RootKeys {
                    threshold: args.threshold.unwrap_or(terms.root.threshold),
                    keys,
                },
                witnesses: Witnesses {
                    jurisdictions: args.witnesses.unwrap_or(terms.witnesses.jurisdictions),
                },
                ..terms
            }
        }
        (None, Some(federation)) => {
            let keys = match given.is_empty() {
                true => vec![public_key("default", config)?],
                false => given,
            };
            let all_but_one = u32::try_from(keys.len().saturating_sub(1)).unwrap_or(u32::MAX);
            Terms {
                federation,
                version: 1,
                previous: None,
                expires: expires(args.expires, args.days),
                root: RootKeys {
                    threshold: args.threshold.unwrap_or(all_but_one.max(1)),
                    keys,
                },
                sites: Vec::new(),
                witnesses: Witnesses {
                    jurisdictions: args.witnesses.unwrap_or(0),
                },
                groups: Vec::new(),
            }
        }
        (None, None) => return Err(Failure::usage("neither --federation nor --from is given")),
    };
    if terms.root.threshold as usize > terms.root.keys.len() {
        return Err(Failure::usage(format!(
            "{} of {} root keys cannot sign",
            terms.root.threshold,
            terms.root.keys.len()
        )));
    }
    keep(&args.file, terms, ui)
}

fn expires(at: Option<Timestamp>, days: u32) -> Timestamp {
    at.unwrap_or_else(|| now().plus(u64::from(days) * SECONDS_OF_A_DAY))
}

pub(super) async fn add_site(args: CharterAddSite, config: &Config, ui: Ui) -> Result<(), Failure> {
    let mut terms = draft(&args.file)?;
    let owns = args.owned().map_err(Failure::usage)?;
    let recovery = args.recovery.iter().map(|text| public_key(text, config));
    let recovery = recovery.collect::<Result<_, _>>()?;
    let known = match (
        &args.log_key,
        &args.site_key,
        &args.witness_key,
        &args.url,
        args.jurisdiction,
    ) {
        (Some(log_key), Some(site_key), Some(witness_key), Some(url), Some(jurisdiction)) => {
            let origin: Origin = log_key.name().parse().map_err(Failure::usage)?;
            Known {
                id: origin.site().clone(),
                log_key: log_key.clone(),
                site_key: public_key(site_key, config)?,
                witness_key: witness_key.clone(),
                url: url.clone(),
                jurisdiction,
            }
        }
        _ => ask(&args, config, ui).await?,
    };
    let site = SiteTerms {
        id: known.id,
        name: args.name,
        jurisdiction: known.jurisdiction,
        url: known.url,
        ledgers: vec![LedgerTerms {
            key: known.log_key,
            ends: None,
        }],
        site_key: known.site_key,
        witness_key: known.witness_key,
        owns,
        recovery,
    };
    match terms
        .sites
        .iter_mut()
        .find(|other| other.id == site.id || other.name == site.name)
    {
        Some(other) => {
            ui.note(format_args!("replaced what the draft said of {}", other.name));
            *other = site;
        }
        None => terms.sites.push(site),
    }
    keep(&args.file, terms, ui)
}

pub(super) fn remove_site(args: &CharterRemoveSite, ui: Ui) -> Result<(), Failure> {
    let mut terms = draft(&args.file)?;
    let before = terms.sites.len();
    terms.sites.retain(|site| site.name != args.name);
    if terms.sites.len() == before {
        let message = format!("{} names no site `{}`", args.file.display(), args.name);
        return Err(Failure::new(Exit::NotFound, message));
    }
    keep(&args.file, terms, ui)
}

/// What is known of a site.
struct Known {
    id: SiteId,
    log_key: VerifierKey,
    site_key: PublicKey,
    witness_key: VerifierKey,
    url: waag_schema::federation::Address,
    jurisdiction: Country,
}

/// Asks the site, and whoever sits here whether it is the right one.
async fn ask(args: &CharterAddSite, config: &Config, ui: Ui) -> Result<Known, Failure> {
    let url = config.site()?;
    let view = contact(url, &settings(config, ui)).await?;
    believe(args.trust.as_ref(), &view, config, ui)?;
    let odd = |error: &dyn std::fmt::Display| Failure::failed(format!("{url} says of itself: {error}"));
    let jurisdiction = match (args.jurisdiction, &view.jurisdiction) {
        (Some(given), _) => given,
        (None, Some(said)) => said.parse().map_err(|e| odd(&e))?,
        (None, None) => {
            return Err(
                Failure::usage(format!("{url} does not say in which country it is"))
                    .hint("`jurisdiction = \"DE\"` in its waag.toml, then start it again"),
            );
        }
    };
    Ok(Known {
        id: view.id,
        log_key: view.log_key.parse().map_err(|e| odd(&e))?,
        site_key: view.site_key,
        witness_key: view.witness_key.parse().map_err(|e| odd(&e))?,
        url: match &args.url {
            Some(url) => url.clone(),
            None => url.to_string().parse().map_err(Failure::usage)?,
        },
        jurisdiction,
    })
}

fn believe(trust: Option<&SiteId>, view: &SiteView, config: &Config, ui: Ui) -> Result<(), Failure> {
    let url = config.site()?;
    let wrong = |expected: &SiteId| ClientError::WrongSite {
        url: url.to_string(),
        expected: expected.clone(),
        found: view.id.clone(),
    };
    if let Some(expected) = trust {
        return if *expected == view.id {
            Ok(())
        } else {
            Err(wrong(expected).into())
        };
    }
    match Trust::new(config.home.clone()).by_url(url)? {
        Some(pin) if pin.site == view.id => return Ok(()),
        Some(pin) => return Err(wrong(&pin.site).into()),
        None if url.is_loopback() => return Ok(()),
        None => {}
    }
    if ui.can_ask() {
        ui.lines(format_args!("the fingerprint of {url} is\n\n    {}\n", view.id));
        if ui.confirm("Is this what `waag serve` printed there?")? {
            return Ok(());
        }
    }
    Err(Failure::new(
        Exit::Usage,
        format!("the site at {url} is not known; it says that it is {}", view.id),
    )
    .hint(format!(
        "compare the fingerprint with what `waag serve` printed there, then --trust {}",
        view.id
    )))
}

fn draft(path: &Path) -> Result<Terms, Failure> {
    match CharterFile::read(path)? {
        CharterFile::Draft(terms) => Ok(*terms),
        CharterFile::Signed(_) => Err(Failure::usage(format!(
            "{} is signed: what it says cannot be changed any more",
            path.display()
        ))
        .hint(format!("waag charter init NEW --from {}", path.display()))),
    }
}

fn keep(path: &Path, terms: Terms, ui: Ui) -> Result<(), Failure> {
    let file = CharterFile::Draft(Box::new(terms));
    file.write(path)?;
    let terms = file.terms();
    ui.report(&Drafted {
        file: path.display().to_string(),
        federation: terms.federation.to_string(),
        version: terms.version,
        sites: terms.sites.len(),
        must_sign: format!("{} of {}", terms.root.threshold, terms.root.keys.len()),
        wrong: terms.check().err(),
    })
}

#[derive(Serialize)]
struct Drafted {
    file: String,
    federation: String,
    version: u64,
    sites: usize,
    must_sign: String,
    /// What keeps it from being signed.
    wrong: Option<String>,
}

impl Report for Drafted {
    fn page(&self, page: &mut Page) {
        page.fact("draft", &self.file);
        page.fact(
            "federation",
            format_args!("{}, version {}", self.federation, self.version),
        );
        page.fact("sites", count(self.sites as u64, "site"));
        page.fact("must sign", &self.must_sign);
        page.fact_if("not yet", self.wrong.as_ref());
    }

    fn essential(&self) -> String {
        self.file.clone()
    }
}
