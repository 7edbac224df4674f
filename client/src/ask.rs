//! A question to a site: what is asked, and what has to be known to ask it well.
//!
//! Keeps: what is not said to be repeatable is asked once. How it is asked is [`crate::transport`]'s.

use std::ops::Range;

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<(&'static str, Bytes)>,
    /// Whether the body is content, which leaves in pieces.
    pub(crate) content: bool,
    /// What is waited for, in words.
    pub(crate) what: Option<String>,
    pub(crate) range: Option<Range<u64>>,
    pub(crate) repeatable: bool,
    /// Whether it is asked without the token.
    pub(crate) anonymous: bool,
    pub(crate) work_bytes: u64,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            body: None,
            content: false,
            what: None,
            range: None,
            repeatable: true,
            anonymous: false,
            work_bytes: 0,
        }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self {
            method: Method::DELETE,
            ..Self::get(path)
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("bodies hold only strings, numbers, lists and objects");
        Self {
            method: Method::POST,
            body: Some(("application/json", bytes.into())),
            ..Self::get(path)
        }
    }

    pub(crate) fn post_bytes(path: impl Into<String>, content_type: &'static str, bytes: Bytes) -> Self {
        Self {
            method: Method::POST,
            body: Some((content_type, bytes)),
            content: true,
            ..Self::get(path)
        }
    }

    /// Asks for these bytes only, of which there is at least one.
    pub(crate) fn range(self, range: Range<u64>) -> Self {
        Self {
            range: Some(range),
            ..self
        }
    }

    /// Says what is waited for.
    pub(crate) fn called(self, what: impl Into<String>) -> Self {
        Self {
            what: Some(what.into()),
            ..self
        }
    }

    /// Forbids to repeat the request when it is not known whether it was done.
    pub(crate) fn once(self) -> Self {
        Self {
            repeatable: false,
            ..self
        }
    }

    /// Asks as anybody may, of whoever answers.
    pub(crate) fn anonymous(self) -> Self {
        Self {
            anonymous: true,
            ..self
        }
    }

    /// Says how many bytes the site has to read before it can answer.
    pub(crate) fn work(self, bytes: u64) -> Self {
        Self {
            work_bytes: bytes,
            ..self
        }
    }
}
