//! Questions on the index, each a function that is named as the question.

mod artifacts;
mod content;
mod custody;
mod entries;
mod scorecards;
mod sets;

use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, ToSql};
use waag_schema::Sha256;

use super::IndexError;

pub use artifacts::{LabelRow, Wanted};
pub use content::ContentRow;
pub use custody::CustodyRow;
pub use entries::Located;

/// Names the kinds again as the index of such entries does: else all entries are gone through.
const NEWEST: &str =
    "SELECT position, at FROM entry WHERE predicate = ? AND predicate IN ('revocation-list', 'erasure')
     ORDER BY position DESC LIMIT 1";

/// Answers on one consistent state of the index.
#[derive(Debug, Clone, Copy)]
pub struct Questions<'a> {
    connection: &'a Connection,
}

fn corrupt(error: &dyn std::fmt::Display) -> IndexError {
    IndexError::Corrupt(error.to_string())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    column: &str,
) -> Result<T, IndexError> {
    row.get::<_, String>(column)?
        .parse()
        .map_err(|e: T::Err| corrupt(&e))
}

/// What SQLite cannot hold is no row's number: it is asked for as NULL, which nothing equals.
fn storable(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T, IndexError> {
    Ok(row.get(name)?)
}

fn sha256(row: &Row<'_>, name: &str) -> Result<Sha256, IndexError> {
    Ok(Sha256::from_bytes(row.get(name)?))
}

impl<'a> Questions<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    pub(super) const fn connection(&self) -> &'a Connection {
        self.connection
    }

    fn one<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl FnOnce(&Row<'_>) -> Result<T, IndexError>,
    ) -> Result<Option<T>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        rows.next()?.map(read).transpose()
    }

    fn all<T>(
        &self,
        sql: &str,
        parameters: &[&dyn ToSql],
        read: impl Fn(&Row<'_>) -> Result<T, IndexError>,
    ) -> Result<Vec<T>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_rare_kind_is_found_without_going_through_all_entries() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("schema.sql")).unwrap();
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {NEWEST}"), ["erasure"], |row| {
                row.get(3)
            })
            .unwrap();
        assert!(plan.contains("entry_by_predicate"), "{plan}");
    }
}
