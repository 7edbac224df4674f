//! From a room's errors to a status, a code and a sentence. The one place that knows both; it also keeps to
//! itself what a caller may not know.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use waag_schema::federation::CharterError;
use waag_schema::statement::namespace::AdmitError;
use waag_schema::wire::{Code, Problem};

use crate::access::AccessError;
use crate::content::ContentError;
use crate::evaluation::JobsError;
use crate::federation::{FederationError, RuleError, SitesError};
use crate::index::{IndexError, Rejection};
use crate::ledger::AppendError;
use crate::publish::PublishError;
use crate::store::StoreError;
use crate::turns::NoTurn;

/// Seconds after which a busy site should be asked again.
const RETRY_SECONDS: &str = "1";

/// An answer that refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    problem: Problem,
    /// Where it is not the one of the problem's code.
    status: Option<StatusCode>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            problem: Problem {
                code,
                message: message.into(),
                reasons: Vec::new(),
            },
            status: None,
        }
    }

    pub(super) fn invalid(error: impl std::fmt::Display) -> Self {
        Self::new(Code::Invalid, error.to_string())
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} here"))
    }

    /// The site's own fault: the log gets the cause, the caller a sentence.
    pub(super) fn failed(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(Code::Failed, "the site failed; its log says why")
    }

    pub(super) fn too_many_connections() -> Self {
        Self::new(Code::Busy, "the site has as many connections as it takes on")
    }

    pub(super) fn too_many_connections_of_one() -> Self {
        Self::new(
            Code::Busy,
            "this address has as many connections as the site takes on from one",
        )
    }

    /// It lives, and cannot do all that it is for.
    pub(super) fn not_ready(why: &str) -> Self {
        Self {
            status: Some(StatusCode::SERVICE_UNAVAILABLE),
            ..Self::new(Code::Full, why)
        }
    }

    pub(super) fn method_not_allowed() -> Self {
        let refusal = Self::invalid("this address does not take that method");
        Self {
            status: Some(StatusCode::METHOD_NOT_ALLOWED),
            ..refusal
        }
    }

    const fn status(&self) -> StatusCode {
        if let Some(status) = self.status {
            return status;
        }
        match self.problem.code {
            Code::Invalid | Code::DigestMismatch => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden | Code::Denied | Code::Gate | Code::Format => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Taken | Code::Conflict => StatusCode::CONFLICT,
            Code::MissingContent => StatusCode::UNPROCESSABLE_ENTITY,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::Full => StatusCode::INSUFFICIENT_STORAGE,
            Code::Damaged | Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let busy = self.problem.code == Code::Busy;
        let mut response = (status, Json(self.problem)).into_response();
        if busy {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"waag\""),
            );
        }
        response
    }
}

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::BadToken => Self::new(Code::Unauthorized, error.to_string()),
            AccessError::BadRequest(_) => Self::invalid(error),
            AccessError::NoToken(_) => Self::new(Code::NotFound, error.to_string()),
            AccessError::Store(error) => error.into(),
            AccessError::Taken(_) => Self::failed(&error),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full(_) => {
                tracing::error!(%error, "the store is full");
                Self::new(Code::Full, "the site has no room; what was sent before is kept")
            }
            error => Self::failed(&error),
        }
    }
}

impl From<NoTurn> for Refusal {
    fn from(error: NoTurn) -> Self {
        Self {
            status: match error {
                NoTurn::Caller => Some(StatusCode::TOO_MANY_REQUESTS),
                NoTurn::Strangers | NoTurn::Site => None,
            },
            ..Self::new(Code::Busy, error.to_string())
        }
    }
}

impl From<IndexError> for Refusal {
    fn from(error: IndexError) -> Self {
        Self::failed(&error)
    }
}

