//! Push: from a directory on this disk to a signed release in a site's ledger.
//!
//! ```text
//! prepare: scan -> read (cut, hash) -> manifest -> what is recorded already? -> what is missing?   a plan
//! execute: send missing chunks -> seal each file -> sign -> publish -> check the receipt           deeds
//! ```
//! A push that finds everything recorded sends nothing and signs nothing. Statements are signed against the
//! artifact's chain as it was read last; when somebody else wrote in between, or an answer got lost, the
//! artifact is read again and the rest signed again. Where not all keys are here, a push ends in a
//! [draft] in place of the last three steps. Memory: recipes, and a few batches of frames.

mod prepared;
mod statements;
mod upload;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use serde::Serialize;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::base::name::{Reference, Version};
use waag_schema::policy::label::Label;
use waag_schema::release::gate::{self, Unsafe};
use waag_schema::release::{About, Kind};
use waag_schema::wire::artifact::ArtifactView;
use waag_schema::wire::upload::PublishRequest;
use waag_schema::wire::{Code, Problem};
use waag_schema::{ArtifactName, Sha256, Tag};

use self::prepared::Prepared;
use self::statements::{check_statement_fits, needs, sign_all, statements};
use self::upload::{Upload, seal_files, send_missing};
use crate::draft::{self, Draft};
use crate::error::{ClientError, Result};
use crate::namespace;
use crate::pace::Moved;
use crate::read::{blocking, read_all};
use crate::scan::{Links, Scan};
use crate::sign::{Enough, SIGN_ATTEMPTS_MAX, check_signers};
use crate::site::Site;
use crate::sources::Form;

/// How often content is sent again that the site has lost since it took it.
const SEND_ROUNDS_MAX: u32 = 2;

/// What shall be published, and how.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// A directory, or a single file.
    pub path: PathBuf,
    /// Under which name.
    pub artifact: ArtifactName,
    /// Under which tag.
    pub tag: Tag,
    /// What it is.
    pub kind: Kind,
    /// What it says for people.
    pub about: About,
    /// What it was made from; its version must be a digest.
    pub base: Option<Reference>,
    /// What it was trained on; versions must be digests.
    pub data: Vec<Reference>,
    /// Where it may live; none leaves the label that is in force.
    pub label: Option<Label>,
    /// Whether a tag that does not move by itself may be moved.
    pub move_tag: bool,
    /// Whether chunks are sent in the encoding that their bytes recommend, rather than as they are. It saves
    /// bytes on the way and at the site, and costs a core for each half gigabyte a second.
    pub encode: bool,
    /// What to do with symbolic links.
    pub links: Links,
    /// Formats that run code and shall be published all the same; the site has to allow it as well.
    pub allowed_formats: Vec<Unsafe>,
    /// The keys that will sign, so that a wrong one is found before anything is read; may be empty.
    pub signers: Vec<PublicKey>,
    /// Whether one of the keys is enough, because what they sign waits in a draft for the others.
    pub draft: bool,
}

/// What a push would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushPlan {
    /// The manifest's digest.
    pub digest: Sha256,
    /// How many files there are.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// How many distinct chunks they are made of.
    pub chunks: u64,
    /// How many of these the site lacks.
    pub missing_chunks: u64,
    /// The bytes of those.
    pub send_bytes: u64,
    /// Bytes of the files that need not be sent.
    pub reused_bytes: u64,
    /// How many files and directories `.waagignore` left out.
    pub ignored: u64,
    /// What will be signed and recorded: some of `release`, `residency`, `tag`.
    pub records: Vec<&'static str>,
}

/// What a push has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// The artifact.
    pub name: ArtifactName,
    /// The tag that names it now.
    pub tag: Tag,
    /// The manifest's digest.
    pub digest: Sha256,
    /// How many files it has.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// Bytes of chunks that were sent, raw.
    pub sent_bytes: u64,
    /// The same as they were encoded: what crossed the network.
    pub wire_bytes: u64,
    /// Bytes of the files that need not be sent.
    pub reused_bytes: u64,
    /// The ledger entry of the release.
    pub entry: u64,
}

