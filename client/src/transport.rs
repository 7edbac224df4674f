//! Requests to one address: how long they may take, and when they are repeated.
//!
//! A request is repeated only where that is harmless: when it never left (connection refused), when the site
//! says that it did nothing (429, 503), or when it may be done twice; what is signed is sent once, since what
//! the ledger says then decides. A request fails when nothing moves, not when it takes long. Redirects are
//! refused: a token goes where it was meant to go, and where a site is pinned only once it has
//! [shown](crate::trust) to be it: one more question in the life of a process. Proxies are taken as `reqwest` finds them, but never for
//! this machine's own addresses. Connections and their pace are the `line` module's.

mod attempt;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{DATE, HeaderValue};
use serde::de::DeserializeOwned;
use waag_schema::Timestamp;
use waag_schema::ledger::SignedCheckpoint;
use waag_schema::ledger::note::NOTE_BYTES_MAX;

pub(crate) use self::attempt::told;
use self::attempt::{Failure, stalled};
pub use self::settings::Settings;
use crate::ask::Ask;
use crate::doctor::http_date;
use crate::error::{ClientError, Result};
use crate::event::Event;
use crate::home::Secret;
use crate::line::Line;
use crate::pace::Pace;
use crate::trust::{Pin, Shown, signed_by};
use crate::url::SiteUrl;

/// The largest JSON answer that is read: a manifest of 4 MiB with its proofs has less than a quarter.
const ANSWER_MAX_BYTES: usize = 64 << 20;
/// How often a request is tried in all, where somebody answers at least now and then.
const ATTEMPTS_MAX: u32 = 5;
/// How often a site may say that it has too much to do.
const BUSY_ATTEMPTS_MAX: u32 = 10;
/// The wait before the second attempt; it doubles each time.
const WAIT_FIRST: Duration = Duration::from_millis(250);
/// The longest wait while nobody answers: who comes back is soon found.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// A site may ask for a longer wait than ours, but not for any wait.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Makes requests to one address.
#[derive(Clone)]
pub(crate) struct Transport {
    line: Arc<Line>,
    url: SiteUrl,
    settings: Settings,
    authorization: Option<HeaderValue>,
    /// Who must have shown to be the one that is meant, if that is known.
    expected: Option<Arc<Shown>>,
}

/// An answer that has begun.
pub(crate) struct Answer {
    response: Response,
    /// Over which connections it comes.
    generation: u32,
    what: Option<String>,
}

impl Transport {
    /// Prepares requests; nothing is sent yet.
    ///
    /// # Errors
    /// When a token would cross the network in plain text, or holds what no header may hold.
    pub(crate) fn new(url: &SiteUrl, token: Option<&Secret>, settings: &Settings) -> Result<Self> {
        let authorization = token
            .map(|token| authorization(url, token, settings))
            .transpose()?;
        Ok(Self {
            line: Line::new(url, settings)?,
            url: url.clone(),
            settings: settings.clone(),
            authorization,
            expected: None,
        })
    }

    /// Asks nothing of whoever answers before they have shown to be this site.
    pub(crate) fn expecting(self, pin: &Pin) -> Self {
        Self {
            expected: Some(Arc::new(Shown::not_yet(pin.clone()))),
            ..self
        }
    }

    /// Asks for the newest checkpoint, without the token: this site has signed it.
    pub(crate) async fn newest(&self, pin: &Pin) -> Result<SignedCheckpoint> {
        let ask = Ask::get("/ledger/checkpoint").anonymous();
        let answer = self.read(&ask, NOTE_BYTES_MAX).await;
        let signed = signed_by(pin, &self.url, answer)?;
        if let Some(expected) = &self.expected {
            expected.done();
        }
        Ok(signed)
    }

    async fn meet(&self) -> Result<()> {
        match &self.expected {
            Some(expected) => expected.once(async |pin| self.newest(pin).await).await,
            None => Ok(()),
        }
    }

    pub(crate) const fn url(&self) -> &SiteUrl {
        &self.url
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks, and reads the answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, ask: Ask) -> Result<T> {
        let url = self.url.at(&ask.path);
        let bytes = self.bytes(ask, ANSWER_MAX_BYTES).await?;
        serde_json::from_slice(&bytes).map_err(|e| ClientError::Answer {
            url,
            reason: e.to_string(),
        })
    }

    /// Asks, and reads the answer's bytes.
    pub(crate) async fn bytes(&self, ask: Ask, limit: usize) -> Result<Vec<u8>> {
        self.meet().await?;
        self.read(&ask, limit).await
    }

    async fn read(&self, ask: &Ask, limit: usize) -> Result<Vec<u8>> {
        self.repeat(ask, async || {
            let answer = self.attempt(ask).await?;
            self.collect(ask, answer, limit).await
        })
        .await
    }

