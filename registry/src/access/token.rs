//! Tokens in the store: `tokens/<sha256 of the secret>`.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use waag_schema::wire::token::{Scope, TokenRequest, TokenView};
use waag_schema::{Sha256, Timestamp};

use super::Caller;
use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Key, Store, StoreError, Swap};

/// Marks a secret as ours, so that a scanner for leaked secrets can find it.
const PREFIX: &str = "waag_";
/// The most tokens listed at once; a site with more is not what this was made for.
const LISTED_MAX: usize = 10_000;
const DAYS_MAX: u32 = 3650;

/// A caller cannot be let in, or a token cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The token is unknown, expired or revoked. One answer for all three.
    #[error("the token is not valid at this site")]
    BadToken,
    /// The request for a token breaks a rule.
    #[error("{0}")]
    BadRequest(String),
    /// No token of this id.
    #[error("there is no token {0}")]
    NoToken(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A new token has the place of another one.
    #[error("there is a token at {0} already")]
    Taken(Key),
}

/// The tokens of a site.
#[derive(Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl Tokens {
    /// Keeps tokens in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, random: Random) -> Self {
        Self { store, clock, random }
    }

    /// Makes a token; the returned secret is kept nowhere.
    ///
    /// # Errors
    /// When the request breaks a rule or the store fails.
    pub async fn create(&self, request: TokenRequest) -> Result<(String, TokenView), AccessError> {
        let secret = self.new_secret();
        // A crash after this leaves a token whose secret nobody has: it lets nobody in.
        let token = self.admit(&secret, request).await?;
        Ok((secret, token))
    }

    /// Makes a secret that lets nobody in yet.
    #[must_use]
    pub fn new_secret(&self) -> String {
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&self.random.bytes::<32>()))
    }

    /// Lets the holder of a new secret in.
    ///
    /// # Errors
    /// When the request breaks a rule or the store fails.
    pub async fn admit(&self, secret: &str, request: TokenRequest) -> Result<TokenView, AccessError> {
        let bad = |text: &str| AccessError::BadRequest(text.to_owned());
        if request.scopes.is_empty() {
            return Err(bad(
                "a token needs at least one scope: read, publish, weigh or admin",
            ));
        }
        let needs_none = |scope: &Scope| matches!(scope, Scope::Admin | Scope::Weigh);
        if !request.scopes.iter().any(needs_none) && request.namespaces.is_empty() {
            return Err(bad(
                "a token without the scope admin or weigh needs at least one namespace",
            ));
        }
        if request.label.len() > 200 || request.namespaces.len() > 200 {
            return Err(bad(
                "a token takes a label of at most 200 bytes and at most 200 namespaces",
            ));
        }
        if request.days.is_some_and(|d| d == 0 || d > DAYS_MAX) {
            return Err(bad("a token lives 1 to 3,650 days, or without end"));
        }
        let now = self.clock.now();
        let mut scopes = request.scopes;
        scopes.sort();
        scopes.dedup();
        let token = TokenView {
            id: HEXLOWER.encode(&self.random.bytes::<8>()),
            label: request.label,
            scopes,
            namespaces: request.namespaces,
            jurisdiction: request.jurisdiction,
            created: now,
            expires: request.days.map(|d| now.plus(u64::from(d) * 86_400)),
        };
        let key = Key::token(&Sha256::of(secret.as_bytes()));
        let bytes = serde_json::to_vec(&token).expect("a token always serialises");
        match self.store.swap_cell(&key, None, Bytes::from(bytes)).await? {
            Swap::Swapped(_) => Ok(token),
            Swap::Lost => Err(AccessError::Taken(key)),
        }
    }

    /// Returns the holder of a secret.
    ///
    /// # Errors
    /// When no valid token has it.
    pub async fn caller(&self, secret: &str) -> Result<Caller, AccessError> {
        // The lookup is by hash, so its timing tells nothing about any stored secret.
        let key = Key::token(&Sha256::of(secret.as_bytes()));
        let token = self.read(&key).await?.ok_or(AccessError::BadToken)?;
        if self.ended(&token, self.clock.now()) {
            return Err(AccessError::BadToken);
        }
        Ok(Caller::with(token))
    }

    /// Returns all tokens that can be read, oldest first. The log names the others.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<TokenView>, AccessError> {
        let mut tokens = Vec::new();
        for key in self.keys().await? {
            tokens.extend(self.read(&key).await?);
        }
        tokens.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(tokens)
    }

    /// Ends a token at once. One that is damaged has no id any more; the last part of its key stands in for it.
    ///
    /// # Errors
    /// When there is none of this id, or the store fails.
    pub async fn revoke(&self, id: &str) -> Result<(), AccessError> {
        for key in self.keys().await? {
            let token = self.read(&key).await?;
            if token.map_or(key.last() == id, |token| token.id == id) {
                return Ok(self.store.delete(&key).await?);
            }
        }
        Err(AccessError::NoToken(id.to_owned()))
    }

    async fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.store.list("tokens/", None, LISTED_MAX).await
    }

    /// Returns the token at this key, unless there is none. A damaged one lets nobody in, and holds up no other.
    async fn read(&self, key: &Key) -> Result<Option<TokenView>, AccessError> {
        let Some(cell) = self.store.read_cell(key).await? else {
            return Ok(None);
        };
        match serde_json::from_slice(&cell.bytes) {
            Ok(token) => Ok(Some(token)),
            Err(error) => {
                tracing::warn!(%key, %error, "a stored token is damaged and counts as revoked");
                Ok(None)
            }
        }
    }

    fn ended(&self, token: &TokenView, now: Timestamp) -> bool {
        token.expires.is_some_and(|end| end <= now)
    }
}
