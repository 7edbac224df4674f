//! A pinned site: its address, the token for it, and what can be asked of it.
//!
//! Answers are returned as they come; what they claim is checked by [`crate::proof`] and by the verbs. Only
//! checkpoints are judged here, because each of them must continue what this site signed before.

use bytes::Bytes;
use waag_schema::base::name::Version;
use waag_schema::ledger::merkle::{consistency_nodes, prove_consistency, verify_consistency};
use waag_schema::ledger::note::NOTE_BYTES_MAX;
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{Checkpoint, LedgerError, SignedCheckpoint, TilePath, TileSource, entry_number};
use waag_schema::statement::{Envelope, NamespaceState, Predicate, Successor};
use waag_schema::wire::FRAMES_TYPE;
use waag_schema::wire::artifact::{
    ArtifactView, ChunksRequest, Labels, Proof, Recipes, RecipesRequest, Resolved,
};
use waag_schema::wire::site::{CharterRequest, CharterView, NamespaceRequest, NamespaceView, SiteView};
use waag_schema::wire::token::{TokenCreated, TokenRequest, TokenView, WhoAmI};
use waag_schema::wire::upload::{
    ChunksReceived, FileRecipe, PlanAnswer, PlanRequest, PublishRequest, StatementsRequest, UploadRequest,
    UploadView,
};
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId};

use crate::ask::Ask;
use crate::error::{ClientError, Result};
use crate::event::Progress;
use crate::home::{Home, Secret};
use crate::proof::{self, Proven};
use crate::said;
use crate::transport::{Answer, Settings, Transport};
use crate::trust::{Pin, Pinning, Standing, Trust};
use crate::url::SiteUrl;

/// A pinned site. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    pin: Pin,
    trust: Trust,
    transport: Transport,
    /// Set where the site at this address is not the pinned one, but holds copies of what that records.
    copy: bool,
}

/// What a login found and kept.
#[derive(Debug, Clone)]
pub struct Login {
    /// The site.
    pub pin: Pin,
    /// Whether it was pinned just now.
    pub new: bool,
    /// What the token allows.
    pub who: WhoAmI,
}

/// Asks whoever answers at an address who they are. Nothing is believed or kept.
///
/// # Errors
/// When nobody answers, or what they say does not hold together.
pub async fn contact(url: &SiteUrl, settings: &Settings) -> Result<SiteView> {
    let transport = Transport::new(url, None, settings)?;
    let view: SiteView = transport.json(Ask::get("/api/v1/site")).await?;
    Pin::of(&view, url)?;
    Ok(view)
}

/// Pins a site, checks a token with it and keeps that; the site becomes the one that is meant when none is
/// named. Without a token the site is only pinned.
///
/// # Errors
/// When the site is not to be believed (see [`Trust::decide`]), or does not know the token; nothing of the
/// token is kept then.
pub async fn login(
    home: &Home,
    url: &SiteUrl,
    pinning: &Pinning,
    token: Option<&Secret>,
    settings: &Settings,
) -> Result<Login> {
    // Whether the token may cross is settled before anything is said.
    Transport::new(url, token, settings)?;
    let view = contact(url, settings).await?;
    let (pin, new) = Trust::new(home.clone()).decide(&view, url, pinning)?;
    let site = Site::open(home, url, token, settings)?;
    site.observe_newest().await?;
    let who = site.whoami().await?;
    if let Some(token) = token {
        home.set_token(&pin.site, token)?;
    }
    home.set_default_site(url)?;
    Ok(Login { pin, new, who })
}

