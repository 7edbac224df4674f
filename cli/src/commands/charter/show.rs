//! `waag charter show`: what a charter says, who has signed it, and who is missing.

use serde::Serialize;
use waag_client::charter::{CharterFile, of_site};
use waag_client::site::contact;
use waag_schema::base::key::PublicKey;
use waag_schema::federation::{Charter, Proposal, RootKeys, Signatures, Standing, Terms};
use waag_schema::wire::site::SiteView;
use waag_schema::{Sha256, Timestamp};

use super::previous;
use crate::args::CharterShow;
use crate::commands::{now, open_site, settings};
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui, listed};

pub(super) async fn run(args: CharterShow, config: &Config, ui: Ui) -> Result<(), Failure> {
    if args.keys {
        let view = contact(config.site()?, &settings(config, ui)).await?;
        return ui.report(&Keys(view));
    }
    let Some(path) = args.file else {
        let site = open_site(config, ui)?;
        let Some((charter, view)) = of_site(&site).await? else {
            return Err(Failure::new(
                Exit::NotFound,
                format!("{} goes by no charter: it is a federation of one", site.url()),
            ));
        };
        let shown = Shown {
            entry: view.entry,
            ..Shown::of_signed(charter.proposal(), None)?
        };
        return ui.report(&shown);
    };
    let file = CharterFile::read(&path)?;
    let before = previous(file.terms(), args.previous.as_deref(), config)?;
    let shown = match &file {
        CharterFile::Draft(terms) => Shown::of_draft(terms, before.as_ref()),
        CharterFile::Signed(proposal) => Shown::of_signed(proposal, before.as_ref())?,
    };
    ui.report(&shown)
}

/// How far the signatures of some root keys have come.
#[derive(Serialize)]
struct Turnout {
    signed: Vec<String>,
    unsigned: Vec<String>,
    needed: usize,
    missing: usize,
}

impl Turnout {
    fn of(signatures: &Signatures) -> Self {
        let names = |keys: &[PublicKey]| keys.iter().map(PublicKey::fingerprint).collect();
        Self {
            signed: names(&signatures.signed),
            unsigned: names(&signatures.unsigned),
            needed: signatures.needed,
            missing: signatures.missing(),
        }
    }

    fn none(root: &RootKeys) -> Self {
        Self::of(&Signatures {
            signed: Vec::new(),
            unsigned: root.keys.clone(),
            needed: root.threshold as usize,
        })
    }

    fn page(&self, name: &str, page: &mut Page) {
        let state = match self.missing {
            0 => "enough have signed".to_owned(),
            missing => format!("{missing} more must sign"),
        };
        page.fact(
            name,
            format_args!(
                "{} of {}: {state}",
                self.needed,
                self.signed.len() + self.unsigned.len()
            ),
        );
        for key in &self.signed {
            page.fact("", format_args!("{key}  signed"));
        }
        for key in &self.unsigned {
            page.fact("", key);
        }
    }
}

/// A charter for a person.
#[derive(Serialize)]
pub(super) struct Shown {
    federation: String,
    version: u64,
    /// What names it, once somebody has signed it.
    sha256: Option<Sha256>,
    /// `draft`, `unsigned` or `complete`.
    state: &'static str,
    /// When it ran out, if it has.
    expired: Option<Timestamp>,
    /// The rule that keeps a draft from being signed.
    wrong: Option<String>,
    root: Turnout,
    /// Those of the charter before, who must have signed as well, where they are known.
    previous_root: Option<Turnout>,
    /// The ledger entry in which the site says that it goes by it.
    pub(super) entry: Option<u64>,
    charter: Terms,
}

impl Shown {
    fn of_draft(terms: &Terms, before: Option<&Charter>) -> Self {
        Self {
            federation: terms.federation.to_string(),
            version: terms.version,
            sha256: None,
            state: "draft",
            expired: None,
            wrong: terms.check().err(),
            root: Turnout::none(&terms.root),
            previous_root: before.map(|before| Turnout::none(&before.terms().root)),
            entry: None,
            charter: terms.clone(),
        }
    }

    pub(super) fn of_signed(proposal: &Proposal, before: Option<&Charter>) -> Result<Self, Failure> {
        let failed = waag_client::ClientError::from;
        let root = proposal.signatures().map_err(failed)?;
        let previous_root = before
            .map(|before| proposal.signatures_of(&before.terms().root))
            .transpose()
            .map_err(failed)?;
        let missing = root.missing() + previous_root.as_ref().map_or(0, Signatures::missing);
        let terms = proposal.terms();
        let expired = match Charter::try_from(proposal.clone()).map(|charter| charter.standing(now())) {
            Ok(Standing::Expired { on }) => Some(on),
            _ => None,
        };
        Ok(Self {
            sha256: Some(proposal.digest()),
            state: if missing == 0 { "complete" } else { "unsigned" },
            expired,
            wrong: None,
            root: Turnout::of(&root),
            previous_root: previous_root.as_ref().map(Turnout::of),
            ..Self::of_draft(terms, None)
        })
    }
}

impl Report for Shown {
    fn page(&self, page: &mut Page) {
        let terms = &self.charter;
        page.fact(
            "charter",
            format_args!("{}, version {}", self.federation, self.version),
        );
        page.fact_if("sha256", self.sha256);
        page.fact("state", self.state);
        page.fact_if("not yet", self.wrong.as_ref());
        match self.expired {
            Some(on) => page.fact("expired", on),
            None => page.fact("expires", terms.expires),
        }
        page.fact_if("entry", self.entry);
        self.root.page("root keys", page);
        if let Some(previous) = &self.previous_root {
            previous.page("root before", page);
        }
        page.fact(
            "witnesses",
            format_args!("in {} other jurisdictions", terms.witnesses.jurisdictions),
        );
        for group in &terms.groups {
            let members: Vec<String> = group.members.iter().map(|row| row.country.to_string()).collect();
            page.fact("group", format_args!("{}: {}", group.name, listed(&members)));
        }
        let rows = terms.sites.iter().map(|site| {
            let owns: Vec<&str> = site
                .owns
                .iter()
                .map(waag_schema::federation::Owned::as_str)
                .collect();
            [
                site.name.to_string(),
                site.jurisdiction.to_string(),
                site.id.to_string(),
                site.url.to_string(),
                owns.join(" "),
            ]
        });
        page.line("");
        page.table(["SITE", "IN", "ID", "URL", "OWNS"], rows);
    }

    fn essential(&self) -> String {
        self.sha256.map_or_else(String::new, |digest| digest.to_string())
    }
}

/// What a site says of its own keys.
#[derive(Serialize)]
#[serde(transparent)]
struct Keys(SiteView);

impl Report for Keys {
    fn page(&self, page: &mut Page) {
        let Self(view) = self;
        page.fact("site", &view.id);
        page.fact_if("jurisdiction", view.jurisdiction.as_ref());
        page.fact("log key", &view.log_key);
        page.fact("site key", view.site_key);
        page.fact("witness key", &view.witness_key);
    }

    fn essential(&self) -> String {
        self.0.log_key.clone()
    }
}
