//! A site that can be made to lie, to fall silent, and to break off.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use waag_registry::federation::{LocalPeer, Peer, PeerError, SentChunk};
use waag_schema::content::challenge::{Answer, Challenge};
use waag_schema::ledger::{Pack, PackPath, Stream, TileKind, TilePath};
use waag_schema::wire::artifact::ChunksRequest;
use waag_schema::wire::ledger::StreamView;
use waag_schema::{ArtifactName, Sha256, SiteId};

/// What is wrong with it.
#[derive(Debug, Clone, Default)]
pub(crate) enum Bend {
    #[default]
    Nothing,
    /// It does not answer.
    Away,
    /// One bit of each chunk is another.
    Chunks,
    /// One bit of each entry is another.
    Leaves,
    /// Openings are missing.
    Withholds,
    /// Of what not everybody may read it shows so many entries too few.
    Shortens(u64),
    /// Of what not everybody may read this slot holds nothing.
    Blanks(usize),
    /// Of what not everybody may read it gives the openings of these two slots in each other's place.
    Swaps(usize, usize),
    /// It shows this checkpoint.
    Shows(String),
    /// It answers challenges with what it has made up.
    Pretends,
    /// It says that it has verified these checkpoints of others.
    Tells(Vec<String>),
    /// It gives so many chunks and falls silent.
    BreaksOff(u64),
}

/// What becomes of the next requests.
#[derive(Debug, Clone, Copy)]
enum Gate {
    Open,
    /// It closes before the request after so many.
    After(u64),
    Closed,
}

#[derive(Clone)]
pub(crate) struct Bent {
    inner: Arc<Mutex<LocalPeer>>,
    bend: Arc<Mutex<Bend>>,
    gate: watch::Sender<Gate>,
    /// Only what is asked of artifacts whose names begin so is held up, where it says how.
    own: Option<&'static str>,
    /// How many chunks were given.
    pub(crate) given: Arc<AtomicU64>,
    /// How often it was asked for anything of an artifact.
    pub(crate) asked: Arc<AtomicU64>,
}

impl Bent {
    pub(crate) fn new(inner: LocalPeer) -> Self {
        Self {
            inner: Arc::new(Mutex::new(inner)),
            bend: Arc::default(),
            gate: watch::Sender::new(Gate::Open),
            own: None,
            given: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Whoever asks it for a copy of another site's artifact is not held up.
    pub(crate) fn holding_up_only(self, own: &'static str) -> Self {
        Self {
            own: Some(own),
            ..self
        }
    }

    pub(crate) fn bend(&self, how: Bend) {
        *self.bend.lock().unwrap() = how;
    }

    /// Puts another site in the place of the one that was asked: it has started again, or somebody passes himself off as
    /// it.
    pub(crate) fn lead_to(&self, inner: LocalPeer) {
        *self.inner.lock().unwrap() = inner;
    }

    /// Is nothing wrong with it?
    pub(crate) fn is_straight(&self) -> bool {
        matches!(*self.bend.lock().unwrap(), Bend::Nothing)
    }

    /// Holds up the request after so many, and all behind it, until [`Self::let_go`].
    pub(crate) fn hold_after(&self, requests: u64) {
        self.gate.send_replace(Gate::After(requests));
    }

    pub(crate) fn let_go(&self) {
        self.gate.send_replace(Gate::Open);
    }

    /// Returns once a request is held up.
    pub(crate) async fn one_is_held(&self) {
        let mut gate = self.gate.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = gate.wait_for(|gate| matches!(gate, Gate::Closed)).await;
    }

    /// Returns the site that is asked, and what is wrong with it, once the request may go on.
    async fn bent(&self) -> Result<(LocalPeer, Bend), PeerError> {
        self.pass().await;
        self.now()
    }

    /// The same, for what is asked of an artifact.
    async fn bent_for(&self, artifact: &ArtifactName) -> Result<(LocalPeer, Bend), PeerError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.own.is_none_or(|own| artifact.as_str().starts_with(own)) {
            self.pass().await;
        }
        self.now()
    }

    async fn pass(&self) {
        self.gate.send_modify(|gate| {
            *gate = match *gate {
                Gate::After(0) => Gate::Closed,
                Gate::After(requests) => Gate::After(requests - 1),
                gate => gate,
            };
        });
        let mut gate = self.gate.subscribe();
        let _ = gate.wait_for(|gate| !matches!(gate, Gate::Closed)).await;
    }

    fn now(&self) -> Result<(LocalPeer, Bend), PeerError> {
        match self.bend.lock().unwrap().clone() {
            Bend::Away => Err(away()),
            bend => Ok((self.inner.lock().unwrap().clone(), bend)),
        }
    }
}

fn away() -> PeerError {
    PeerError::Unreachable("it is away".to_owned())
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut copy = bytes.to_vec();
    if let Some(last) = copy.last_mut() {
        *last ^= 1;
    }
    copy.into()
}

#[async_trait]
impl Peer for Bent {
    async fn checkpoint(&self, series: Option<u32>, known: Option<&str>) -> Result<Option<Bytes>, PeerError> {
        match self.bent().await? {
            (_, Bend::Shows(note)) => Ok(Some(note.into())),
            (inner, _) => inner.checkpoint(series, known).await,
        }
    }