impl Site {
    /// Opens a pinned site; nothing is sent yet. Without a token, the one kept for it is used, if any. Before anything
    /// else is asked, whoever answers has to show a checkpoint that this site signed.
    ///
    /// # Errors
    /// When no site is pinned for the address, or the token may not cross to it.
    pub fn open(home: &Home, url: &SiteUrl, token: Option<&Secret>, settings: &Settings) -> Result<Self> {
        let trust = Trust::new(home.clone());
        let pin = trust
            .by_url(url)?
            .ok_or_else(|| ClientError::NoPin { url: url.to_string() })?;
        let kept = match token {
            Some(_) => None,
            None => home.token(&pin.site)?,
        };
        let transport = Transport::new(url, token.or(kept.as_ref()), settings)?.expecting(&pin);
        Ok(Self {
            pin,
            trust,
            transport,
            copy: false,
        })
    }

    /// Returns the pin.
    #[must_use]
    pub const fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Returns the address.
    #[must_use]
    pub const fn url(&self) -> &SiteUrl {
        self.transport.url()
    }

    /// Returns where events go.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.transport.settings().progress.clone()
    }

    pub(crate) const fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Waits before something is tried again that failed for this reason, longer each time.
    pub(crate) async fn pause(&self, tried: u32, error: &ClientError) {
        self.transport.wait("", tried, None, error).await;
    }

    /// Returns what the site says of itself. Nothing of it is believed beyond the pin.
    ///
    /// # Errors
    /// When the site does not answer.
    pub async fn view(&self) -> Result<SiteView> {
        self.transport.json(Ask::get("/api/v1/site")).await
    }

    /// Asks who the caller is.
    ///
    /// # Errors
    /// When the token is not valid.
    pub async fn whoami(&self) -> Result<WhoAmI> {
        self.transport.json(Ask::get("/api/v1/whoami")).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// When the caller's own token is no admin's, or the request breaks a rule.
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenCreated> {
        self.transport
            .json(Ask::post("/api/v1/tokens", request).once())
            .await
    }

    /// Lists the site's tokens.
    ///
    /// # Errors
    /// When the caller's own token is no admin's.
    pub async fn tokens(&self) -> Result<Vec<TokenView>> {
        self.transport.json(Ask::get("/api/v1/tokens")).await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// When there is none of this id, or the caller's own token is no admin's.
    pub async fn revoke_token(&self, id: &str) -> Result<()> {
        let plain = !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain {
            return Err(ClientError::Usage(format!(
                "`{}` is no token's id: 16 hex digits",
                id.escape_debug()
            )));
        }
        let ask = Ask::delete(format!("/api/v1/tokens/{id}"));
        self.transport.bytes(ask, NOTE_BYTES_MAX).await.map(drop)
    }

    /// Returns a namespace as the site shows it.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn namespace(&self, name: &Namespace) -> Result<NamespaceView> {
        self.transport
            .json(Ask::get(format!("/api/v1/namespaces/{name}")))
            .await
    }

    /// Returns the labels that an artifact is under, as the site shows them.
    pub(crate) async fn labels(&self, artifact: &ArtifactName) -> Result<Labels> {
        self.transport
            .json(Ask::get(format!("/api/v1/artifacts/{artifact}/labels")))
            .await
    }

    /// Returns the charter that the site goes by, as it shows it.
    ///
    /// # Errors
    /// When it has none.
    pub async fn charter(&self) -> Result<CharterView> {
        self.transport.json(Ask::get("/api/v1/charter")).await
    }

    pub(crate) async fn adopt_charter(&self, request: &CharterRequest) -> Result<CharterView> {
        self.transport.json(Ask::post("/api/v1/charter", request)).await
    }

    pub(crate) async fn create_namespace(&self, request: &NamespaceRequest) -> Result<Proof> {
        self.transport
            .json(Ask::post("/api/v1/namespaces", request))
            .await
    }

    pub(crate) async fn rotate_namespace(
        &self,
        name: &Namespace,
        request: &NamespaceRequest,
    ) -> Result<Proof> {
        let path = format!("/api/v1/namespaces/{name}/rotation");
        self.transport.json(Ask::post(path, request)).await
    }

    pub(crate) async fn gate_namespace(&self, name: &Namespace, request: &NamespaceRequest) -> Result<Proof> {
        let path = format!("/api/v1/namespaces/{name}/gate");
        self.transport.json(Ask::post(path, request)).await
    }

    pub(crate) async fn share_namespace(
        &self,
        name: &Namespace,
        request: &NamespaceRequest,
    ) -> Result<Proof> {
        let path = format!("/api/v1/namespaces/{name}/access");
        self.transport.json(Ask::post(path, request)).await
    }

    /// Returns an artifact as the site shows it.
    ///
    /// # Errors
    /// When there is none that the caller may know of.
    pub async fn artifact(&self, name: &ArtifactName) -> Result<ArtifactView> {
        let view: ArtifactView = self
            .transport
            .json(Ask::get(format!("/api/v1/artifacts/{name}")))
            .await?;
        if view.name != *name {
            return Err(self.odd(format!("{} came for {name}", view.name)));
        }
        Ok(view)
    }

    /// Returns a version of an artifact, proven: signed by its namespace's keys, in the site's ledger, which
    /// continues everything that it signed before.
    ///
    /// # Errors
    /// When there is no such version for the caller, or the proof does not hold.
    pub async fn resolve(&self, artifact: &ArtifactName, version: &Version) -> Result<Proven> {
        self.resolve_raw(artifact, version)
            .await
            .map(|(proven, _)| proven)
    }

    pub(crate) async fn resolve_raw(
        &self,
        artifact: &ArtifactName,
        version: &Version,
    ) -> Result<(Proven, Proof)> {
        let path = format!("/api/v1/artifacts/{artifact}/resolve/{version}");
        let answer: Resolved = self.transport.json(Ask::get(path)).await?;
        let home = self.recording(&answer.proof)?;
        let proven = proof::check_release(&home.pin, artifact, version, &answer.manifest.0, &answer.proof)?;
        home.believe_namespace(&proven.namespace)?;
        home.observe(&proven.checkpoint).await?;
        Ok((proven, answer.proof))
    }

    /// Returns the site in whose ledger a proof is: this one, or the home of what it holds a copy of. That is asked here,
    /// about the copy of its ledger, and only its own pin is believed.
    pub(crate) fn recording(&self, proof: &Proof) -> Result<Self> {
        let signed = SignedCheckpoint::parse(proof.checkpoint.as_bytes())
            .map_err(|e| ClientError::verification("proof", e))?;
        let home = signed.checkpoint().origin.site();
        if *home == self.pin.site {
            return Ok(self.clone());
        }
        let pin = self
            .trust
            .by_site(home)?
            .ok_or_else(|| ClientError::UnknownHome {
                mirror: self.url().to_string(),
                home: home.clone(),
            })?;
        Ok(Self {
            pin,
            copy: true,
            ..self.clone()
        })
    }

    /// Is this site's key known here: pinned, or named by a charter that is believed?
    pub(crate) fn believes(&self, site: &SiteId) -> Result<bool> {
        Ok(*site == self.pin.site || self.trust.by_site(site)?.is_some())
    }

    /// The path of something of the pinned site's ledger.
    fn ledger_path(&self, rest: &str) -> String {
        if self.copy {
            format!("/ledger/of/{}/{rest}", self.pin.site)
        } else {
            format!("/ledger/{rest}")
        }
    }

    pub(crate) async fn recipes(&self, artifact: &ArtifactName, files: Vec<Sha256>) -> Result<Recipes> {
        let path = format!("/api/v1/artifacts/{artifact}/recipes");
        self.transport
            .json(Ask::post(path, &RecipesRequest { files }))
            .await
    }

    pub(crate) async fn chunks(&self, artifact: &ArtifactName, request: &ChunksRequest) -> Result<Answer> {
        let path = format!("/api/v1/artifacts/{artifact}/chunks");
        let first = request
            .chunks
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let what = format!(
            "{} chunks from {first} on of the file {}",
            request.chunks.len(),
            request.file
        );
        self.transport.stream(Ask::post(path, request).called(what)).await
    }

    pub(crate) async fn open_upload(&self, request: &UploadRequest) -> Result<Sha256> {
        let view: UploadView = self.transport.json(Ask::post("/api/v1/uploads", request)).await?;
        Ok(view.id)
    }

    pub(crate) async fn plan_upload(&self, id: &Sha256, files: Vec<FileRecipe>) -> Result<PlanAnswer> {
        let path = format!("/api/v1/uploads/{id}/plan");
        self.transport.json(Ask::post(path, &PlanRequest { files })).await
    }

    pub(crate) async fn send_chunks(&self, id: &Sha256, frames: Bytes) -> Result<ChunksReceived> {
        let path = format!("/api/v1/uploads/{id}/chunks");
        let bytes = frames.len() as u64;
        self.transport
            .json(
                Ask::post_bytes(path, FRAMES_TYPE, frames)
                    .work(bytes)
                    .called("chunks to be taken"),
            )
            .await
    }

    pub(crate) async fn seal_file(&self, id: &Sha256, file: &FileRecipe, size: u64) -> Result<()> {
        let ask = Ask::post(format!("/api/v1/uploads/{id}/files"), file)
            .work(size)
            .called(format!("the file {} to be checked", file.sha256));
        self.transport.bytes(ask, NOTE_BYTES_MAX).await.map(drop)
    }

    /// Publishes; `size` is how much the site may have to look at. The request is not repeated here: whether
    /// it was done is seen by reading the artifact again.
    pub(crate) async fn publish(&self, id: &Sha256, request: &PublishRequest, size: u64) -> Result<Proof> {
        let ask = Ask::post(format!("/api/v1/uploads/{id}/publish"), request);
        self.transport.json(ask.work(size).once()).await
    }

    pub(crate) async fn record(&self, artifact: &ArtifactName, envelopes: &[Envelope]) -> Result<Proof> {
        let path = format!("/api/v1/artifacts/{artifact}/statements");
        let envelopes = envelopes.iter().map(|e| e.bytes().to_vec().into()).collect();
        self.transport
            .json(Ask::post(path, &StatementsRequest { envelopes }).once())
            .await
    }

    /// Returns the last checkpoints of all series of the ledger, the given one last.
    pub(crate) async fn lineage(&self, newest: &SignedCheckpoint) -> Result<Vec<SignedCheckpoint>> {
        let mut lineage = vec![newest.clone()];
        let mut series = newest.checkpoint().origin.series();
        while series > 1 {
            let (successor, _) = self.successor(series).await?;
            series = successor.origin.series();
            let ask = Ask::get(self.ledger_path(&format!("{series}/checkpoint")));
            let bytes = self.transport.bytes(ask, NOTE_BYTES_MAX).await?;
            let signed =
                SignedCheckpoint::parse(&bytes).map_err(|e| ClientError::verification("checkpoint", e))?;
            self.pin.check_signed(&signed)?;
            let ended = signed.checkpoint();
            if (&ended.origin, ended.size, ended.root) != (&successor.origin, successor.size, successor.root)
            {
                return Err(ClientError::verification(
                    "checkpoint",
                    format_args!(
                        "the last one of {} is not the one that its successor names",
                        ended.origin
                    ),
                ));
            }
            lineage.insert(0, signed);
        }
        Ok(lineage)
    }

    /// Fetches the site's newest checkpoint, and believes it if it continues what was signed before.
    ///
    /// # Errors
    /// As for [`Self::observe`]; also when the site shows an older one than before.
    pub async fn observe_newest(&self) -> Result<Checkpoint> {
        Ok(self.observed().await?.checkpoint().clone())
    }

    /// The same, with its signatures.
    pub(crate) async fn observed(&self) -> Result<SignedCheckpoint> {
        let signed = self.newest().await?;
        match self.trust.compare(&self.pin, &signed)? {
            Standing::Older(_) | Standing::Ended => Err(self.trust.set_back(&self.pin, &signed)),
            _ => {
                self.observe(&signed).await?;
                Ok(signed)
            }
        }
    }

    /// Believes a checkpoint if the site signed it and it belongs to the one history that was seen before.
    ///
    /// One that is older than what is remembered may come from an answer that was under way meanwhile; it is
    /// accepted when it is the beginning of the remembered tree and the site still stands by that.
    ///
    /// # Errors
    /// When it is not signed, or of a second history; both checkpoints are kept then.
    pub async fn observe(&self, signed: &SignedCheckpoint) -> Result<()> {
        loop {
            let standing = self.trust.compare(&self.pin, signed)?;
            match &standing {
                Standing::Same => return Ok(()),
                Standing::First => {}
                Standing::Newer(known) => self.check_continues(known, signed.checkpoint(), signed).await?,
                Standing::Older(known) => {
                    // Asked first: a site that was set back has no tiles of what is remembered.
                    let newest = self.newest().await?;
                    if let Standing::Older(_) = self.trust.compare(&self.pin, &newest)? {
                        if self.copy {
                            // A copy may be behind: that convicts nobody, and cannot be checked here either.
                            return Err(ClientError::Lagging {
                                mirror: self.url().to_string(),
                                home: self.pin.site.clone(),
                                shown: newest.checkpoint().size,
                                known: known.size,
                            });
                        }
                        return Err(self.trust.set_back(&self.pin, &newest));
                    }
                    return self.check_continues(signed.checkpoint(), known, signed).await;
                }
                Standing::Successor(known) => {
                    let found = self.follow(known, signed).await?;
                    self.trust.remember(&self.pin, &found, &standing)?;
                    continue;
                }
                Standing::Ended => return Err(self.trust.set_back(&self.pin, signed)),
            }
            // Another process may have remembered a tree meanwhile; ends when nobody does.
            if self.trust.remember(&self.pin, signed, &standing)? {
                return Ok(());
            }
        }
    }

    /// Goes on with the successor of a ledger though entries are lost that were seen here, or are not those that
    /// were seen. What was seen stays on this disk.
    ///
    /// # Errors
    /// When the site shows no successor, or what it shows does not hold.
    pub async fn accept_successor(&self) -> Result<Checkpoint> {
        let signed = self.newest().await?;
        let standing = self.trust.compare(&self.pin, &signed)?;
        let Standing::Successor(_) = &standing else {
            return Err(ClientError::Usage(format!(
                "the site {} shows no successor of the ledger that was seen: there is nothing to accept",
                self.pin.site
            )));
        };
        let (_, found) = self.successor(signed.checkpoint().origin.series()).await?;
        self.trust.remember(&self.pin, &found, &standing)?;
        self.observe_newest().await
    }

    /// Checks that nothing is lost of what was seen of an earlier series, and returns a checkpoint of the newest.
    async fn follow(&self, known: &Checkpoint, signed: &SignedCheckpoint) -> Result<SignedCheckpoint> {
        let (mut successor, found) = self.successor(signed.checkpoint().origin.series()).await?;
        while successor.origin.series() > known.origin.series() {
            successor = self.successor(successor.origin.series()).await?.0;
        }
        let Successor {
            origin, size, root, ..
        } = successor;
        let stands = Checkpoint { origin, size, root };
        let kept = stands.origin == known.origin && known.size <= stands.size;
        if !kept || (known.size == stands.size && known.root != stands.root) {
            return Err(self.trust.lost(&self.pin, &stands, &found));
        }
        self.check_continues(known, &stands, &found).await?;
        Ok(found)
    }

    /// Asks what a series continues; returns that with the checkpoint under which it was proven.
    async fn successor(&self, series: u32) -> Result<(Successor, SignedCheckpoint)> {
        let what = format!("series {series} of the ledger");
        let refused = |reason: &dyn std::fmt::Display| ClientError::verification(&what, reason);
        let entry = entry_number(series, 0).map_err(|e| refused(&e))?;
        let path = if self.copy {
            format!("/api/v1/ledger/of/{}/entries/{entry}", self.pin.site)
        } else {
            format!("/api/v1/ledger/entries/{entry}")
        };
        let proof: Proof = self.transport.json(Ask::get(path)).await?;
        let read = said::read(&self.pin, &what, &proof)?;
        let found = read.entries.into_iter().find(|said| said.index == entry);
        match found.map(|said| said.statement.predicate) {
            Some(Predicate::Successor(successor)) if successor.origin.series() < series => {
                Ok((successor, read.newest))
            }
            _ => Err(refused(&"it does not say what it continues")),
        }
    }

    pub(crate) async fn newest(&self) -> Result<SignedCheckpoint> {
        if self.copy {
            let ask = Ask::get(self.ledger_path("checkpoint"));
            let bytes = self.transport.bytes(ask, NOTE_BYTES_MAX).await?;
            let signed =
                SignedCheckpoint::parse(&bytes).map_err(|e| ClientError::verification("checkpoint", e))?;
            self.pin.check_signed(&signed)?;
            return Ok(signed);
        }
        self.transport.newest(&self.pin).await
    }

    /// Checks that the old tree is the beginning of the new one, with tiles of the new one.
    async fn check_continues(
        &self,
        old: &Checkpoint,
        new: &Checkpoint,
        found: &SignedCheckpoint,
    ) -> Result<()> {
        let refused = |e: LedgerError| ClientError::verification("checkpoint", e);
        let nodes = consistency_nodes(old.size, new.size).map_err(refused)?;
        let mut tiles = TileSource::new(new.size);
        for path in tiles_for(&nodes, new.size) {
            let (path, bytes) = self.tile(new.origin.series(), path).await?;
            tiles.insert(&path, &bytes).map_err(refused)?;
        }
        let path = prove_consistency(&tiles, old.size, new.size).map_err(refused)?;
        if verify_consistency(&old.tree(), &new.tree(), &path).is_ok() {
            return Ok(());
        }
        match self.trust.remembered(&self.pin)? {
            Some(known) => Err(self.trust.two_histories(&self.pin, &known, found)),
            None => Err(ClientError::verification(
                "checkpoint",
                "what it continued has gone from this disk",
            )),
        }
    }

    /// Fetches a tile; a partial one may have been swept away once it was full.
    pub(crate) async fn tile(&self, series: u32, path: TilePath) -> Result<(TilePath, Vec<u8>)> {
        let fetch = async |path: TilePath| {
            let ask = Ask::get(self.ledger_path(&format!("{series}/{path}")));
            let bytes = self.transport.bytes(ask, path.byte_len()).await?;
            Ok::<_, ClientError>((path, bytes))
        };
        match fetch(path).await {
            Err(ClientError::Absent(_)) if !path.is_full() => fetch(path.full()).await,
            other => other,
        }
    }

    fn odd(&self, reason: String) -> ClientError {
        ClientError::Answer {
            url: self.url().to_string(),
            reason,
        }
    }

    pub(crate) fn believe_namespace(&self, state: &NamespaceState) -> Result<()> {
        if self.copy {
            // A mirror chooses whose namespace it shows. Of two homes of one name none is believed.
            for other in self.trust.pins()?.iter().filter(|pin| pin.site != self.pin.site) {
                self.trust.check_namespace(other, &state.name, &state.id)?;
            }
        }
        self.trust.believe_namespace(&self.pin, &state.name, &state.id)
    }

    /// Checks a receipt: the site recorded exactly these statements, in the one history that was seen before.
    pub(crate) async fn check_receipt(&self, proof: &Proof, envelopes: &[Envelope]) -> Result<Vec<u64>> {
        let (signed, positions) = proof::check_recorded(&self.pin, proof, envelopes)?;
        self.observe(&signed).await?;
        Ok(positions)
    }
}
