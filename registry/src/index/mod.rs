//! The index: a fold of the ledger into SQLite, so that questions are cheap.
//!
//! Invariant: the rows are a function of the ledger's entries (and of the recipes that entries name by
//! digest). Delete the file, start again, get the same rows. Nothing is decided here that the ledger does
//! not say, and there are no migrations: another `VERSION` is folded again.
//!
//! One [`Index`] writes, owned by the sequencer; many [`Questions`] read, each seeing whole batches only.

mod admit;
mod changes;
mod fold;
mod questions;
mod reader;
mod sets;

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use waag_schema::Sha256;

pub use admit::{Home, Rejection};
pub use changes::{Changed, Changes};
pub use fold::Prepared;
pub use questions::{ContentRow, CustodyRow, LabelRow, Located, Questions, Wanted};
pub use reader::Reader;
pub use sets::{Difference, NAMED_MAX, Named, SetDigest, element};

/// The version of schema and fold together. Raise it when either changes.
const VERSION: i64 = 11;

/// What SQLite keeps of the file in memory; more of it while many entries are folded at once.
const CACHE_KIB: i64 = 32 << 10;
const ROOMY_CACHE_KIB: i64 = 192 << 10;

/// How often the write-ahead log is tried to be emptied; each try waits for readers up to SQLite's busy time-out.
const SCRUB_TRIES: usize = 5;

/// How far the fold has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// The number that the next entry has: series, and size of the tree whose entries are folded.
    pub size: u64,
    /// Its root.
    pub root: [u8; 32],
}

/// The index cannot answer. It can always be deleted and folded again.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite failed.
    #[error("the index failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Readers kept the write-ahead log in use.
    #[error("the index is in use and could not be rewritten")]
    Busy,
    /// A row does not hold what the fold writes.
    #[error("the index holds a row it never wrote: {0}")]
    Corrupt(String),
}

/// The one writer.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
    origin: String,
    /// What this batch changes.
    batch: Changed,
    changes: Changes,
}

impl Index {
    /// Opens the index in this file for a ledger, and begins an empty one where the file is missing, of
    /// another version, of another ledger, or damaged.
    ///
    /// # Errors
    /// When the file can be neither used nor replaced.
    pub fn open(path: &Path, origin: &str) -> Result<Self, IndexError> {
        match Self::open_existing(path, origin) {
            Ok(Some(index)) => Ok(index),
            Ok(None) | Err(_) => {
                Self::remove(path);
                Self::create(Connection::open(path)?, origin)
            }
        }
    }

