//! Where a model's files come from: the caller says.

use std::collections::BTreeMap;
use std::io;

use super::error::{LanguageError, Stop};

/// The files of a model. Names are relative and have no folders.
pub trait ModelSource: Sync {
    /// Returns how long a file is, or `None` if there is none of that name.
    ///
    /// # Errors
    ///
    /// When that cannot be found out.
    fn length(&self, file: &str) -> io::Result<Option<u64>>;

    /// Fills a buffer from a place in a file. Threads ask side by side.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or ends before.
    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// Files in memory.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    /// The bytes of each file.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl ModelSource for MemorySource {
    fn length(&self, file: &str) -> io::Result<Option<u64>> {
        Ok(self.files.get(file).map(|bytes| bytes.len() as u64))
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let bytes = self.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..)?.get(..into.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(from);
        Ok(())
    }
}

/// Reads a whole file of at most `bytes_max`, or returns `None` if there is none.
pub(crate) fn whole(source: &dyn ModelSource, file: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Stop> {
    let Some(length) = length(source, file)? else {
        return Ok(None);
    };
    if length > bytes_max {
        let problem = format!("has {length} bytes, at most {bytes_max} are read");
        return Err(LanguageError::file(file, problem));
    }
    part(source, file, 0, length).map(Some)
}

/// Returns how long a file is.
pub(crate) fn length(source: &dyn ModelSource, file: &str) -> Result<Option<u64>, Stop> {
    source.length(file).map_err(|cause| failed(file, cause))
}

/// Reads a part whose length the caller has checked against the file's.
pub(crate) fn part(source: &dyn ModelSource, file: &str, offset: u64, length: u64) -> Result<Vec<u8>, Stop> {
    let length = usize::try_from(length).map_err(|_| LanguageError::file(file, "is larger than memory"))?;
    let mut bytes = vec![0; length];
    source
        .read(file, offset, &mut bytes)
        .map_err(|cause| failed(file, cause))?;
    Ok(bytes)
}

pub(crate) fn failed(file: &str, source: io::Error) -> Stop {
    LanguageError::Read {
        file: file.to_owned(),
        source,
    }
    .into()
}