/// Refuses files that run code when they are loaded, before anything of them is read in full.
fn check_formats(scan: &Scan, allowed: &[Unsafe]) -> Result<()> {
    let mut refused = Vec::new();
    for found in scan
        .files
        .iter()
        .filter(|found| gate::has_to_be_seen(&found.path))
    {
        let mut head = Vec::new();
        File::open(&found.local)
            .and_then(|file| file.take(gate::LOOKED_AT as u64).read_to_end(&mut head))
            .map_err(ClientError::io("read", &found.local))?;
        if let Err(error) = gate::check(&found.path, &head, allowed) {
            refused.push(error.to_string());
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(ClientError::RunsCode(refused))
    }
}

/// A push that is ready to be done.
pub struct Push {
    site: Site,
    request: PushRequest,
    prepared: Prepared,
    view: ArtifactView,
    upload: Option<Upload>,
    plan: PushPlan,
}

impl Push {
    /// Reads the directory, asks the site what it has, and plans. Nothing is published; all that is left
    /// behind at the site is an upload session.
    ///
    /// # Errors
    /// When the directory cannot be published, the namespace is not the signers', the tag would have to be
    /// moved, or the site refuses.
    pub async fn prepare(site: &Site, request: PushRequest) -> Result<Self> {
        // What is cheap is asked first: reading a large model takes minutes. Nothing is signed for a site that
        // was set back: it would be a second history of the publisher's own.
        site.observe_newest().await?;
        let view = read_view(site, &request).await?;
        if !request.signers.is_empty() {
            let enough = match request.draft {
                true => Enough::One,
                false => Enough::Threshold,
            };
            check_signers(site, &request.artifact.namespace(), &request.signers, enough).await?;
        }
        let (path, links, allowed) = (
            request.path.clone(),
            request.links,
            request.allowed_formats.clone(),
        );
        let scan = blocking(move || {
            let scan = Scan::of(&path, links)?;
            check_formats(&scan, &allowed)?;
            Ok::<_, ClientError>(scan)
        })
        .await?;
        let ignored = scan.ignored;
        let files = read_all(scan.files, &site.progress()).await?;
        let prepared = Prepared::of(&request, files).await?;
        let needs = needs(&request, &prepared, &view)?;
        if needs.release {
            check_statement_fits(&request, &prepared, &view)?;
        }
        // Also where all is recorded: what the site has lost since is sent again.
        let upload = Upload::open(site, &request, &prepared).await?;
        let upload = Some(upload).filter(|upload| needs.release || !upload.unsealed.is_empty());
        let plan = prepared.plan(upload.as_ref(), needs, ignored);
        Ok(Self {
            site: site.clone(),
            request,
            prepared,
            view,
            upload,
            plan,
        })
    }

    /// Returns the plan.
    #[must_use]
    pub const fn plan(&self) -> &PushPlan {
        &self.plan
    }

    /// Returns the manifest that will be published.
    #[must_use]
    pub const fn manifest(&self) -> &waag_schema::release::Manifest {
        &self.prepared.built.manifest
    }

    /// Says whether anything will be signed, so that a key is needed.
    #[must_use]
    pub const fn needs_signature(&self) -> bool {
        !self.plan.records.is_empty()
    }

    /// Sends what is missing, signs, publishes and checks the receipt.
    ///
    /// # Errors
    /// When a file changed, the keys are not enough, or the site refuses. Publishing happens as a whole or
    /// not at all.
    pub async fn execute(mut self, keys: &[KeyPair]) -> Result<Pushed> {
        if self.needs_signature() {
            let public: Vec<PublicKey> = keys.iter().map(KeyPair::public).collect();
            let namespace = self.request.artifact.namespace();
            check_signers(&self.site, &namespace, &public, Enough::Threshold).await?;
        }
        let mut sent = Moved::default();
        if let Some(upload) = self.upload.take() {
            sent = self.send(&upload).await?;
            self.upload = Some(upload);
        }
        let entry = self.publish(keys).await?;
        Ok(Pushed {
            name: self.request.artifact,
            tag: self.request.tag,
            digest: self.plan.digest,
            files: self.plan.files,
            bytes: self.plan.bytes,
            sent_bytes: sent.bytes,
            wire_bytes: sent.wire_bytes,
            reused_bytes: self.plan.reused_bytes,
            entry,
        })
    }

    /// Sends what is missing and begins a draft of what is to be signed, for other owners to sign as well.
    /// Nothing is published; the site keeps the content for as long as it keeps an upload.
    ///
    /// # Errors
    /// When a file changed, no key is an owner's, everything is recorded already, or the site refuses.
    pub async fn draft(mut self, keys: &[KeyPair]) -> Result<Draft> {
        if !self.needs_signature() {
            return Err(ClientError::Usage(format!(
                "{}:{} is recorded already: there is nothing to sign",
                self.request.artifact, self.request.tag
            )));
        }
        let ground = namespace::ground(&self.site, &self.request.artifact.namespace()).await?;
        let mut kept = None;
        if let Some(mut upload) = self.upload.take() {
            // Who submits it may not be able to read what this token reuses from elsewhere: the session shall
            // have all of it.
            upload.unsealed = self.prepared.files.keys().copied().collect();
            self.send(&upload).await?;
            kept = Some(draft::Upload {
                id: upload.id,
                manifest: self.prepared.built.manifest.clone(),
            });
            // Sending may take long.
            self.view = read_view(&self.site, &self.request).await?;
        }
        let needs = needs(&self.request, &self.prepared, &self.view)?;
        let statements = statements(&self.request, &self.prepared, &self.view, needs);
        Draft::begin(ground, statements, kept.filter(|_| needs.release), keys)
    }

    /// Sends and seals; what the site lost meanwhile, as after a power loss, is sent again.
    async fn send(&self, upload: &Upload) -> Result<Moved> {
        let form = if self.request.encode {
            Form::Encoded
        } else {
            Form::Raw
        };
        let mut sent = send_missing(&self.site, &self.prepared, upload, form).await?;
        let mut rounds = 1;
        let mut again;
        let mut upload = upload;
        loop {
            match seal_files(&self.site, &self.prepared, upload).await {
                Err(ClientError::Refused(Problem {
                    code: Code::MissingContent,
                    ..
                })) if rounds < SEND_ROUNDS_MAX => {}
                other => return other.map(|()| sent),
            }
            rounds += 1;
            let mut opened = Upload::open(&self.site, &self.request, &self.prepared).await?;
            if self.request.draft {
                opened.unsealed = self.prepared.files.keys().copied().collect();
            }
            again = opened;
            sent = sent + send_missing(&self.site, &self.prepared, &again, form).await?;
            upload = &again;
        }
    }

    /// Has recorded what is not recorded, and returns the release's entry.
    async fn publish(&mut self, keys: &[KeyPair]) -> Result<u64> {
        let mut tried = 0;
        loop {
            let needs = needs(&self.request, &self.prepared, &self.view)?;
            let statements = statements(&self.request, &self.prepared, &self.view, needs);
            if statements.is_empty() {
                return self.recorded().await;
            }
            let envelopes = sign_all(statements, &self.view, keys);
            let answer = match (&self.upload, needs.release) {
                (Some(upload), true) => {
                    let request = PublishRequest {
                        manifest: self.prepared.built.manifest.bytes().to_vec().into(),
                        envelopes: envelopes.iter().map(|e| e.bytes().to_vec().into()).collect(),
                    };
                    self.site.publish(&upload.id, &request, self.plan.bytes).await
                }
                (None, true) => Err(ClientError::Conflict(format!(
                    "{} was released before and is not any more",
                    self.plan.digest
                ))),
                (_, false) => self.site.record(&self.request.artifact, &envelopes).await,
            };
            let error = match answer {
                Ok(proof) => {
                    let positions = self.site.check_receipt(&proof, &envelopes).await?;
                    return match needs.release {
                        true => Ok(positions[0]),
                        false => self.recorded().await,
                    };
                }
                Err(error) => error,
            };
            tried += 1;
            // A lost answer may hide a success, whose session is gone at the next attempt; and a conflict may
            // be with our own first attempt. What the artifact says now decides.
            let passing = match &error {
                ClientError::Conflict(_) | ClientError::Unreachable { .. } => true,
                ClientError::NotFound(_) => needs.release && tried <= 2,
                _ => false,
            };
            if !passing || tried >= SIGN_ATTEMPTS_MAX {
                return Err(error);
            }
            // Also after a conflict: it is answered before what it is with can be read.
            self.site.pause(tried, &error).await;
            self.view = read_view(&self.site, &self.request).await?;
        }
    }

    /// Proves that the release stands in the ledger, whoever put it there.
    async fn recorded(&self) -> Result<u64> {
        let version = Version::Manifest(self.plan.digest);
        match self.site.resolve(&self.request.artifact, &version).await {
            Ok(proven) => Ok(proven.entry),
            // Who may publish need not be where the label lets the artifact be served: then the site's word
            // has to do. Nothing is taken from it but a number.
            Err(error @ ClientError::Denied { .. }) => {
                let mut releases = self.view.releases.iter();
                let known = releases.find(|release| release.manifest == self.plan.digest);
                known.map(|release| release.entry).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

async fn read_view(site: &Site, request: &PushRequest) -> Result<ArtifactView> {
    let namespace = request.artifact.namespace();
    let view = match site.artifact(&request.artifact).await {
        // Who may publish is shown an artifact that is not there yet.
        Err(ClientError::NotFound(_)) if site.namespace(&namespace).await.is_ok() => {
            return Err(ClientError::Forbidden(format!(
                "this token may not publish in the namespace `{namespace}`"
            )));
        }
        view => view?,
    };
    if let Some(kind) = view.kind.filter(|kind| *kind != request.kind) {
        return Err(ClientError::Usage(format!(
            "{} is a {kind}, it cannot become a {}",
            request.artifact, request.kind
        )));
    }
    Ok(view)
}
