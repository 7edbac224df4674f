//! `waag token create | list | revoke`

use serde::Serialize;
use waag_schema::wire::token::{Scope, TokenCreated, TokenRequest, TokenView};

use super::open_site;
use crate::args::{Token, TokenCreate};
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui, listed};

pub(crate) async fn run(command: Token, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    match command {
        Token::Create(args) => ui.report(&Created(site.create_token(&request(args)).await?)),
        Token::List(_) => {
            let tokens = site.tokens().await?;
            ui.report(&All { tokens })
        }
        Token::Revoke(args) => {
            site.revoke_token(&args.id).await?;
            ui.report(&Revoked { revoked: args.id })
        }
    }
}

fn request(args: TokenCreate) -> TokenRequest {
    TokenRequest {
        label: args.label,
        scopes: args.scope.into_iter().map(Scope::from).collect(),
        namespaces: args.namespace,
        jurisdiction: args.jurisdiction,
        days: args.days,
    }
}

/// Writes what a token allows.
pub(super) fn facts(page: &mut Page, token: &TokenView) {
    page.fact("allows", listed(&scopes(token)));
    page.fact("in", places(token));
    page.fact_if("jurisdiction", token.jurisdiction);
    page.fact("made", token.created);
    page.fact(
        "ends",
        token
            .expires
            .map_or_else(|| "never".to_owned(), |at| at.to_string()),
    );
}

/// Returns the words for what a token allows.
pub(super) fn scopes(token: &TokenView) -> Vec<&'static str> {
    let word = |scope: &Scope| match scope {
        Scope::Read => "read",
        Scope::Publish => "publish",
        Scope::Weigh => "weigh",
        Scope::Admin => "admin",
    };
    token.scopes.iter().map(word).collect()
}

fn places(token: &TokenView) -> String {
    if token.scopes.contains(&Scope::Admin) {
        "every namespace".to_owned()
    } else if token.namespaces.is_empty() {
        "public namespaces".to_owned()
    } else {
        listed(&token.namespaces)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Created(TokenCreated);

impl Report for Created {
    fn page(&self, page: &mut Page) {
        page.fact("secret", &self.0.secret);
        page.fact(
            "token",
            format_args!("{}  {}", self.0.token.id, self.0.token.label),
        );
        facts(page, &self.0.token);
        page.line("The secret is shown this once. `waag login URL --token-file FILE` takes it from a file.");
    }

    fn essential(&self) -> String {
        self.0.secret.clone()
    }
}

#[derive(Serialize)]
struct All {
    tokens: Vec<TokenView>,
}

impl Report for All {
    fn page(&self, page: &mut Page) {
        let row = |token: &TokenView| {
            [
                token.id.clone(),
                token.label.clone(),
                listed(&scopes(token)),
                places(token),
                token
                    .expires
                    .map_or_else(|| "never".to_owned(), |at| at.to_string()),
            ]
        };
        page.table(
            ["id", "label", "allows", "in", "ends"],
            self.tokens.iter().map(row),
        );
    }

    fn essential(&self) -> String {
        let ids: Vec<&str> = self.tokens.iter().map(|token| token.id.as_str()).collect();
        ids.join("\n")
    }
}

#[derive(Serialize)]
struct Revoked {
    revoked: String,
}

impl Report for Revoked {
    fn page(&self, page: &mut Page) {
        page.line(format_args!("the token {} is no longer valid", self.revoked));
    }

    fn essential(&self) -> String {
        String::new()
    }
}
