//! Read-only connections to the index, handed out to blocking threads.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};

use super::{IndexError, Questions, dump};

/// How many idle connections are kept; more are opened while more questions are asked at once.
const IDLE_MAX: usize = 8;

/// Answers questions on the index beside the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Reader {
    /// Reads the index in this file, which an [`super::Index`] has opened before.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: Arc::new(path.to_owned()),
            idle: Arc::default(),
        }
    }

    /// Runs questions on one consistent state of the index, off the async threads.
    ///
    /// # Errors
    /// What the questions return, or that SQLite failed.
    pub async fn ask<T, F>(&self, questions: F) -> Result<T, IndexError>
    where
        T: Send + 'static,
        F: FnOnce(&Questions<'_>) -> Result<T, IndexError> + Send + 'static,
    {
        let reader = self.clone();
        tokio::task::spawn_blocking(move || reader.answer(questions))
            .await
            .expect("questions do not panic")
    }

    /// The same, on this thread, which may block.
    ///
    /// # Errors
    /// What the questions return, or that SQLite failed.
    pub fn answer<T>(
        &self,
        questions: impl FnOnce(&Questions<'_>) -> Result<T, IndexError>,
    ) -> Result<T, IndexError> {
        let connection = self.connection()?;
        // One read transaction: all questions see the same batch.
        connection.execute_batch("BEGIN")?;
        let answer = questions(&Questions::new(&connection));
        connection.execute_batch("ROLLBACK")?;
        self.give_back(connection);
        answer
    }

    /// Returns every row of every table as text; see [`super::Index::dump`].
    ///
    /// # Errors
    /// When SQLite fails.
    pub async fn dump(&self) -> Result<String, IndexError> {
        self.ask(|q| dump(q.connection())).await
    }

    fn connection(&self) -> Result<Connection, IndexError> {
        let idle = self.idle.lock().expect("no holder of this lock panics").pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.path.as_path(), flags)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().expect("no holder of this lock panics");
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}