impl From<ContentError> for Refusal {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::NoUpload(_) => Self::new(Code::NotFound, error.to_string()),
            ContentError::Recipe { .. }
            | ContentError::Chunk { .. }
            | ContentError::Safetensors { .. }
            | ContentError::Outside { .. }
            | ContentError::Gguf { .. } => Self::invalid(error),
            ContentError::WrongDigest { .. } => Self::new(Code::DigestMismatch, error.to_string()),
            ContentError::MissingChunk { .. } => Self::new(Code::MissingContent, error.to_string()),
            ContentError::Damaged { .. } => {
                tracing::error!(%error, "stored content is damaged");
                Self::new(Code::Damaged, error.to_string())
            }
            ContentError::Index(error) => error.into(),
            ContentError::Store(error) => error.into(),
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Rejected(Rejection::Index(error)) | AppendError::Index(error) => error.into(),
            AppendError::Rejected(rejection) => rejection.into(),
            AppendError::Statement(error) => Self::invalid(error),
            AppendError::Busy => Self::new(Code::Busy, error.to_string()),
            AppendError::Erased(_) | AppendError::NoEntry(_) => Self::new(Code::NotFound, error.to_string()),
            AppendError::Unknown(_) | AppendError::Stopped(_) => {
                tracing::error!(%error, "statements were not acknowledged");
                Self::new(
                    Code::Busy,
                    "the ledger could not be written just now; send the same again",
                )
            }
            AppendError::Damaged(_) => Self::failed(&error),
            AppendError::Store(error) => error.into(),
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(error: Rejection) -> Self {
        if let Rejection::Gate { unmet, .. } = &error {
            let reasons = unmet.clone();
            return Self {
                problem: Problem {
                    reasons,
                    ..Self::new(Code::Gate, error.to_string()).problem
                },
                status: None,
            };
        }
        let code = match &error {
            Rejection::Admit(AdmitError::Chain(_)) | Rejection::TagMoved { .. } => Code::Conflict,
            Rejection::Admit(AdmitError::Statement(waag_schema::statement::StatementError::Threshold {
                ..
            })) => Code::Forbidden,
            Rejection::Admit(_)
            | Rejection::OtherKind { .. }
            | Rejection::OtherSite(_)
            | Rejection::Withdrawn { .. }
            | Rejection::Erased { .. } => Code::Invalid,
            Rejection::Gate { .. } => Code::Gate,
            Rejection::NoNamespace(_) | Rejection::NoRelease { .. } | Rejection::NotHeld { .. } => {
                Code::NotFound
            }
            Rejection::Taken { .. } => Code::Taken,
            Rejection::Index(error) => return Self::failed(error),
        };
        Self::new(code, error.to_string())
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Forbidden { .. } | PublishError::NotAdmin(_) | PublishError::NotSite => {
                Self::new(Code::Forbidden, error.to_string())
            }
            PublishError::OwnedElsewhere { .. } => Self::new(Code::Taken, error.to_string()),
            PublishError::NotFound(_) => Self::new(Code::NotFound, error.to_string()),
            PublishError::Gates { ref unmet, .. } => Self {
                problem: Problem {
                    code: Code::Gate,
                    message: error.to_string(),
                    reasons: unmet.clone(),
                },
                status: None,
            },
            PublishError::Denied { ref reasons, .. } => {
                let reasons = reasons.clone();
                Self {
                    problem: Problem {
                        code: Code::Denied,
                        message: error.to_string(),
                        reasons,
                    },
                    status: None,
                }
            }
            PublishError::Silent { .. } | PublishError::Distrusted { .. } => {
                Self::new(Code::Denied, error.to_string())
            }
            PublishError::Coming { .. } | PublishError::TooOften => Self::new(Code::Busy, error.to_string()),
            PublishError::Format(ref refused) => Self {
                problem: Problem {
                    code: Code::Format,
                    message: error.to_string(),
                    reasons: refused.iter().map(ToString::to_string).collect(),
                },
                status: None,
            },
            PublishError::Manifest(_)
            | PublishError::Files(_)
            | PublishError::Statement(_)
            | PublishError::Mismatch(_) => Self::invalid(error),
            PublishError::MissingContent { .. } => Self::new(Code::MissingContent, error.to_string()),
            PublishError::Content(error) => error.into(),
            PublishError::Append(error) => error.into(),
            PublishError::Index(error) => error.into(),
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<SitesError> for Refusal {
    fn from(error: SitesError) -> Self {
        match error {
            SitesError::NoPeer(_) => Self::new(Code::NotFound, error.to_string()),
            SitesError::NotHeld(_) => Self::new(Code::NotFound, error.to_string()),
            SitesError::TooFew { ref reasons, .. } => Self {
                problem: Problem {
                    code: Code::Denied,
                    message: error.to_string(),
                    reasons: reasons.clone(),
                },
                status: None,
            },
            SitesError::Going(_) => Self::new(Code::Conflict, error.to_string()),
            SitesError::Drop(_) | SitesError::Itself(_) | SitesError::Rule(RuleError::Bad(_)) => {
                Self::invalid(error)
            }
            SitesError::Rule(RuleError::Busy) => Self::new(Code::Conflict, error.to_string()),
            SitesError::Rule(RuleError::Store(error)) | SitesError::Store(error) => error.into(),
            SitesError::Append(error) => error.into(),
            SitesError::Content(error) => error.into(),
            SitesError::Index(error) => error.into(),
            SitesError::Follow(_) | SitesError::Fetch(_) | SitesError::Io { .. } => Self::failed(&error),
        }
    }
}

impl From<JobsError> for Refusal {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::Forbidden => Self::new(Code::Forbidden, error.to_string()),
            JobsError::Gone => Self::new(Code::Conflict, error.to_string()),
            JobsError::Answer(_) => Self::invalid(error),
            JobsError::Index(error) => error.into(),
            JobsError::Store(error) => error.into(),
            JobsError::Append(error) => error.into(),
        }
    }
}

impl From<FederationError> for Refusal {
    fn from(error: FederationError) -> Self {
        let code = match &error {
            FederationError::NotAdmin | FederationError::Charter(CharterError::Threshold { .. }) => {
                Code::Forbidden
            }
            FederationError::NotFound(_) => Code::NotFound,
            FederationError::Fork { .. } => Code::Conflict,
            FederationError::Nothing
            | FederationError::Charter(_)
            | FederationError::Expired { .. }
            | FederationError::NotNamed(_)
            | FederationError::Differs { .. } => Code::Invalid,
            FederationError::Damaged { .. } => return Self::failed(&error),
            FederationError::Append(_) | FederationError::Index(_) | FederationError::Store(_) => {
                return match error {
                    FederationError::Append(error) => error.into(),
                    FederationError::Store(error) => error.into(),
                    error => Self::failed(&error),
                };
            }
        };
        Self::new(code, error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Code::TooLarge
        } else {
            Code::Invalid
        };
        Self::new(code, rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(rejection.body_text())
    }
}
