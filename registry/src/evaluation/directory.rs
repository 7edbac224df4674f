//! Weighing a directory on this disk, without any site.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::device::Computer;
use super::{WeighError, Weighed, Weighing};

/// Bytes read at once.
const BUFFER_BYTES: usize = 4 << 20;

/// A file to be weighed.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its path within the artifact.
    pub path: String,
    /// Where it is.
    pub local: PathBuf,
    /// Its length.
    pub size: u64,
}

/// A directory cannot be weighed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file is not what it should be.
    #[error(transparent)]
    Weigh(#[from] WeighError),
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Measures the safetensors files among these, in this order. `passed` is told how many bytes were read. Returns what it
/// was computed on in the end, too: where a GPU fails, the processor does it all, if it may.
///
/// # Errors
/// When a file cannot be read, or is not what its name says; or when a GPU fails that was asked for.
pub fn weigh(
    files: &[Found],
    computer: &Computer,
    passed: impl FnMut(u64),
) -> Result<(Weighed, Computer), DirectoryError> {
    let (weighing, computer) = measure(files, computer, passed)?;
    Ok((weighing.finish("there is no safetensors file"), computer))
}

/// Measures them, and leaves what is said of them to the caller.
pub(super) fn measure(
    files: &[Found],
    computer: &Computer,
    mut passed: impl FnMut(u64),
) -> Result<(Weighing, Computer), DirectoryError> {
    let failed = match measure_on(files, computer, &mut passed) {
        Ok(weighing) => return Ok((weighing, computer.clone())),
        Err(error) => error,
    };
    let DirectoryError::Weigh(WeighError::Gpu { error, .. }) = &failed else {
        return Err(failed);
    };
    let processor = computer.without_gpu(&error.to_string()).ok_or(failed)?;
    Ok((measure_on(files, &processor, &mut passed)?, processor))
}

fn measure_on(
    files: &[Found],
    computer: &Computer,
    passed: &mut impl FnMut(u64),
) -> Result<Weighing, DirectoryError> {
    let mut weighing = Weighing::on(computer);
    let mut buffer = vec![0; BUFFER_BYTES];
    for found in files.iter().filter(|found| is_weighed(&found.path)) {
        let io = |error| DirectoryError::Io {
            path: found.local.clone(),
            error,
        };
        let mut file = File::open(&found.local).map_err(io)?;
        weighing.begin(&found.path, found.size);
        loop {
            let count = file.read(&mut buffer).map_err(io)?;
            if count == 0 || weighing.is_refused() {
                break;
            }
            weighing.take(&buffer[..count])?;
            passed(count as u64);
        }
        weighing.end()?;
    }
    Ok(weighing)
}

/// Says whether a file of this path is measured.
#[must_use]
pub fn is_weighed(path: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
}
