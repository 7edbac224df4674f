//! Small files of this disk as a tar that is never written: headers, and the files themselves, read in turn.
//!
//! Budget: each byte is read once; it is hashed for its file, for the tar and for its chunk. A file that changes is
//! noticed as in [`crate::read`]. Memory: what is known of each file, and one window.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use waag_schema::base::digest::Sha256Hasher;
use waag_schema::content::safetensors::{Header, LENGTH_BYTES, header_length};
use waag_schema::content::{ChunkPlan, PlannerId, Recipe};
use waag_schema::release::tar::{END_BYTES, Expected, TarLayout, header, header_bytes, padding};
use waag_schema::{FilePath, Sha256};

use crate::error::{ClientError, Result};
use crate::event::{Event, Phase, Progress};
use crate::read::{CutError, Cutter, Opened, Stamp, refuse_pointer};
use crate::scan::Found;
use crate::sources::reopen;

/// Progress is told in steps of this, and not for each small file.
const STEP_BYTES: u64 = 1 << 20;

/// A file within a tar.
#[derive(Debug, Clone)]
pub struct ReadMember {
    /// Its path within the artifact.
    pub path: FilePath,
    /// Where it lies on this disk.
    pub local: PathBuf,
    /// Its name.
    pub sha256: Sha256,
    /// Its length.
    pub size: u64,
    /// Where its bytes begin in the tar.
    pub offset: u64,
    /// Its tensors, if it is a safetensors file.
    pub header: Option<Header>,
    stamp: Stamp,
}

/// A tar of files that have been read.
#[derive(Debug, Clone)]
pub struct ReadTar {
    /// Its name.
    pub sha256: Sha256,
    /// Its length.
    pub size: u64,
    /// Its chunks.
    pub recipe: Recipe,
    /// Its files, by path.
    pub members: Vec<ReadMember>,
}

/// Reads the files of one tar.
pub(crate) fn read_tar(found: Vec<Found>, progress: &Progress) -> Result<ReadTar> {
    let mut layout = TarLayout::default();
    let mut cutter = Cutter::new(ChunkPlan::new(PlannerId::FastCdc1, None));
    let mut members = Vec::with_capacity(found.len());
    let mut untold = 0;
    for file in found {
        let Some(offset) = layout.place(&file.path, file.size) else {
            return Err(ClientError::Usage(format!(
                "{}: its size is impossible",
                file.path
            )));
        };
        let member = read_member(file, offset, &mut cutter)?;
        untold += member.size;
        members.push(member);
        if untold >= STEP_BYTES {
            progress(Event::Advanced {
                phase: Phase::Read,
                bytes: std::mem::take(&mut untold),
            });
        }
    }
    cutter.push(&[0; END_BYTES as usize]).map_err(uncut)?;
    let cut = cutter.finish().map_err(uncut)?;
    progress(Event::Advanced {
        phase: Phase::Read,
        bytes: untold,
    });
    Ok(ReadTar {
        sha256: cut.sha256,
        size: cut.recipe.size(),
        recipe: cut.recipe,
        members,
    })
}

fn read_member(found: Found, offset: u64, cutter: &mut Cutter) -> Result<ReadMember> {
    let Found { path, local, size } = found;
    let mut opened = Opened::open(&local)?;
    // The place of all that follows was decided by the size that the scan saw.
    if opened.stamp.size != size {
        return Err(ClientError::Changed(local));
    }
    refuse_pointer(&opened, &path)?;
    cutter.push(&header(&path, size)).map_err(uncut)?;
    let mut hasher = Sha256Hasher::default();
    let mut left = size;
    while left > 0 {
        let space = cutter.space();
        let limit = space.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match opened.file.read(&mut space[..limit]) {
            Ok(0) => return Err(ClientError::Changed(local)),
            Ok(read) => read,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(ClientError::io("read", local)(e)),
        };
        hasher.update(&space[..read]);
        cutter.advance(read).map_err(uncut)?;
        left -= read as u64;
    }
    cutter.push(&[0; 512][..padding(size) as usize]).map_err(uncut)?;
    let header = match path.has_extension("safetensors") {
        true => Some(read_header(&opened, &path)?),
        false => None,
    };
    opened.check_unchanged()?;
    Ok(ReadMember {
        path,
        sha256: hasher.finish(),
        size,
        offset,
        header,
        stamp: opened.stamp,
        local,
    })
}

