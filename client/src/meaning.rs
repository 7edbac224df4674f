//! What a site's refusal asks of the caller.
//!
//! Keeps: every code of the wire has one meaning, wherever it is answered. Which answers are refusals is
//! [`crate::transport`]'s to see.

use waag_schema::wire::{Code, Problem};

use crate::error::ClientError;
use crate::url::SiteUrl;

/// Says what a refusal asks of the caller.
pub(crate) fn meaning(problem: Problem, url: &SiteUrl, path: &str) -> ClientError {
    let Problem { message, reasons, .. } = problem;
    match problem.code {
        Code::Unauthorized => ClientError::Unauthorized(message),
        Code::Forbidden => ClientError::Forbidden(message),
        Code::Denied => ClientError::Denied { message, reasons },
        // A list of artifacts shows nothing of entries and tokens.
        Code::NotFound if path.starts_with("/ledger/") => ClientError::Absent(message),
        Code::NotFound if path.starts_with("/api/v1/ledger/") => ClientError::Absent(message),
        Code::NotFound if path.starts_with("/api/v1/tokens/") => ClientError::Absent(message),
        Code::Format => ClientError::RunsCode(reasons),
        Code::NotFound => ClientError::NotFound(message),
        Code::Taken => ClientError::Taken(message),
        // Nobody wrote in between: root keys have signed two charters.
        Code::Conflict if path == "/api/v1/charter" => ClientError::verification("charter", message),
        Code::Conflict => ClientError::Conflict(message),
        Code::Busy => ClientError::Unreachable {
            url: url.to_string(),
            reason: message,
        },
        code => ClientError::Refused(Problem {
            code,
            message,
            reasons,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_mean_what_the_caller_must_do() {
        let url: SiteUrl = "http://127.0.0.1:1".parse().unwrap();
        let said_of = |path, code| {
            let problem = Problem {
                code,
                message: "m".to_owned(),
                reasons: vec!["r".to_owned()],
            };
            meaning(problem, &url, path)
        };
        let said = |code| said_of("/api/v1/artifacts/acme/tiny", code);
        assert!(matches!(said(Code::Denied), ClientError::Denied { reasons, .. } if reasons == ["r"]));
        assert!(matches!(said(Code::NotFound), ClientError::NotFound(_)));
        for path in [
            "/ledger/1/tile/0/000",
            "/api/v1/ledger/entries/7",
            "/api/v1/tokens/00",
        ] {
            assert!(matches!(said_of(path, Code::NotFound), ClientError::Absent(_)));
        }
        assert!(matches!(said(Code::Conflict), ClientError::Conflict(_)));
        assert!(matches!(said(Code::MissingContent), ClientError::Refused(_)));
    }
}
