//! What is asked of the ledger's entries themselves, and of the streams that they are in.

use std::ops::RangeInclusive;

use rusqlite::{OptionalExtension, Row, params};
use waag_schema::ledger::Stream;
use waag_schema::{Namespace, Sha256, SiteId, Timestamp};

use super::{NEWEST, Questions, column, corrupt, parsed, storable};
use crate::index::IndexError;

/// Where a statement stands in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Its position.
    pub position: u64,
    /// When it was recorded.
    pub at: Timestamp,
}

fn located(row: &Row<'_>) -> Result<Located, IndexError> {
    Ok(Located {
        position: column(row, "position")?,
        at: Timestamp::from_unix(column(row, "at")?),
    })
}

impl Questions<'_> {
    /// How many entries are folded?
    ///
    /// # Errors
    /// When the index fails.
    pub fn size(&self) -> Result<u64, IndexError> {
        let found = self.one("SELECT size FROM ledger", params![], |row| column(row, "size"))?;
        Ok(found.unwrap_or(0))
    }

    /// Are there entries that erase others?
    ///
    /// # Errors
    /// When the index fails.
    pub fn erases(&self) -> Result<bool, IndexError> {
        Ok(self.newest("erasure")?.is_some())
    }

    /// Does this entry erase another one?
    ///
    /// # Errors
    /// When the index fails.
    pub fn is_erasure(&self, position: u64) -> Result<bool, IndexError> {
        let sql = "SELECT 1 FROM entry WHERE position = ? AND predicate = 'erasure'";
        Ok(self.one(sql, params![storable(position)], |_| Ok(()))?.is_some())
    }

    /// Where does an envelope stand in the ledger, if it was recorded?
    ///
    /// # Errors
    /// When the index fails.
    pub fn recorded(&self, envelope: &Sha256) -> Result<Option<Located>, IndexError> {
        let sql = "SELECT position, at FROM entry WHERE envelope = ?";
        self.one(sql, params![envelope.as_bytes()], located)
    }

    /// At which positions do the statements on a namespace itself stand?
    ///
    /// # Errors
    /// When the index fails.
    pub fn namespace_entries(&self, name: &Namespace) -> Result<Vec<u64>, IndexError> {
        let sql = "SELECT position FROM entry WHERE subject = ? ORDER BY position";
        self.all(sql, params![name.as_str()], |row| column(row, "position"))
    }

    /// At which position stands the last statement on a subject?
    ///
    /// # Errors
    /// When the index fails.
    pub fn last_entry_on(&self, subject: &str) -> Result<Option<u64>, IndexError> {
        let sql = "SELECT position FROM entry WHERE subject = ? ORDER BY position DESC LIMIT 1";
        self.one(sql, params![subject], |row| column(row, "position"))
    }

    /// Where stands the newest statement of this kind, `revocation-list` or `erasure`?
    ///
    /// # Errors
    /// When the index fails.
    pub fn newest(&self, predicate: &str) -> Result<Option<Located>, IndexError> {
        self.one(NEWEST, params![predicate], located)
    }

    /// Which private namespaces may or might this site read; which entry ended it, where one did?
    ///
    /// # Errors
    /// When the index fails.
    pub fn read_by(&self, site: &SiteId) -> Result<Vec<(Namespace, Option<u64>)>, IndexError> {
        let sql = "SELECT namespace, ended FROM reader WHERE site = ? ORDER BY namespace";
        self.all(sql, params![site.as_str()], |row| {
            Ok((parsed(row, "namespace")?, column(row, "ended")?))
        })
    }

    /// Which streams are there of copies of other sites' private namespaces?
    ///
    /// # Errors
    /// When the index fails.
    pub fn copies_streams(&self) -> Result<Vec<Stream>, IndexError> {
        // Behind `-` comes `.`, which no stream has.
        let sql = "SELECT DISTINCT stream FROM entry WHERE stream <> 'open'
                 AND stream > 'copies-' AND stream < 'copies.' ORDER BY stream";
        self.all(sql, params![], |row| parsed(row, "stream"))
    }

    /// Which is the last entry of this stream at one of these positions, and its number in the stream?
    ///
    /// # Errors
    /// When the index fails.
    pub fn last_of_stream(
        &self,
        stream: &Stream,
        positions: RangeInclusive<u64>,
    ) -> Result<Option<(u64, u64)>, IndexError> {
        let sql = "SELECT position, seq FROM entry WHERE stream = ? AND stream <> 'open'
                 AND position BETWEEN ? AND ? ORDER BY position DESC LIMIT 1";
        let parameters = params![stream.as_str(), positions.start(), positions.end()];
        self.one(sql, parameters, |row| {
            Ok((column(row, "position")?, column(row, "seq")?))
        })
    }

    /// How many entries of this stream are folded, of all series?
    ///
    /// # Errors
    /// When the index fails.
    pub fn folded_of_stream(&self, stream: &Stream) -> Result<u64, IndexError> {
        let sql = "SELECT count(*) AS entries FROM entry WHERE stream = ? AND stream <> 'open'";
        let found = self.one(sql, params![stream.as_str()], |row| column(row, "entries"))?;
        Ok(found.unwrap_or(0))
    }

    /// How many entries has this stream?
    ///
    /// # Errors
    /// When the index fails.
    pub fn stream_count(&self, stream: &str) -> Result<u64, IndexError> {
        let found = self
            .connection
            .prepare_cached("SELECT count FROM stream WHERE name = ?")?
            .query_row(params![stream], |r| r.get(0))
            .optional()?;
        Ok(found.unwrap_or(0))
    }

    /// Whose statement is this entry? Within: none for the site's own.
    ///
    /// # Errors
    /// When the index fails.
    pub fn namespace_of(&self, position: u64) -> Result<Option<Option<Namespace>>, IndexError> {
        self.one(
            "SELECT subject FROM entry WHERE position = ?",
            params![storable(position)],
            |row| {
                let subject: String = column(row, "subject")?;
                let namespace = subject.split('/').next().unwrap_or_default();
                Ok(if namespace.contains(':') {
                    None
                } else {
                    Some(namespace.parse().map_err(|e| corrupt(&e))?)
                })
            },
        )
    }

    /// Of which namespace that has artifacts is this entry the beginning, a rotation, a gate, or who may read it?
    ///
    /// # Errors
    /// When the index fails.
    pub fn founds(&self, position: u64) -> Result<Option<Namespace>, IndexError> {
        let sql = "SELECT subject FROM entry WHERE position = ? AND predicate IN ('namespace', 'rotation', 'gate', 'access') \
                   AND EXISTS (SELECT 1 FROM artifact WHERE artifact.namespace = entry.subject)";
        self.one(sql, params![position], |row| parsed(row, "subject"))
    }

    /// In which stream, and where in it, is the opening of this entry?
    ///
    /// # Errors
    /// When the index fails.
    pub fn place_of(&self, position: u64) -> Result<Option<(String, u64)>, IndexError> {
        let sql = "SELECT stream, seq FROM entry WHERE position = ?";
        self.one(sql, params![storable(position)], |row| {
            Ok((column(row, "stream")?, column(row, "seq")?))
        })
    }
}
