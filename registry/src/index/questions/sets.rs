//! What is asked of sets of releases; what they are, `index::sets` says.

use rusqlite::params;
use waag_schema::{ArtifactName, Namespace, Sha256, SiteId};

use super::{Questions, parsed, sha256};
use crate::index::IndexError;

/// The first and the last element that begin with this byte.
const fn bounds(first: u8) -> ([u8; 32], [u8; 32]) {
    let (mut from, mut to) = ([0; 32], [u8::MAX; 32]);
    (from[0], to[0]) = (first, first);
    (from, to)
}

const RELEASED: &str =
    "SELECT element FROM release WHERE withdrawn IS NULL AND element BETWEEN ? AND ? ORDER BY element";
const HELD: &str = "SELECT element FROM holding WHERE site = ? AND home = ? AND element BETWEEN ? AND ?
     ORDER BY element";

impl Questions<'_> {
    /// Which elements that begin so stand for the releases of this ledger that are not withdrawn, in their order?
    pub(in crate::index) fn released_elements(&self, first: u8) -> Result<Vec<Sha256>, IndexError> {
        let (from, to) = bounds(first);
        self.all(RELEASED, params![from, to], |row| {
            Ok(Sha256::from_bytes(row.get(0)?))
        })
    }

    /// Which elements that begin so stand for what this site says it holds of that home, in their order?
    pub(in crate::index) fn held_elements(
        &self,
        site: &SiteId,
        home: &SiteId,
        first: u8,
    ) -> Result<Vec<Sha256>, IndexError> {
        let (from, to) = bounds(first);
        self.all(HELD, params![site.as_str(), home.as_str(), from, to], |row| {
            Ok(Sha256::from_bytes(row.get(0)?))
        })
    }

    /// Which elements stand for releases of this namespace?
    pub(in crate::index) fn elements_in(&self, namespace: &Namespace) -> Result<Vec<Sha256>, IndexError> {
        let sql =
            "SELECT r.element FROM artifact a JOIN release r ON r.artifact = a.name WHERE a.namespace = ?";
        self.all(sql, params![namespace.as_str()], |row| sha256(row, "element"))
    }

    /// For which release of this ledger that is not withdrawn does this stand?
    pub(in crate::index) fn released_as(
        &self,
        element: &Sha256,
    ) -> Result<Option<(ArtifactName, Sha256)>, IndexError> {
        let sql = "SELECT artifact, manifest FROM release WHERE withdrawn IS NULL AND element = ?";
        self.one(sql, params![element.as_bytes()], |row| {
            Ok((parsed(row, "artifact")?, sha256(row, "manifest")?))
        })
    }

    /// For which release that the site says it holds does this stand?
    pub(in crate::index) fn held_as(
        &self,
        site: &SiteId,
        home: &SiteId,
        element: &Sha256,
    ) -> Result<Option<(ArtifactName, Sha256)>, IndexError> {
        let sql = "SELECT c.artifact, c.manifest FROM holding h JOIN custody c ON c.position = h.position
             WHERE h.site = ? AND h.home = ? AND h.element = ?";
        let of = params![site.as_str(), home.as_str(), element.as_bytes()];
        self.one(sql, of, |row| {
            Ok((parsed(row, "artifact")?, sha256(row, "manifest")?))
        })
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn both_sets_are_read_in_order_from_what_holds_nothing_else() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../schema.sql")).unwrap();
        let (from, to) = bounds(7);
        let plan = |sql: &str, of: &[&dyn rusqlite::ToSql]| -> String {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let rows = plan.query_map(of, |row| row.get::<_, String>(3)).unwrap();
            rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
        };
        let released = plan(RELEASED, params![from, to]);
        assert!(
            released.contains("COVERING INDEX release_by_element"),
            "{released}"
        );
        let held = plan(HELD, params!["a", "b", from, to]);
        assert!(held.contains("PRIMARY KEY"), "{held}");
        assert!(!format!("{released}{held}").contains("TEMP B-TREE"));
    }
}