    /// Returns what time it is for the site, if it says so.
    pub(crate) async fn date(&self) -> Result<Option<Timestamp>> {
        let answer = self.stream(Ask::get("/healthz")).await?;
        let date = answer.response.headers().get(DATE);
        Ok(date.and_then(|date| http_date(date.to_str().ok()?)))
    }

    /// Asks, and returns the answer as soon as it begins; [`Self::next_bytes`] reads on.
    pub(crate) async fn stream(&self, ask: Ask) -> Result<Answer> {
        self.meet().await?;
        self.repeat(&ask, async || self.attempt(&ask).await).await
    }

    /// Returns how many requests should be under way at once, and runs them.
    pub(crate) fn pace(&self) -> &Pace {
        &self.line.pace
    }

    /// Returns the next bytes of an answer, none at its end.
    pub(crate) async fn next_bytes(&self, answer: &mut Answer) -> Result<Option<Bytes>> {
        let next = tokio::time::timeout(self.settings.idle_timeout, answer.response.chunk()).await;
        let reason = match next {
            Ok(Ok(bytes)) => {
                self.line.moved(bytes.as_ref().map_or(0, Bytes::len)).await;
                return Ok(bytes);
            }
            Ok(Err(e)) => told(&e),
            Err(_) => {
                self.line.stalled(answer.generation);
                stalled(self.settings.idle_timeout, answer.what.as_deref())
            }
        };
        Err(ClientError::Unreachable {
            url: answer.response.url().to_string(),
            reason,
        })
    }

    async fn repeat<T>(&self, ask: &Ask, attempt: impl AsyncFn() -> Result<T, Failure>) -> Result<T> {
        let mut tried = 0;
        loop {
            let failure = match attempt().await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            tried += 1;
            let worth = if failure.connecting {
                self.line.patient(tried)
            } else if failure.undone {
                tried < BUSY_ATTEMPTS_MAX
            } else {
                tried < ATTEMPTS_MAX
            };
            let harmless = failure.undone || ask.repeatable;
            if !failure.passing || !harmless || !worth {
                return Err(failure.error);
            }
            let most = if failure.connecting {
                CONNECT_WAIT_MAX
            } else {
                WAIT_MAX
            };
            self.wait_at_most(most, &ask.path, tried, failure.wait, &failure.error)
                .await;
        }
    }

    /// Waits before another attempt, longer each time.
    pub(crate) async fn wait(&self, path: &str, tried: u32, asked: Option<Duration>, error: &ClientError) {
        self.wait_at_most(WAIT_MAX, path, tried, asked, error).await;
    }

    async fn wait_at_most(
        &self,
        most: Duration,
        path: &str,
        tried: u32,
        asked: Option<Duration>,
        error: &ClientError,
    ) {
        let ours = WAIT_FIRST * 2_u32.saturating_pow(tried.saturating_sub(1).min(16));
        let wait = asked.unwrap_or(ours).clamp(WAIT_FIRST, most);
        if self.line.announce() {
            (self.settings.progress)(Event::Retrying {
                url: self.url.at(path),
                reason: error.to_string(),
                wait,
            });
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where a client waits for a site to come back"
        )]
        tokio::time::sleep(wait).await;
    }

    async fn collect(&self, ask: &Ask, mut answer: Answer, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        loop {
            let next = self.next_bytes(&mut answer).await.map_err(|error| Failure {
                passing: true,
                ..Failure::lasting(error)
            })?;
            let Some(next) = next else { return Ok(bytes) };
            if bytes.len() + next.len() > limit {
                return Err(Failure::lasting(ClientError::Answer {
                    url: self.url.at(&ask.path),
                    reason: format!("it has more than {limit} bytes"),
                }));
            }
            bytes.extend_from_slice(&next);
        }
    }
}

fn authorization(url: &SiteUrl, token: &Secret, settings: &Settings) -> Result<HeaderValue> {
    if !url.takes_tokens() && !settings.insecure {
        return Err(ClientError::Insecure { url: url.to_string() });
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| ClientError::Usage("the token holds characters that no token has".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_sent_in_plain_text_to_another_machine() {
        let token = Secret::new("waag_x");
        let far: SiteUrl = "http://waag.example".parse().unwrap();
        let near: SiteUrl = "http://127.0.0.1:1".parse().unwrap();
        let settings = Settings::default();
        assert!(matches!(
            Transport::new(&far, Some(&token), &settings),
            Err(ClientError::Insecure { .. })
        ));
        assert!(Transport::new(&far, None, &settings).is_ok());
        assert!(Transport::new(&near, Some(&token), &settings).is_ok());
        let insecure = Settings {
            insecure: true,
            ..settings
        };
        assert!(Transport::new(&far, Some(&token), &insecure).is_ok());
    }
}
