//! A site at an address, asked over HTTP with signed requests.
//!
//! Only the address that the charter names is asked; no redirect is followed; every answer has a size that it cannot
//! exceed and a time in which it has to move. What is signed does not cross a network in clear text: without TLS only
//! this machine is asked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use waag_schema::base::key::KeyPair;
use waag_schema::content::challenge::{Answer, Challenge};
use waag_schema::content::frame::FrameDecoder;
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::{PackPath, TilePath};
use waag_schema::wire::artifact::{ChunksRequest, Recipes, RecipesRequest, Resolved};
use waag_schema::wire::federation::{Answered, Checkpoints};
use waag_schema::wire::ledger::StreamView;
use waag_schema::wire::request::{CONTENT_DIGEST, Claims, Covered, SIGNATURE, SIGNATURE_INPUT};
use waag_schema::wire::{Code, FRAMES_SIZE_MAX, Problem, note_tag};
use waag_schema::{ArtifactName, Sha256, SiteId};

use super::exchange::CHECKPOINTS_BYTES_MAX;
use super::peer::{Peer, PeerError, PeerSite, SentChunk};
use crate::clock::Clock;
use crate::random::Random;

/// The largest JSON answer.
const ANSWER_MAX: usize = 64 << 20;
/// The largest pack: 256 openings of half a megabyte.
const PACK_MAX: usize = 160 << 20;
/// The largest details of a scorecard.
const DETAILS_MAX: usize = 16 << 20;
const JSON: &str = "application/json";
/// How long a connection may take, and how long nothing may move.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Asks one site over HTTP.
pub struct RemotePeer {
    http: reqwest::Client,
    base: Url,
    authority: String,
    own: SiteId,
    key: Arc<KeyPair>,
    clock: Arc<dyn Clock>,
    random: Random,
}

