//! Diff: what two releases, or directories, have in common, and where they differ.
//!
//! Of a release only metadata crosses the network: its manifest, its recipes, the headers of its safetensors
//! files and its `config.json`. Tensors are compared by the chunks that they are made of; only of small ones,
//! which share chunks with their neighbours, the chunks themselves are looked at, and no more than a few
//! megabytes. Every byte that comes is checked against the signed recipe. A directory is read whole.
//!
//! ```text
//! Side::of_release, Side::of_directory    what there is
//! tensors, config                         pure comparisons
//! ```

mod config;
mod side;
mod tensors;

use std::collections::HashMap;

use serde::Serialize;
use waag_schema::{ChunkDigest, Sha256};

use crate::error::Result;

pub use config::{ConfigDiff, FieldChange};
pub use side::Side;
pub use tensors::{Renamed, TensorChange, TensorDiff};

/// What two sides have in common, and where they differ. `a` is the earlier one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// The one.
    pub a: Summary,
    /// The other.
    pub b: Summary,
    /// Whether their files are the same under the same names.
    pub same: bool,
    /// Their files.
    pub files: FileDiff,
    /// Their tensors, if either has any.
    pub tensors: Option<TensorDiff>,
    /// Their `config.json`, if either has one that can be read.
    pub config: Option<ConfigDiff>,
    /// What they share, whatever it is called.
    pub chunks: ChunkDiff,
}

/// One side as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// As it was named.
    pub name: String,
    /// The manifest's digest, if it is a release.
    pub digest: Option<Sha256>,
    /// How many files it has.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// A file of one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileSize {
    /// Its path.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// A file that both have, with different content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// Its length in `a`.
    pub a_bytes: u64,
    /// Its length in `b`.
    pub b_bytes: u64,
}

/// The files of two sides, by path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FileDiff {
    /// How many are the same.
    pub same: u64,
    /// The bytes of those.
    pub same_bytes: u64,
    /// Files that only `b` has.
    pub added: Vec<FileSize>,
    /// Files that only `a` has.
    pub removed: Vec<FileSize>,
    /// Files of other content.
    pub changed: Vec<FileChange>,
}

/// The chunks of two sides; each counts once, however often it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChunkDiff {
    /// Bytes of the chunks that both have.
    pub shared_bytes: u64,
    /// Bytes of the chunks that only `a` has.
    pub only_a_bytes: u64,
    /// Bytes of the chunks that only `b` has: what whoever has `a` lacks of it.
    pub only_b_bytes: u64,
}

/// Compares two sides.
///
/// # Errors
/// When a header that has to be read does not come, or is not what was signed.
pub async fn diff(a: &Side, b: &Side) -> Result<Diff> {
    let files = compare_files(a, b);
    let tensors = tensors::diff(a, b).await?;
    let config = match (config::read(a).await?, config::read(b).await?) {
        (None, None) => None,
        (one, other) => Some(config::compare(
            &one.unwrap_or_default(),
            &other.unwrap_or_default(),
        )),
    };
    Ok(Diff {
        a: a.summary(),
        b: b.summary(),
        same: files.added.is_empty() && files.removed.is_empty() && files.changed.is_empty(),
        files,
        tensors,
        config,
        chunks: compare_chunks(&a.chunks(), &b.chunks()),
    })
}

fn compare_files(a: &Side, b: &Side) -> FileDiff {
    let mut diff = FileDiff::default();
    for (path, one) in a.files() {
        match b.files().get(path) {
            None => diff.removed.push(FileSize {
                path: path.clone(),
                bytes: one.size,
            }),
            Some(other) if other.sha256 == one.sha256 => {
                diff.same += 1;
                diff.same_bytes += one.size;
            }
            Some(other) => diff.changed.push(FileChange {
                path: path.clone(),
                a_bytes: one.size,
                b_bytes: other.size,
            }),
        }
    }
    let added = b
        .files()
        .iter()
        .filter(|(path, _)| !a.files().contains_key(*path));
    diff.added = added
        .map(|(path, file)| FileSize {
            path: path.clone(),
            bytes: file.size,
        })
        .collect();
    diff
}

