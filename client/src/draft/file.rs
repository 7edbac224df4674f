//! A draft as a file:
//! ```text
//! {"version": 1, "site": "<site id>", "namespace": "acme", "proof": {"checkpoint": "...", "entries": [...]},
//!  "upload": null or {"id": "sha256:...", "manifest": "<base64>"},
//!  "envelopes": ["<base64>", ...], "unsigned": ["<base64 of a payload>", ...]}
//! ```
//! Nothing in it is believed for being there. The proof is checked against the pin of the site, which lies in the
//! home directory; everything else follows from the keys that it proves.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use waag_schema::base::bytes::Base64;
use waag_schema::release::Manifest;
use waag_schema::statement::{Envelope, NamespaceState, Statement};
use waag_schema::wire::artifact::Proof;
use waag_schema::{Namespace, Sha256, SiteId};

use super::{Draft, Ground, Upload};
use crate::error::{ClientError, Result};
use crate::home::{Home, sync_dir};
use crate::proof::check_namespace;
use crate::trust::Trust;

const VERSION: u32 = 1;
/// A manifest of 4 MiB, statements of 512 KiB each and a proof take less than half of this.
const FILE_MAX_BYTES: u64 = 32 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DraftJson {
    version: u32,
    site: SiteId,
    namespace: Namespace,
    proof: Proof,
    #[serde(deserialize_with = "Option::deserialize")]
    upload: Option<UploadJson>,
    envelopes: Vec<Base64>,
    unsigned: Vec<Base64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadJson {
    id: Sha256,
    manifest: Base64,
}

impl Draft {
    /// Reads a draft's file, and proves from this home's pins whose signatures count.
    ///
    /// # Errors
    /// When there is none, it is no draft, or its site or namespace is not the one that this home knows.
    pub fn read(path: &Path, home: &Home) -> Result<Self> {
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => ClientError::Absent(format!("{} does not exist", path.display())),
            _ => ClientError::io("open", path)(e),
        })?;
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(ClientError::io("read", path))?;
        let trust = Trust::new(home.clone());
        let prove = |site: &SiteId, name: &Namespace, proof: &Proof| {
            let pin = trust.by_site(site)?.ok_or_else(|| {
                ClientError::Absent(format!(
                    "the site {site}, which the draft is for, is not pinned here"
                ))
            })?;
            let (_, state) = check_namespace(&pin, name, proof)?;
            trust.believe_namespace(&pin, &state.name, &state.id)?;
            Ok(state)
        };
        Self::parse(&bytes, prove).map_err(|error| match error {
            ClientError::Verification { what, reason } if what == "draft" => {
                ClientError::verification(path.display(), reason)
            }
            other => other,
        })
    }

    /// Reads a draft from its bytes; `prove` says what the proof shows.
    pub(super) fn parse(
        bytes: &[u8],
        prove: impl FnOnce(&SiteId, &Namespace, &Proof) -> Result<NamespaceState>,
    ) -> Result<Self> {
        fn refused(reason: impl std::fmt::Display) -> ClientError {
            ClientError::verification("draft", reason)
        }
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(refused(format!("it has more than {FILE_MAX_BYTES} bytes")));
        }
        let json: DraftJson =
            serde_json::from_slice(bytes).map_err(|e| refused(format!("it is no draft: {e}")))?;
        if json.version != VERSION {
            return Err(refused(format!(
                "it has the version {}, this program reads {VERSION}",
                json.version
            )));
        }
        let mut signed = Vec::with_capacity(json.envelopes.len());
        let mut statements = Vec::with_capacity(json.envelopes.len() + json.unsigned.len());
        for envelope in &json.envelopes {
            let envelope = Envelope::parse(&envelope.0).map_err(refused)?;
            statements.push(Statement::parse(envelope.payload()).map_err(refused)?);
            signed.push(envelope);
        }
        for payload in &json.unsigned {
            statements.push(Statement::parse(&payload.0).map_err(refused)?);
        }
        let upload = match json.upload {
            Some(upload) => Some(Upload {
                id: upload.id,
                manifest: Manifest::parse(upload.manifest.0).map_err(refused)?,
            }),
            None => None,
        };
        let draft = Self {
            ground: Ground {
                state: prove(&json.site, &json.namespace, &json.proof)?,
                site: json.site,
                proof: json.proof,
            },
            upload,
            statements,
            signed,
        };
        draft.check().map_err(refused)?;
        // Whoever signed a statement has seen those before it complete, or they were never theirs to sign.
        for at in 0..draft.signed.len() {
            if !draft.part(at)?.complete && at + 1 < draft.signed.len() {
                return Err(refused(format!(
                    "statement {} is signed before enough have signed statement {}",
                    at + 2,
                    at + 1
                )));
            }
        }
        Ok(draft)
    }

    /// Returns the bytes of the draft's file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let json = DraftJson {
            version: VERSION,
            site: self.ground.site.clone(),
            namespace: self.ground.state.name.clone(),
            proof: self.ground.proof.clone(),
            upload: self.upload.as_ref().map(|upload| UploadJson {
                id: upload.id,
                manifest: upload.manifest.bytes().to_vec().into(),
            }),
            envelopes: self.signed.iter().map(|e| e.bytes().to_vec().into()).collect(),
            unsigned: self
                .statements
                .iter()
                .skip(self.signed.len())
                .map(|statement| statement.to_bytes().into())
                .collect(),
        };
        serde_json::to_vec(&json).expect("strings, numbers and lists always serialise")
    }

    /// Writes the draft's file; what stood there before stands there until the new one is on disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let temporary = path.with_file_name(name);
        let mut file = File::create(&temporary).map_err(ClientError::io("create", &temporary))?;
        file.write_all(&self.bytes())
            .map_err(ClientError::io("write", &temporary))?;
        file.sync_all().map_err(ClientError::io("sync", &temporary))?;
        fs::rename(&temporary, path).map_err(ClientError::io("replace", path))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_dir(directory.unwrap_or(Path::new(".")))
    }
}