impl RemotePeer {
    /// Prepares to ask a site in the name of another one, which signs with this key.
    ///
    /// # Errors
    /// When the address is none, or a signed request would cross a network in clear text.
    pub fn new(
        site: &PeerSite,
        (own, key): (SiteId, Arc<KeyPair>),
        clock: Arc<dyn Clock>,
        random: Random,
    ) -> Result<Self, PeerError> {
        let bad = |reason: &str| PeerError::Unreachable(format!("{}: {reason}", site.url));
        let base = Url::parse(&site.url).map_err(|_| bad("no address"))?;
        let host = base.host_str().ok_or_else(|| bad("no address"))?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let loopback =
            bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if base.scheme() != "https" && !loopback {
            return Err(bad("not https, and not this machine"));
        }
        // An error says that the program around us has chosen a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("waag/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(IDLE_MAX);
        if loopback {
            builder = builder.no_proxy();
        }
        Ok(Self {
            http: builder.build().map_err(|e| bad(&e.to_string()))?,
            authority: base
                .port()
                .map_or_else(|| host.clone(), |port| format!("{host}:{port}")),
            base,
            own,
            key,
            clock,
            random,
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
        known: Option<&str>,
    ) -> Result<Response, PeerError> {
        let unreachable = |e: reqwest::Error| PeerError::Unreachable(e.without_url().to_string());
        let below = self.base.path().trim_end_matches('/');
        let path = format!("{below}{path}");
        let mut url = self.base.clone();
        url.set_path(&path);
        let claims = Claims {
            site: self.own.clone(),
            created: self.clock.now(),
            nonce: self.random.bytes(),
        };
        let covered = Covered {
            method: method.as_str(),
            authority: &self.authority,
            path: url.path(),
            query: None,
            body: body.as_ref().map(|(_, bytes)| bytes.as_slice()),
        };
        let signed = claims.sign(&covered, &self.key);
        let mut request = self
            .http
            .request(method, url.clone())
            .header(SIGNATURE_INPUT, signed.input)
            .header(SIGNATURE, signed.signature);
        if let Some(digest) = signed.content_digest {
            request = request.header(CONTENT_DIGEST, digest);
        }
        if let Some(known) = known {
            request = request.header(IF_NONE_MATCH, known);
        }
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK | StatusCode::NOT_MODIFIED => Ok(response),
            status => Err(refusal(status, response).await),
        }
    }

    async fn bytes(&self, path: &str, limit: usize) -> Result<Bytes, PeerError> {
        read(self.ask(Method::GET, path, None, None).await?, limit).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, PeerError> {
        let odd = |e: serde_json::Error| PeerError::Odd(e.to_string());
        let body = body.map(serde_json::to_vec).transpose().map_err(odd)?;
        let body = body.map(|bytes| (JSON, bytes));
        let bytes = read(self.ask(method, path, body, None).await?, ANSWER_MAX).await?;
        serde_json::from_slice(&bytes).map_err(odd)
    }
}

/// Reads a body that may have so many bytes.
async fn read(mut response: Response, limit: usize) -> Result<Bytes, PeerError> {
    let mut bytes = BytesMut::new();
    loop {
        let next = response.chunk().await;
        match next.map_err(|e| PeerError::Unreachable(e.without_url().to_string()))? {
            Some(more) if bytes.len() + more.len() > limit => {
                return Err(PeerError::Odd(format!("an answer of more than {limit} bytes")));
            }
            Some(more) => bytes.extend_from_slice(&more),
            None => return Ok(bytes.freeze()),
        }
    }
}

async fn refusal(status: StatusCode, response: Response) -> PeerError {
    let problem = match read(response, 1 << 20).await {
        Ok(bytes) => serde_json::from_slice::<Problem>(&bytes).ok(),
        Err(error) => return error,
    };
    match problem {
        Some(Problem {
            code: Code::Denied,
            message,
            reasons,
        }) => PeerError::Denied { message, reasons },
        Some(problem) if problem.code == Code::NotFound => {
            // Said of this site it is "there is no ... here"; of that one, "it has no ...".
            let what = problem.message.strip_prefix("there is no ");
            let what = what.map(|what| what.strip_suffix(" here").unwrap_or(what));
            PeerError::Absent(what.unwrap_or(&problem.message).to_owned())
        }
        Some(problem) => PeerError::Unreachable(format!("{status}: {}", problem.message)),
        None => PeerError::Unreachable(status.to_string()),
    }
}

#[async_trait]
impl Peer for RemotePeer {
    async fn checkpoint(&self, series: Option<u32>, known: Option<&str>) -> Result<Option<Bytes>, PeerError> {
        let path = match series {
            Some(series) => format!("/ledger/{series}/checkpoint"),
            None => "/ledger/checkpoint".to_owned(),
        };
        let tag = known.map(note_tag);
        let response = self.ask(Method::GET, &path, None, tag.as_deref()).await?;
        if response.status() == StatusCode::NOT_MODIFIED {
            // It says so of the very note that was named, or it says nothing.
            let same = response.headers().get(ETAG).and_then(|found| found.to_str().ok());
            return match tag {
                Some(tag) if same == Some(tag.as_str()) => Ok(None),
                _ => Err(PeerError::Odd(
                    "nothing was modified of what was not asked for".to_owned(),
                )),
            };
        }
        read(response, NOTE_BYTES_MAX).await.map(Some)
    }

    async fn cosign(&self, note: &str) -> Result<(), PeerError> {
        let body = ("text/plain; charset=utf-8", note.as_bytes().to_vec());
        let response = self.ask(Method::POST, "/ledger/cosign", Some(body), None).await?;
        read(response, 1 << 10).await.map(drop)
    }

    async fn site_key(&self) -> Result<Bytes, PeerError> {
        self.bytes("/ledger/site-key", NOTE_BYTES_MAX).await
    }

    async fn tile(&self, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        self.bytes(&format!("/ledger/{series}/{path}"), path.byte_len())
            .await
    }

    async fn streams(&self) -> Result<Vec<StreamView>, PeerError> {
        match self.json(Method::GET, "/ledger/streams", None::<&()>).await {
            // It knows of no such thing, so it has none for us.
            Err(PeerError::Absent(_)) => Ok(Vec::new()),
            found => found,
        }
    }

    async fn pack(&self, series: u32, path: &PackPath) -> Result<Bytes, PeerError> {
        self.bytes(&format!("/ledger/{series}/{path}"), PACK_MAX).await
    }

    async fn manifest(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Bytes, PeerError> {
        let path = format!("/api/v1/artifacts/{artifact}/resolve/{manifest}");
        let resolved: Resolved = self.json(Method::GET, &path, None::<&()>).await?;
        Ok(resolved.manifest.0.into())
    }

    async fn scorecard(&self, artifact: &ArtifactName, details: &Sha256) -> Result<Bytes, PeerError> {
        let path = format!("/api/v1/artifacts/{artifact}/scorecards/{details}");
        self.bytes(&path, DETAILS_MAX).await
    }

    async fn recipes(&self, artifact: &ArtifactName, files: &[Sha256]) -> Result<Vec<Bytes>, PeerError> {
        let path = format!("/api/v1/artifacts/{artifact}/recipes");
        let request = RecipesRequest {
            files: files.to_vec(),
        };
        let recipes: Recipes = self.json(Method::POST, &path, Some(&request)).await?;
        Ok(recipes
            .recipes
            .into_iter()
            .map(|recipe| recipe.0.into())
            .collect())
    }

    async fn chunks(
        &self,
        artifact: &ArtifactName,
        request: &ChunksRequest,
    ) -> Result<Vec<SentChunk>, PeerError> {
        let path = format!("/api/v1/artifacts/{artifact}/chunks");
        let body = serde_json::to_vec(request).map_err(|e| PeerError::Odd(e.to_string()))?;
        let response = self.ask(Method::POST, &path, Some((JSON, body)), None).await?;
        let bytes = read(response, FRAMES_SIZE_MAX).await?;
        let odd = |e: waag_schema::content::frame::FrameError| PeerError::Odd(e.to_string());
        let (mut decoder, mut rest, mut chunks) = (FrameDecoder::new(), bytes.as_ref(), Vec::new());
        while let Some(frame) = decoder.next_frame(&mut rest).map_err(odd)? {
            chunks.push((frame.chunk, Bytes::from(frame.stored)));
        }
        decoder.finish().map_err(odd)?;
        Ok(chunks)
    }

    async fn challenge(&self, artifact: &ArtifactName, challenge: &Challenge) -> Result<Answer, PeerError> {
        let path = format!("/api/v1/artifacts/{artifact}/challenge");
        let answered: Answered = self.json(Method::POST, &path, Some(challenge)).await?;
        Ok(answered.answer)
    }

    async fn checkpoints(&self) -> Result<Vec<String>, PeerError> {
        let path = "/api/v1/federation/checkpoints";
        let bytes = self.bytes(path, CHECKPOINTS_BYTES_MAX).await?;
        let told: Result<Checkpoints, _> = serde_json::from_slice(&bytes);
        told.map(|told| told.checkpoints)
            .map_err(|e| PeerError::Odd(e.to_string()))
    }

    async fn tile_of(&self, site: &SiteId, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        self.bytes(&format!("/ledger/of/{site}/{series}/{path}"), path.byte_len())
            .await
    }
}
