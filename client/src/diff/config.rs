//! `config.json`, field by field, at its top level.

use serde::Serialize;
use serde_json::{Map, Value};
use waag_schema::release::model::CONFIG_JSON_MAX_BYTES;

use super::side::Side;
use crate::error::Result;

const NAME: &str = "config.json";

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it was; absent if it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<Value>,
    /// What it is; absent if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<Value>,
}

/// The fields of two configurations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigDiff {
    /// How many are the same.
    pub same: u64,
    /// Those that differ, by name.
    pub fields: Vec<FieldChange>,
}

impl ConfigDiff {
    /// Says whether nothing differs.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Reads the fields of a side's configuration; none if it has none that can be read.
pub(super) async fn read(side: &Side) -> Result<Option<Map<String, Value>>> {
    let Some(file) = side.files().get(NAME) else {
        return Ok(None);
    };
    if file.size > CONFIG_JSON_MAX_BYTES as u64 {
        return Ok(None);
    }
    let read = side.pieces(&file.sha256, 0..file.size).await?;
    Ok(read.and_then(|(_, bytes)| serde_json::from_slice(&bytes).ok()))
}

pub(super) fn compare(a: &Map<String, Value>, b: &Map<String, Value>) -> ConfigDiff {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let mut diff = ConfigDiff {
        same: 0,
        fields: Vec::new(),
    };
    for name in names {
        let (one, other) = (a.get(name), b.get(name));
        if one == other {
            diff.same += 1;
            continue;
        }
        diff.fields.push(FieldChange {
            field: name.clone(),
            a: one.cloned(),
            b: other.cloned(),
        });
    }
    diff
}
