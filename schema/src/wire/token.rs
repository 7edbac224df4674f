//! Tokens: what a caller may do at a site.

use serde::{Deserialize, Serialize};

use crate::base::name::Namespace;
use crate::base::time::Timestamp;
use crate::policy::place::Country;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read artifacts of its namespaces.
    Read,
    /// Publish into its namespaces; a namespace key must sign as well.
    Publish,
    /// Measure in the site's stead what it may read, its own namespaces and public ones, and hand that in.
    Weigh,
    /// Admit namespaces and make tokens; holds everywhere.
    Admin,
}

/// What a token carries, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenView {
    /// Its public name: 16 hex digits.
    pub id: String,
    /// What it was made for.
    pub label: String,
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// Where it allows that; an admin token needs none, and one that only weighs has public ones without.
    pub namespaces: Vec<Namespace>,
    /// The jurisdiction its holder claims, which labels are matched against.
    #[schema(value_type = Option<String>)]
    pub jurisdiction: Option<Country>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// Body of `POST /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for.
    pub label: String,
    /// What it shall allow.
    pub scopes: Vec<Scope>,
    /// Where.
    pub namespaces: Vec<Namespace>,
    /// The jurisdiction its holder claims.
    #[schema(value_type = Option<String>)]
    pub jurisdiction: Option<Country>,
    /// Days until it ends, 1 to 3,650; none: never.
    pub days: Option<u32>,
}

/// Answer of `POST /api/v1/tokens`: the only time the secret is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenCreated {
    /// The secret.
    pub secret: String,
    /// What it carries.
    pub token: TokenView,
}

/// Answer of `GET /api/v1/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhoAmI {
    /// The caller's token; none for an anonymous caller.
    pub token: Option<TokenView>,
}
