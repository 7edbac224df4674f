//! Verify: are the files in a directory what their publisher signed and a ledger recorded? Without a network.
//!
//! What is believed is the pin in the home directory, and nothing that lies beside the files. Every file is
//! hashed; many at once. A directory on the way to one must be a directory: behind a link lies something else than
//! what was pulled, and than what somebody takes away with this directory.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use waag_schema::base::digest::Sha256Hasher;
use waag_schema::base::name::Version;
use waag_schema::release::Files;
use waag_schema::release::manifest::Blob;
use waag_schema::{ArtifactName, FilePath, Sha256, SiteId, Tag, Timestamp};

use crate::error::{BadFile, ClientError, Fault, Result};
use crate::event::{Event, Phase, Progress};
use crate::home::Home;
use crate::kept::{KEPT_DIR, Kept, KeptFile};
use crate::listing::kept_listing;
use crate::proof::{Proven, check_release};
use crate::read::{blocking, cores};
use crate::scorecard::Card;
use crate::trust::Trust;
use crate::witnessed::{self, Quorum, WitnessedBy};

/// Hashing gains nothing from more at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Small files are checked so many, or so many bytes, in one job.
const BATCH_FILES: usize = 256;
const BATCH_BYTES: u64 = 8 << 20;
/// Files that are not part of the artifact are named up to this number.
const EXTRA_MAX: usize = 1000;

/// A directory whose files are what was signed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The artifact.
    pub name: ArtifactName,
    /// The tag under which it was pulled, if by a tag.
    pub tag: Option<Tag>,
    /// The manifest's digest.
    pub digest: Sha256,
    /// How many files were checked: all that were pulled.
    pub files: u64,
    /// Set when these are not all files of the release, as they were signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<Partial>,
    /// Their bytes together.
    pub bytes: u64,
    /// The ledger entry of the release.
    pub entry: u64,
    /// When the ledger recorded it.
    pub at: Timestamp,
    /// The fingerprints of the keys that signed it.
    pub signed_by: Vec<String>,
    /// The site whose ledger proves it.
    pub site: SiteId,
    /// Why the publisher has withdrawn it, if that was known when it was pulled.
    pub withdrawn: Option<String>,
    /// As of when its site had said which releases are withdrawn, if it had.
    pub fresh_as_of: Option<Timestamp>,
    /// Who had cosigned its site's ledger, where that was asked for when it was pulled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub witnessed_by: Vec<WitnessedBy>,
    /// What its site had measured on it when it was pulled, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weighed: Vec<Card>,
    /// Files in the directory that are not part of the artifact; the first thousand.
    pub extra: Vec<String>,
}

/// What a partial pull has left out, and made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Partial {
    /// How many files the release has.
    pub release_files: u64,
    /// How many of those that were checked the pull has made of signed ones, keeping some tensors. Nobody has
    /// signed them: they are as the pull wrote them, which had checked each byte it took.
    pub made_files: u64,
}

/// A file that was pulled, and what it must be.
#[derive(Debug, Clone)]
struct Expected {
    path: FilePath,
    blob: Blob,
}

impl Verified {
    /// Checks that its site had said, no longer than so many days before `now`, which releases are withdrawn.
    ///
    /// # Errors
    /// [`ClientError::Verification`] when it had not said so, or longer ago.
    pub fn check_fresh(&self, now: Timestamp, days: u32) -> Result<()> {
        let refused = |reason: String| {
            Err(ClientError::verification(
                format_args!("freshness of {}", self.name),
                reason,
            ))
        };
        match self.fresh_as_of {
            None => {
                refused("its site had not said which releases are withdrawn when it was pulled".to_owned())
            }
            Some(at) if at.plus(u64::from(days) * 86_400) < now => refused(format!(
                "what was withdrawn is known as of {at}, more than {days} days ago"
            )),
            Some(_) => Ok(()),
        }
    }
}

impl Verified {
    /// Checks that its site's ledger was cosigned in enough other jurisdictions, as of when it was pulled.
    ///
    /// # Errors
    /// [`ClientError::NoCharter`] when no charter is believed that names the site, [`ClientError::Verification`] when there are
    /// too few.
    pub fn check_witnessed(&self, home: &Home, quorum: Quorum) -> Result<()> {
        let trust = Trust::new(home.clone());
        let charter = witnessed::judge(&trust, &self.site)?;
        witnessed::check(&charter, &self.site, &self.name, &self.witnessed_by, quorum)
    }
}

