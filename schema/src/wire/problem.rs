//! What a site answers when it refuses: a code for programs, a sentence for people.

use serde::{Deserialize, Serialize};

/// Why a request was refused, by what the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request breaks a rule; repeating it is of no use.
    Invalid,
    /// A digest does not match the bytes that came.
    DigestMismatch,
    /// The token is missing, unknown or expired.
    Unauthorized,
    /// The token does not allow this.
    Forbidden,
    /// A residency label denies it.
    Denied,
    /// A gate of the namespace: the release has not scored what the tag asks for.
    Gate,
    /// Files of formats that run code are not published here.
    Format,
    /// Nothing of this name, or nothing the caller may know of.
    NotFound,
    /// The name belongs to somebody else.
    Taken,
    /// Others wrote in between: read again, sign again, send again.
    Conflict,
    /// Content that the request needs has not been sent.
    MissingContent,
    /// The body is larger than accepted.
    TooLarge,
    /// Too much at once: wait as `Retry-After` says.
    Busy,
    /// The site has no room.
    Full,
    /// Stored content is damaged; the operator must look.
    Damaged,
    /// The site failed; the request may be repeated.
    Failed,
}

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people: what was tried and what was found.
    pub message: String,
    /// A verdict's reasons, where a label denied; what was found in which file, where a format is refused; what is
    /// required and what was found, at a gate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}