/// Reads the header of a safetensors file once more, as strictly as that of one that is not packed.
fn read_header(opened: &Opened, path: &FilePath) -> Result<Header> {
    let refused = |e: &dyn std::fmt::Display| ClientError::Format {
        path: path.clone(),
        reason: e.to_string(),
    };
    let size = opened.stamp.size;
    let mut first = [0; LENGTH_BYTES as usize];
    opened
        .file
        .read_exact_at(&mut first, 0)
        .map_err(|_| refused(&"it is too short for a safetensors file"))?;
    let length = header_length(&first, size).map_err(|e| refused(&e))?;
    let mut json = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    opened
        .file
        .read_exact_at(&mut json, LENGTH_BYTES)
        .map_err(|e| refused(&e))?;
    Header::parse(&json, size).map_err(|e| refused(&e))
}

/// Cutting by content has nothing to refuse but a tar of terabytes.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn uncut(error: CutError) -> ClientError {
    ClientError::Usage(format!("the archive of small files: {error}"))
}

impl ReadTar {
    /// Returns what it holds, for the list of files.
    pub(crate) fn expected(&self) -> Vec<Expected> {
        let members = self.members.iter().map(|member| Expected {
            path: member.path.clone(),
            sha256: member.sha256,
            size: member.size,
        });
        members.collect()
    }

    /// Fills a buffer of zeros with the tar's bytes from this place on. Files that are not what they were when they
    /// were read first are an error; whether their bytes are, is for who knows their digest.
    pub(crate) fn fill(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let end = at + bytes.len() as u64;
        for member in &self.members[self.first_at(at)..] {
            let begin = member.offset - header_bytes(&member.path, member.size);
            if begin >= end {
                break;
            }
            if at < member.offset {
                let header = header(&member.path, member.size);
                let from = at.max(begin);
                let part = &header[(from - begin) as usize..(end.min(member.offset) - begin) as usize];
                let start = (from - at) as usize;
                bytes[start..start + part.len()].copy_from_slice(part);
            }
            let (from, to) = (at.max(member.offset), end.min(member.offset + member.size));
            if from < to {
                let file = reopen(&member.local, member.stamp)?;
                file.read_exact_at(
                    &mut bytes[(from - at) as usize..(to - at) as usize],
                    from - member.offset,
                )
                .map_err(|_| ClientError::Changed(member.local.clone()))?;
            }
        }
        Ok(())
    }

    /// Returns the file that lies at this place, or behind it.
    pub(crate) fn local_at(&self, at: u64) -> PathBuf {
        let member = self.members.get(self.first_at(at)).or(self.members.last());
        member.map(|member| member.local.clone()).unwrap_or_default()
    }

    /// The first file that ends behind this place.
    fn first_at(&self, at: u64) -> usize {
        self.members
            .partition_point(|member| member.offset + member.size + padding(member.size) <= at)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::event::silent;
    use crate::read::cut;
    use crate::read::tests::noise;
    use crate::scan::{Links, Scan};

    fn tar(files: &[(&str, usize)]) -> (tempfile::TempDir, ReadTar, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, length) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, noise(*length)).unwrap();
        }
        let scan = Scan::of(dir.path(), Links::Refuse).unwrap();
        let mut whole = Vec::new();
        for found in &scan.files {
            whole.extend(header(&found.path, found.size));
            whole.extend(fs::read(&found.local).unwrap());
            whole.resize(whole.len().next_multiple_of(512), 0);
        }
        whole.resize(whole.len() + 1024, 0);
        (dir, read_tar(scan.files, &silent()).unwrap(), whole)
    }

    #[test]
    fn a_tar_that_is_never_written_has_the_digest_and_chunks_of_one_that_is() {
        let (_dir, read, whole) = tar(&[("a/1", 0), ("a/2", 700), ("b", 5 << 20), ("c", 512), ("größe", 3)]);
        assert_eq!((read.sha256, read.size), (Sha256::of(&whole), whole.len() as u64));
        assert_eq!(read.recipe, cut(&whole));
        for member in &read.members {
            let own = &whole[member.offset as usize..(member.offset + member.size) as usize];
            assert_eq!(Sha256::of(own), member.sha256, "{}", member.path);
        }
        for (at, length) in [
            (0, whole.len()),
            (0, 1),
            (511, 3),
            (1536, 4096),
            (whole.len() - 1, 1),
        ] {
            let mut bytes = vec![0; length];
            read.fill(at as u64, &mut bytes).unwrap();
            assert!(bytes == whole[at..at + length], "{at} {length}");
        }
    }

    #[test]
    fn a_packed_file_that_changes_is_named() {
        let (dir, read, whole) = tar(&[("a", 700), ("b", 700)]);
        fs::write(dir.path().join("b"), b"other").unwrap();
        let mut bytes = vec![0; whole.len()];
        let error = read.fill(0, &mut bytes).unwrap_err();
        assert!(matches!(error, ClientError::Changed(path) if path.ends_with("b")));
        let mut first = vec![0; 1000];
        read.fill(0, &mut first).unwrap();
        assert!(read.local_at(600).ends_with("a") && read.local_at(2000).ends_with("b"));
    }
}