/// Verifies a directory that was pulled.
///
/// # Errors
/// [`ClientError::NotFound`] when nothing was pulled there, [`ClientError::Verification`] when the proof does
/// not hold or its site is not pinned, [`ClientError::Damaged`] with all files that are not what was signed.
pub async fn verify(home: &Home, directory: &Path, progress: &Progress) -> Result<Verified> {
    let (trust, place) = (Trust::new(home.clone()), directory.to_owned());
    let (kept, proven, release, witnessed_by) = blocking(move || {
        let (kept, proven, release) = prove(&trust, &place)?;
        let witnessed_by = witnessed::kept(&trust, &proven, &kept.witnesses)?;
        Ok::<_, ClientError>((kept, proven, release, witnessed_by))
    })
    .await?;
    let (files, partial) = expected(&kept, &release)?;
    let files = Arc::new(files);
    let sizes = files.iter().map(|file| file.blob.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    check_files(directory, &files, bytes, progress).await?;
    let (place, number) = (directory.to_owned(), files.len() as u64);
    let extra = blocking(move || extra_files(&place, &files)).await?;
    Ok(Verified {
        name: kept.artifact,
        tag: match kept.asked {
            Version::Tag(tag) => Some(tag),
            Version::Manifest(_) => None,
        },
        digest: proven.manifest.digest(),
        files: number,
        partial,
        bytes,
        entry: proven.entry,
        at: proven.at,
        signed_by: proven.signed_by,
        site: kept.site,
        withdrawn: proven.withdrawn,
        fresh_as_of: proven.fresh_as_of,
        witnessed_by,
        weighed: proven.weighed,
        extra,
    })
}

/// Checks the proof that lies in a directory; its files are not looked at. Returns the site whose ledger proves it.
pub(crate) fn proven(trust: &Trust, directory: &Path) -> Result<(SiteId, Proven)> {
    let (kept, proven, _) = prove(trust, directory)?;
    Ok((kept.site, proven))
}

/// Checks the proof that lies in the directory against the pin of its site.
fn prove(trust: &Trust, directory: &Path) -> Result<(Kept, Proven, Files)> {
    let kept = Kept::read(directory)?;
    let pin = trust.by_site(&kept.site)?.ok_or_else(|| {
        ClientError::verification(
            directory.display(),
            format_args!(
                "it was pulled from the site {}, which is not pinned here",
                kept.site
            ),
        )
    })?;
    let proven = check_release(&pin, &kept.artifact, &kept.asked, &kept.manifest, &kept.proof)?;
    // Of another size it cannot be judged without the network; of the same size it must be the same tree.
    trust.compare(&pin, &proven.checkpoint)?;
    trust.check_namespace(&pin, &proven.namespace.name, &proven.namespace.id)?;
    let listing = kept_listing(directory, &proven.manifest, &kept.artifact)?;
    Ok((kept, proven, listing.files))
}

/// Returns what must be there: all files of the release, or those that a partial pull has kept.
fn expected(kept: &Kept, release: &Files) -> Result<(Vec<Expected>, Option<Partial>)> {
    let whole = release.iter().map(|file| Expected {
        path: file.path.clone(),
        blob: Blob {
            digest: file.sha256,
            size: file.size,
        },
    });
    let Some(listed) = &kept.partial else {
        return Ok((whole.collect(), None));
    };
    let signed: HashMap<FilePath, Blob> = whole.map(|file| (file.path, file.blob)).collect();
    let mut files = Vec::with_capacity(listed.len());
    let mut made_files = 0;
    for KeptFile { path, made } in listed {
        let refused = |reason: &str| ClientError::verification(path, reason);
        let file = signed
            .get(path)
            .ok_or_else(|| refused("it is kept as pulled, and the release has no such file"))?;
        let blob = match made {
            None => *file,
            Some(made) if made.from == file.digest => {
                made_files += 1;
                Blob {
                    digest: made.sha256,
                    size: made.size,
                }
            }
            Some(_) => return Err(refused("it is kept as made of another file than the release has")),
        };
        files.push(Expected {
            path: path.clone(),
            blob,
        });
    }
    let partial = Partial {
        release_files: release.len() as u64,
        made_files,
    };
    Ok((files, Some(partial)))
}

async fn check_files(
    directory: &Path,
    files: &Arc<Vec<Expected>>,
    bytes: u64,
    progress: &Progress,
) -> Result<()> {
    progress(Event::Began {
        phase: Phase::Check,
        items: files.len() as u64,
        bytes,
    });
    let bad: Vec<Result<Vec<BadFile>>> = stream::iter(batches(files))
        .map(|batch| {
            let (root, files, progress) = (directory.to_owned(), Arc::clone(files), Arc::clone(progress));
            blocking(move || {
                let mut way = Way::new(root);
                let checked = files[batch]
                    .iter()
                    .map(|file| check_file(&mut way, file, &progress));
                checked.filter_map(Result::transpose).collect()
            })
        })
        .buffered(cores())
        .collect()
        .await;
    progress(Event::Ended { phase: Phase::Check });
    let bad: Vec<Vec<BadFile>> = bad.into_iter().collect::<Result<_>>()?;
    if bad.iter().all(Vec::is_empty) {
        Ok(())
    } else {
        Err(ClientError::Damaged(bad.concat()))
    }
}

/// Neighbouring files that are checked by one job: a large one alone, many small ones together.
fn batches(files: &[Expected]) -> Vec<Range<usize>> {
    let (mut batches, mut start, mut bytes) = (Vec::new(), 0, 0_u64);
    for (index, file) in files.iter().enumerate() {
        bytes = bytes.saturating_add(file.blob.size);
        if bytes >= BATCH_BYTES || index - start + 1 == BATCH_FILES {
            batches.push(start..index + 1);
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < files.len() {
        batches.push(start..files.len());
    }
    batches
}

/// Directories below a root, as far as they were seen.
struct Way {
    root: PathBuf,
    /// Whether they are links.
    seen: HashMap<String, bool>,
}

impl Way {
    fn new(root: PathBuf) -> Self {
        Self {
            root,
            seen: HashMap::new(),
        }
    }

    /// Returns the first directory on the way to a file that is a link, if one is.
    fn link(&mut self, path: &FilePath) -> Result<Option<String>> {
        for (at, _) in path.as_str().match_indices('/') {
            let dir = &path.as_str()[..at];
            let is_link = match self.seen.get(dir) {
                Some(known) => *known,
                None => {
                    let place = self.root.join(dir);
                    let is_link = match fs::symlink_metadata(&place) {
                        Ok(meta) => meta.is_symlink(),
                        // What is not there leads nowhere: the file is missing.
                        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => false,
                        Err(e) => return Err(ClientError::io("read", place)(e)),
                    };
                    self.seen.insert(dir.to_owned(), is_link);
                    is_link
                }
            };
            if is_link {
                return Ok(Some(dir.to_owned()));
            }
        }
        Ok(None)
    }
}

fn check_file(way: &mut Way, file: &Expected, progress: &Progress) -> Result<Option<BadFile>> {
    let fault = match way.link(&file.path)? {
        Some(directory) => Some(Fault::Linked { directory }),
        None => find_fault(&way.root.join(file.path.as_str()), file.blob, progress)?,
    };
    progress(Event::Done {
        phase: Phase::Check,
        path: file.path.to_string(),
    });
    Ok(fault.map(|fault| BadFile {
        path: file.path.to_string(),
        fault,
    }))
}

fn find_fault(place: &Path, expected: Blob, progress: &Progress) -> Result<Option<Fault>> {
    let meta = match fs::symlink_metadata(place) {
        Ok(meta) => meta,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Some(Fault::Missing));
        }
        Err(e) => return Err(ClientError::io("read", place)(e)),
    };
    if !meta.is_file() {
        return Ok(Some(Fault::NotAFile));
    }
    if meta.len() != expected.size {
        return Ok(Some(Fault::Size {
            expected: expected.size,
            found: meta.len(),
        }));
    }
    let mut file = File::open(place).map_err(ClientError::io("open", place))?;
    let mut hasher = Sha256Hasher::default();
    let mut buffer = vec![0; BUFFER_BYTES.min(usize::try_from(expected.size).unwrap_or(BUFFER_BYTES).max(1))];
    loop {
        let read = file.read(&mut buffer).map_err(ClientError::io("read", place))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        progress(Event::Advanced {
            phase: Phase::Check,
            bytes: read as u64,
        });
    }
    let found = hasher.finish();
    Ok((found != expected.digest).then_some(Fault::Digest {
        expected: expected.digest,
        found,
    }))
}

/// Names what lies in the directory beside the artifact's files.
fn extra_files(directory: &Path, files: &[Expected]) -> Result<Vec<String>> {
    let own: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let mut extra = Vec::new();
    let mut waiting: Vec<(PathBuf, String)> = vec![(directory.to_owned(), String::new())];
    while let Some((place, prefix)) = waiting.pop() {
        for entry in fs::read_dir(&place).map_err(ClientError::io("list", &place))? {
            let entry = entry.map_err(ClientError::io("list", &place))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if name == KEPT_DIR || own.contains(name.as_str()) {
                continue;
            }
            if entry
                .file_type()
                .map_err(ClientError::io("read", entry.path()))?
                .is_dir()
            {
                waiting.push((entry.path(), format!("{name}/")));
            } else if extra.len() < EXTRA_MAX {
                extra.push(name);
            }
        }
    }
    extra.sort();
    Ok(extra)
}

#[cfg(test)]
mod tests {
    use super::*;
    use waag_schema::base::key::KeyPair;

    #[test]
    fn what_is_known_of_withdrawals_grows_old() {
        let mut verified = Verified {
            name: "acme/tiny".parse().unwrap(),
            tag: None,
            digest: Sha256::of(b"m"),
            files: 0,
            partial: None,
            bytes: 0,
            entry: 0,
            at: Timestamp::from_unix(0),
            signed_by: Vec::new(),
            site: KeyPair::from_seed(&[1; 32]).public().site_id(),
            withdrawn: None,
            fresh_as_of: Some(Timestamp::from_unix(1000)),
            witnessed_by: Vec::new(),
            weighed: Vec::new(),
            extra: Vec::new(),
        };
        let day = 86_400;
        for (now, days, fresh) in [
            (1000, 0, true),
            // A clock that is behind the site's is no reason to refuse.
            (0, 0, true),
            (1001, 0, false),
            (1000 + day, 1, true),
            (1001 + day, 1, false),
        ] {
            let found = verified.check_fresh(Timestamp::from_unix(now), days);
            assert_eq!(found.is_ok(), fresh, "{now} {days}");
        }
        verified.fresh_as_of = None;
        assert!(verified.check_fresh(Timestamp::from_unix(0), 3650).is_err());
    }
}
