//! One attempt of a request: sent, waited for as long as something moves, and what its failure means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER,
};
use tokio::time::Instant;
use waag_schema::wire::Problem;

use super::{Answer, Transport};
use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::line::in_pieces;
use crate::meaning::meaning;

/// A refusal is short.
const PROBLEM_MAX_BYTES: usize = 1 << 20;

/// A site's disk hashes at least this fast; so long may a request take that makes it hash.
const WORK_BYTES_PER_SECOND: u64 = 20 << 20;

/// A network is at least this fast; so long may a body take to leave.
const SEND_BYTES_PER_SECOND: u64 = 64 << 10;

/// Content leaves in pieces of this size, so that it is seen whether anything moves.
const PIECE_BYTES: usize = 64 << 10;

/// How one attempt failed.
pub(super) struct Failure {
    pub(super) error: ClientError,
    /// Whether it is known that nothing was done.
    pub(super) undone: bool,
    /// Whether trying again could help at all.
    pub(super) passing: bool,
    pub(super) connecting: bool,
    /// What the site asked for.
    pub(super) wait: Option<Duration>,
}

impl Failure {
    pub(super) fn lasting(error: ClientError) -> Self {
        Self {
            error,
            undone: false,
            passing: false,
            connecting: false,
            wait: None,
        }
    }
}

/// Waits for an answer as long as something moves; none when nothing did for the time that is allowed.
async fn while_moving<T>(
    moved: &Mutex<Instant>,
    allowed: Duration,
    sending: impl Future<Output = T>,
) -> Option<T> {
    let mut sending = std::pin::pin!(sending);
    loop {
        let until = *moved.lock().unwrap_or_else(PoisonError::into_inner) + allowed;
        match tokio::time::timeout_at(until, sending.as_mut()).await {
            Ok(sent) => return Some(sent),
            Err(_) if *moved.lock().unwrap_or_else(PoisonError::into_inner) + allowed > until => {}
            Err(_) => return None,
        }
    }
}

pub(super) fn stalled(after: Duration, what: Option<&str>) -> String {
    let what = what.map(|what| format!(" while waiting for {what}"));
    format!(
        "nothing came for {} s{}",
        after.as_secs(),
        what.unwrap_or_default()
    )
}

/// The error with its causes: the first words of `reqwest` alone say little.
pub(crate) fn told(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = next {
        let words = one.to_string();
        if !text.contains(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = one.source();
    }
    text
}

impl Transport {
    pub(super) async fn attempt(&self, ask: &Ask) -> Result<Answer, Failure> {
        let url = self.url.at(&ask.path);
        let mut headers = HeaderMap::new();
        if let Some(value) = self.authorization.as_ref().filter(|_| !ask.anonymous) {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if let Some(range) = &ask.range {
            // Digits are a header's value.
            headers.extend(
                HeaderValue::from_str(&format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
                    .map(|value| (RANGE, value)),
            );
        }
        let (http, generation) = self.line.connections();
        let mut request = http.request(ask.method.clone(), &url);
        let mut allowed = self.settings.connect_timeout
            + self.settings.idle_timeout
            + Duration::from_secs(ask.work_bytes / WORK_BYTES_PER_SECOND);
        let moved = Arc::new(Mutex::new(Instant::now()));
        if let Some((content_type, bytes)) = &ask.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            request = if ask.content {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                let mark = Arc::clone(&moved);
                let mark = move || *mark.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                request.body(in_pieces(
                    Arc::clone(&self.line),
                    bytes.clone(),
                    PIECE_BYTES,
                    mark,
                ))
            } else {
                allowed += Duration::from_secs(bytes.len() as u64 / SEND_BYTES_PER_SECOND);
                request.body(bytes.clone())
            };
        }
        let sent = while_moving(&moved, allowed, request.headers(headers).send()).await;
        let response = match sent {
            Some(Ok(response)) => response,
            Some(Err(e)) => {
                return Err(Failure {
                    undone: e.is_connect(),
                    passing: !e.is_builder(),
                    connecting: e.is_connect(),
                    wait: None,
                    error: ClientError::Unreachable {
                        url,
                        reason: told(&e),
                    },
                });
            }
            None => {
                self.line.stalled(generation);
                let reason = stalled(allowed, ask.what.as_deref());
                return Err(Failure {
                    passing: true,
                    ..Failure::lasting(ClientError::Unreachable { url, reason })
                });
            }
        };
        let well = response.status().is_success();
        self.line.answered(well);
        let answer = Answer {
            response,
            generation,
            what: ask.what.clone(),
        };
        if well {
            return Ok(answer);
        }
        Err(self.refused(ask, answer).await)
    }

    async fn refused(&self, ask: &Ask, answer: Answer) -> Failure {
        let url = self.url.at(&ask.path);
        let status = answer.response.status();
        let wait = answer
            .response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = match self.collect(ask, answer, PROBLEM_MAX_BYTES).await {
            Ok(body) => body,
            Err(failure) => return failure,
        };
        let error = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => meaning(problem, &self.url, &ask.path),
            // A proxy answers for a site that is not there.
            Err(_) if status.is_server_error() => ClientError::Unreachable {
                url,
                reason: format!("it answered {status}"),
            },
            Err(_) if status == StatusCode::NOT_FOUND => ClientError::Answer {
                url,
                reason: "there is no such address; is it a waag site?".to_owned(),
            },
            Err(_) => ClientError::Answer {
                url,
                reason: format!("it answered {status}"),
            },
        };
        let undone = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        if undone {
            self.line.pace.trouble();
        }
        let passing = undone || matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT);
        Failure {
            undone,
            passing,
            wait,
            ..Failure::lasting(error)
        }
    }
}