    /// Begins an empty index in memory, to fold a ledger beside the live one.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn in_memory(origin: &str) -> Result<Self, IndexError> {
        Self::create(Connection::open_in_memory()?, origin)
    }

    /// Removes an index's files; the next start folds a new one.
    pub fn remove(path: &Path) {
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            // A file that is not there is as good as removed; any other failure shows when it is opened.
            let _ = std::fs::remove_file(file);
        }
    }

    fn open_existing(path: &Path, origin: &str) -> Result<Option<Self>, IndexError> {
        if !path.exists() {
            return Ok(None);
        }
        let connection = Connection::open(path)?;
        configure(&connection)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |r| r.get(0))?;
        if version != VERSION {
            return Ok(None);
        }
        // What an earlier run deleted may still stand in the log, if it ended before it could empty it.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let known: Option<String> = connection
            .query_row("SELECT origin FROM ledger", [], |r| r.get(0))
            .optional()?;
        let index = Self {
            connection,
            origin: origin.to_owned(),
            batch: Changed::nothing(),
            changes: Changes::default(),
        };
        Ok((known.as_deref() == Some(origin)).then_some(index))
    }

    fn create(connection: Connection, origin: &str) -> Result<Self, IndexError> {
        configure(&connection)?;
        connection.execute_batch(&format!(
            "BEGIN; {} PRAGMA user_version = {VERSION}; COMMIT;",
            include_str!("schema.sql")
        ))?;
        connection.execute(
            "INSERT INTO ledger (origin, size, root) VALUES (?, 0, ?)",
            params![origin, Sha256::of(b"").as_bytes()],
        )?;
        Ok(Self {
            connection,
            origin: origin.to_owned(),
            batch: Changed::nothing(),
            changes: Changes::default(),
        })
    }

    /// Returns how far the fold has come.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn folded(&self) -> Result<Folded, IndexError> {
        Ok(self
            .connection
            .query_row("SELECT size, root FROM ledger", [], |r| {
                Ok(Folded {
                    size: r.get(0)?,
                    root: r.get(1)?,
                })
            })?)
    }

    /// Returns the notes of what is folded from now on.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Answers questions from within the writer's own transaction.
    #[must_use]
    pub fn questions(&self) -> Questions<'_> {
        Questions::new(&self.connection)
    }

    /// Begins a batch. Readers see nothing of it until [`Index::commit`].
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn begin(&mut self) -> Result<(), IndexError> {
        Ok(self.connection.execute_batch("BEGIN IMMEDIATE")?)
    }

    /// Ends a batch with the tree that now holds its entries.
    ///
    /// # Errors
    /// When SQLite fails; then nothing of the batch is folded.
    pub fn commit(&mut self, folded: Folded) -> Result<(), IndexError> {
        self.connection.execute(
            "UPDATE ledger SET size = ?, root = ? WHERE origin = ?",
            params![folded.size, folded.root, self.origin],
        )?;
        // The index is disposable, so the write-ahead log is not synced: a power loss costs a refold of the
        // tail, never a wrong row.
        self.connection.execute_batch("COMMIT")?;
        self.changes
            .add(std::mem::replace(&mut self.batch, Changed::nothing()));
        Ok(())
    }

    /// Drops a batch.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn rollback(&mut self) -> Result<(), IndexError> {
        self.batch = Changed::nothing();
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        Ok(())
    }

    /// Marks a point within a batch to come back to.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn mark(&mut self) -> Result<(), IndexError> {
        Ok(self.connection.execute_batch("SAVEPOINT submission")?)
    }

    /// Keeps what came after the mark.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn keep(&mut self) -> Result<(), IndexError> {
        Ok(self.connection.execute_batch("RELEASE submission")?)
    }

    /// Drops what came after the mark.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn undo(&mut self) -> Result<(), IndexError> {
        Ok(self
            .connection
            .execute_batch("ROLLBACK TO submission; RELEASE submission")?)
    }

    /// Takes more memory while many entries are folded, or gives it back.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn set_roomy(&self, roomy: bool) -> Result<(), IndexError> {
        let kib = if roomy { ROOMY_CACHE_KIB } else { CACHE_KIB };
        Ok(self.connection.pragma_update(None, "cache_size", -kib)?)
    }

    /// Drops all rows, to fold the ledger anew.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn reset(&mut self) -> Result<(), IndexError> {
        self.rollback()?;
        let names: Vec<String> = {
            let mut tables = self
                .connection
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
            tables.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?
        };
        self.begin()?;
        for name in names {
            self.connection.execute_batch(&format!("DELETE FROM {name}"))?;
        }
        self.connection.execute(
            "INSERT INTO ledger (origin, size, root) VALUES (?, 0, ?)",
            params![self.origin, Sha256::of(b"").as_bytes()],
        )?;
        self.connection.execute_batch("COMMIT")?;
        self.changes.add(Changed::Everything);
        Ok(())
    }

    /// Rewrites the file and empties the write-ahead log, so that no deleted row can be found in either.
    ///
    /// # Errors
    /// When SQLite fails, or readers kept the log in use all the while.
    pub fn scrub(&mut self) -> Result<(), IndexError> {
        self.connection.execute_batch("VACUUM")?;
        for _ in 0..SCRUB_TRIES {
            let busy: i64 = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))?;
            if busy == 0 {
                return Ok(());
            }
        }
        Err(IndexError::Busy)
    }

    /// Returns every row of every table as text, in a fixed order: two folds of one ledger give the same.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn dump(&self) -> Result<String, IndexError> {
        dump(&self.connection)
    }
}

fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;
         PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY;",
    )?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn dump(connection: &Connection) -> Result<String, IndexError> {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut tables =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
    let names: Vec<String> = tables.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        let mut statement = connection.prepare(&format!("SELECT * FROM {name}"))?;
        let columns = statement.column_count();
        let mut lines = Vec::new();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut line = name.clone();
            for column in 0..columns {
                let _ = write!(line, " | {}", show(row.get_ref(column)?));
            }
            lines.push(line);
        }
        lines.sort();
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}

fn show(value: rusqlite::types::ValueRef<'_>) -> String {
    use rusqlite::types::ValueRef;
    match value {
        ValueRef::Null => "-".to_owned(),
        ValueRef::Integer(i) => i.to_string(),
        ValueRef::Real(r) => r.to_string(),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned(),
        ValueRef::Blob(b) => data_encoding::HEXLOWER.encode(b),
    }
}