fn compare_chunks(a: &HashMap<ChunkDigest, u64>, b: &HashMap<ChunkDigest, u64>) -> ChunkDiff {
    let sum = |of: &HashMap<ChunkDigest, u64>, wanted: &dyn Fn(&ChunkDigest) -> bool| {
        of.iter()
            .filter(|(chunk, _)| wanted(chunk))
            .map(|(_, length)| *length)
            .sum()
    };
    ChunkDiff {
        shared_bytes: sum(b, &|chunk| a.contains_key(chunk)),
        only_a_bytes: sum(a, &|chunk| !b.contains_key(chunk)),
        only_b_bytes: sum(b, &|chunk| !a.contains_key(chunk)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::event::silent;

    fn write(dir: &Path, files: &[(&str, &[u8])]) {
        for (name, bytes) in files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// A safetensors file of these tensors of bytes, each of one dimension.
    fn safetensors(tensors: &[(&str, &[u8])]) -> Vec<u8> {
        let mut entries = Vec::new();
        let (mut at, mut data) = (0, Vec::new());
        for (name, bytes) in tensors {
            let end = at + bytes.len();
            entries.push(format!(
                r#""{name}":{{"dtype":"U8","shape":[{}],"data_offsets":[{at},{end}]}}"#,
                bytes.len()
            ));
            data.extend_from_slice(bytes);
            at = end;
        }
        let header = format!("{{{}}}", entries.join(","));
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
    }

    async fn compare(a: &[(&str, &[u8])], b: &[(&str, &[u8])]) -> Diff {
        let dir = tempfile::tempdir().unwrap();
        let mut sides = Vec::new();
        for (name, files) in [("a", a), ("b", b)] {
            write(&dir.path().join(name), files);
            sides.push(
                Side::of_directory(&dir.path().join(name), &silent())
                    .await
                    .unwrap(),
            );
        }
        diff(&sides[0], &sides[1]).await.unwrap()
    }

    #[tokio::test]
    async fn files_are_added_removed_changed_or_the_same() {
        let found = compare(
            &[("same", b"1"), ("gone", b"22"), ("dir/other", b"333")],
            &[("same", b"1"), ("new", b"4444"), ("dir/other", b"55555")],
        )
        .await;
        assert!(!found.same);
        let files = &found.files;
        assert_eq!((files.same, files.same_bytes), (1, 1));
        assert_eq!((files.added[0].path.as_str(), files.added[0].bytes), ("new", 4));
        assert_eq!(
            (files.removed[0].path.as_str(), files.removed[0].bytes),
            ("gone", 2)
        );
        let changed = &files.changed[0];
        assert_eq!(
            (changed.path.as_str(), changed.a_bytes, changed.b_bytes),
            ("dir/other", 3, 5)
        );
        let chunks = found.chunks;
        assert_eq!(
            (chunks.shared_bytes, chunks.only_a_bytes, chunks.only_b_bytes),
            (1, 5, 9)
        );
        assert_eq!((found.tensors, found.config), (None, None));
    }

    #[tokio::test]
    async fn a_directory_is_the_same_as_itself() {
        let weights = safetensors(&[("w", &[1; 100]), ("x", &[2; 70_000])]);
        let files: &[(&str, &[u8])] = &[("m.safetensors", &weights), ("config.json", b"{\"a\":1}")];
        let found = compare(files, files).await;
        assert!(found.same);
        assert_eq!(found.tensors.unwrap().same, 2);
        assert!(found.config.unwrap().is_same());
        assert_eq!(found.chunks.only_b_bytes, 0);
    }

    #[tokio::test]
    async fn tensors_are_followed_through_new_names_and_new_shards() {
        let (large, small) = ([7; 70_000], [8; 100]);
        let a = safetensors(&[
            ("kept.large", &large),
            ("kept.small", &small),
            ("norm", &[9; 64]),
            ("gone", &[1; 10]),
            ("trained", &[2; 66_000]),
        ]);
        let one = safetensors(&[("kept.small", &small), ("added", &[5; 20])]);
        let two = safetensors(&[
            ("renamed.large", &[7; 70_000]),
            ("kept.large", &large),
            ("scale", &[9; 64]),
            ("trained", &[3; 66_000]),
        ]);
        let found = compare(
            &[("model.safetensors", &a)],
            &[("1.safetensors", &one), ("2.safetensors", &two)],
        )
        .await;
        let tensors = found.tensors.unwrap();
        assert_eq!(tensors.same, 2);
        assert_eq!(tensors.renamed.len(), 1);
        assert_eq!(
            (tensors.renamed[0].from.as_str(), tensors.renamed[0].to.as_str()),
            ("norm", "scale")
        );
        assert_eq!(tensors.added, ["added", "renamed.large"]);
        assert_eq!(tensors.removed, ["gone"]);
        assert_eq!(tensors.changed.len(), 1);
        assert_eq!(
            (tensors.changed[0].name.as_str(), tensors.changed[0].what.as_str()),
            ("trained", "values")
        );
        assert_eq!(tensors.undecided, 0);
    }

    #[tokio::test]
    async fn a_tensor_of_another_shape_says_so() {
        let found = compare(
            &[("m.safetensors", &safetensors(&[("w", &[1; 10])]))],
            &[("m.safetensors", &safetensors(&[("w", &[1; 12])]))],
        )
        .await;
        assert_eq!(found.tensors.unwrap().changed[0].what, "shape [10] -> [12]");
    }

    #[tokio::test]
    async fn fields_of_the_configuration_are_compared() {
        let found = compare(
            &[("config.json", br#"{"hidden_size": 8, "gone": null, "same": [1]}"#)],
            &[("config.json", br#"{"hidden_size": 16, "new": "x", "same": [1]}"#)],
        )
        .await;
        let config = found.config.unwrap();
        let fields: Vec<_> = config
            .fields
            .iter()
            .map(|f| (f.field.as_str(), f.a.clone(), f.b.clone()))
            .collect();
        assert_eq!(
            fields,
            [
                ("gone", Some(serde_json::Value::Null), None),
                ("hidden_size", Some(8.into()), Some(16.into())),
                ("new", None, Some("x".into())),
            ]
        );
    }
}