    async fn cosign(&self, note: &str) -> Result<(), PeerError> {
        let (inner, _) = self.bent().await?;
        inner.cosign(note).await
    }

    async fn site_key(&self) -> Result<Bytes, PeerError> {
        let (inner, _) = self.bent().await?;
        inner.site_key().await
    }

    async fn tile(&self, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        let (inner, bend) = self.bent().await?;
        let bytes = inner.tile(series, path).await?;
        let lies = matches!(bend, Bend::Leaves) && path.kind() == TileKind::Entries;
        Ok(if lies { flipped(&bytes) } else { bytes })
    }

    async fn streams(&self) -> Result<Vec<StreamView>, PeerError> {
        let (inner, bend) = self.bent().await?;
        let mut streams = inner.streams().await?;
        if let Bend::Shortens(by) = bend {
            for view in &mut streams {
                view.count = view.count.saturating_sub(by);
            }
            streams.retain(|view| view.count > 0);
        }
        Ok(streams)
    }

    async fn pack(&self, series: u32, path: &PackPath) -> Result<Bytes, PeerError> {
        let (inner, bend) = self.bent().await?;
        if let Bend::Withholds = bend {
            // 256 slots that hold nothing.
            return Ok(vec![0; 4 * 256].into());
        }
        let bytes = inner.pack(series, path).await?;
        if path.stream == Stream::open() {
            return Ok(bytes);
        }
        let pack = Pack::decode(&bytes).unwrap();
        let mut slots: Vec<_> = (0..pack.len()).map(|slot| pack.slot(slot).cloned()).collect();
        match bend {
            Bend::Blanks(slot) => slots[slot] = None,
            Bend::Swaps(one, other) => slots.swap(one, other),
            _ => {}
        }
        let mut pack = Pack::default();
        for slot in slots {
            match slot {
                Some(opened) => pack.append(opened),
                None => pack.append_erased(),
            }
            .unwrap();
        }
        Ok(pack.encode().into())
    }

    async fn manifest(&self, artifact: &ArtifactName, manifest: &Sha256) -> Result<Bytes, PeerError> {
        let (inner, _) = self.bent_for(artifact).await?;
        inner.manifest(artifact, manifest).await
    }

    async fn scorecard(&self, artifact: &ArtifactName, details: &Sha256) -> Result<Bytes, PeerError> {
        let (inner, _) = self.bent_for(artifact).await?;
        inner.scorecard(artifact, details).await
    }

    async fn recipes(&self, artifact: &ArtifactName, files: &[Sha256]) -> Result<Vec<Bytes>, PeerError> {
        let (inner, _) = self.bent_for(artifact).await?;
        inner.recipes(artifact, files).await
    }

    async fn chunks(
        &self,
        artifact: &ArtifactName,
        request: &ChunksRequest,
    ) -> Result<Vec<SentChunk>, PeerError> {
        let (inner, bend) = self.bent_for(artifact).await?;
        let mut request = request.clone();
        if let Bend::BreaksOff(left) = bend {
            if left == 0 {
                return Err(away());
            }
            request.chunks.truncate(1);
            self.bend(Bend::BreaksOff(left - 1));
        }
        let mut chunks = inner.chunks(artifact, &request).await?;
        self.given.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        if let Bend::Chunks = bend {
            for (_, bytes) in &mut chunks {
                *bytes = flipped(bytes);
            }
        }
        Ok(chunks)
    }

    async fn challenge(&self, artifact: &ArtifactName, challenge: &Challenge) -> Result<Answer, PeerError> {
        match self.bent().await? {
            (_, Bend::Pretends) => Ok(Answer::from_bytes([7; 32])),
            (inner, _) => inner.challenge(artifact, challenge).await,
        }
    }

    async fn checkpoints(&self) -> Result<Vec<String>, PeerError> {
        match self.bent().await? {
            (_, Bend::Tells(notes)) => Ok(notes),
            (inner, _) => inner.checkpoints().await,
        }
    }

    async fn tile_of(&self, site: &SiteId, series: u32, path: &TilePath) -> Result<Bytes, PeerError> {
        let (inner, _) = self.bent().await?;
        inner.tile_of(site, series, path).await
    }
}
