//! `waag login`, `logout` and `whoami`: which site is meant, and what a token allows there.

use serde::Serialize;
use waag_client::error::ClientError;
use waag_client::home::Secret;
use waag_client::site::{self, Site};
use waag_client::trust::{Pinning, Trust};
use waag_schema::SiteId;
use waag_schema::wire::token::TokenView;

use super::{secrets, settings};
use crate::args::Login;
use crate::config::{Config, site_url};
use crate::failure::{Exit, Failure};
use crate::ui::{Page, Report, Ui, listed};

/// Pins a site, after asking where that is needed, and keeps a token for it.
pub(crate) async fn login(args: Login, config: &Config, ui: Ui) -> Result<(), Failure> {
    let url = site_url(&args.url)?;
    let token = token(&args, ui)?;
    let settings = settings(config, ui);
    if args.accept_successor {
        let site = Site::open(&config.home, &url, token.as_ref(), &settings)?;
        let newest = site.accept_successor().await?;
        ui.note(format_args!("accepted: the ledger goes on as {}", newest.origin));
    }
    let mut pinning = args.trust.map_or(Pinning::Loopback, Pinning::Fingerprint);
    let mut done = site::login(&config.home, &url, &pinning, token.as_ref(), &settings).await;
    if let Err(ClientError::Unpinned { url: address, site }) = &done
        && ui.can_ask()
    {
        ui.lines(format_args!(
            "{address} is not known yet. Its fingerprint is\n\n    {site}\n"
        ));
        if !ui.confirm("Is this what `waag serve` printed there?")? {
            return Err(Failure::new(
                Exit::Refused,
                format!("{address} is not trusted; nothing was kept"),
            ));
        }
        pinning = Pinning::Fingerprint(site.clone());
        done = site::login(&config.home, &url, &pinning, token.as_ref(), &settings).await;
    }
    let done = done?;
    ui.report(&Session {
        url: url.to_string(),
        site: done.pin.site,
        pinned_now: Some(done.new),
        token: done.who.token,
    })
}

fn token(args: &Login, ui: Ui) -> Result<Option<Secret>, Failure> {
    match &args.token_file {
        _ if args.anonymous => Ok(None),
        Some(path) => secrets::from_file(path).map(Some),
        None if ui.can_ask() => {
            let typed = secrets::ask("token (empty for none): ")?;
            let typed = typed.expose().trim();
            Ok((!typed.is_empty()).then(|| Secret::new(typed)))
        }
        None => Err(Failure::usage("nobody is there to be asked for a token")
            .hint("--token-file FILE, or --anonymous for what everybody may read")),
    }
}

/// Forgets the token of the site that is meant.
pub(crate) fn logout(config: &Config, ui: Ui) -> Result<(), Failure> {
    let url = config.site()?;
    let pin = Trust::new(config.home.clone()).by_url(url)?;
    let pin = pin.ok_or_else(|| ClientError::NoPin { url: url.to_string() })?;
    let forgotten = config.home.remove_token(&pin.site)?;
    ui.report(&LoggedOut {
        url: url.to_string(),
        site: pin.site,
        forgotten,
    })
}

/// Shows what the token for the site allows.
pub(crate) async fn whoami(config: &Config, ui: Ui) -> Result<(), Failure> {
    let site: Site = super::open_site(config, ui)?;
    let who = site.whoami().await?;
    ui.report(&Session {
        url: site.url().to_string(),
        site: site.pin().site.clone(),
        pinned_now: None,
        token: who.token,
    })
}

#[derive(Serialize)]
struct Session {
    url: String,
    site: SiteId,
    /// Whether this login was the first contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_now: Option<bool>,
    token: Option<TokenView>,
}

impl Report for Session {
    fn page(&self, page: &mut Page) {
        page.fact("site", &self.url);
        let pinned = if self.pinned_now == Some(true) {
            "  (pinned now)"
        } else {
            ""
        };
        page.fact("fingerprint", format_args!("{}{pinned}", self.site));
        let Some(token) = &self.token else {
            page.fact("token", "none: only what everybody may read");
            return;
        };
        page.fact("token", format_args!("{}  {}", token.id, token.label));
        super::token::facts(page, token);
    }

    fn essential(&self) -> String {
        let token = self.token.as_ref();
        token.map_or_else(
            || "anonymous".to_owned(),
            |token| format!("{} {}", token.id, listed(&super::token::scopes(token))),
        )
    }
}

#[derive(Serialize)]
struct LoggedOut {
    url: String,
    site: SiteId,
    forgotten: bool,
}

impl Report for LoggedOut {
    fn page(&self, page: &mut Page) {
        if self.forgotten {
            page.line(format_args!(
                "the token for {} is forgotten; the site stays pinned",
                self.url
            ));
        } else {
            page.line(format_args!("there was no token for {}", self.url));
        }
    }

    fn essential(&self) -> String {
        String::new()
    }
}
