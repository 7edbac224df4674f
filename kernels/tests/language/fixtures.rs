//! The reference's models, tasks and numbers: `tests/fixtures`, or the directory that `WAAG_EVAL_FIXTURES` names.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use waag_kernels::language::{Description, Language, LanguageSection, ModelSource, Options, Suite, evaluate};

pub(super) fn root() -> PathBuf {
    std::env::var_os("WAAG_EVAL_FIXTURES").map_or_else(bundled, PathBuf::from)
}

/// The ones that are here: tests that bend them know their sizes.
pub(super) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(super) fn json(file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root().join(file)).unwrap()).unwrap()
}

/// A model in a directory.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn of(family: &str) -> Self {
        Self(root().join(family))
    }
}

impl ModelSource for Directory {
    fn length(&self, file: &str) -> io::Result<Option<u64>> {
        match std::fs::metadata(self.0.join(file)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, file: &str, offset: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(self.0.join(file))?.read_exact_at(into, offset)
    }
}

pub(super) fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect()
}

pub(super) fn tokens(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_u64().unwrap().try_into().unwrap())
        .collect()
}

/// The reference's two tasks: whole texts, and choices.
pub(super) fn suite(root: &Path) -> Suite {
    let tasks = ["rolling", "choice"].map(|name| {
        let description = std::fs::read_to_string(root.join(format!("tasks/{name}.yaml"))).unwrap();
        let description = Description::parse(&description).unwrap();
        let data = std::fs::read(root.join(&description.data_files[0])).unwrap();
        description.with_documents(&data).unwrap()
    });
    Suite { tasks: tasks.into() }
}

/// Measures a model of the fixtures on the two tasks.
pub(super) fn measure(family: &str, options: Options<'_>) -> LanguageSection {
    match evaluate(&Directory::of(family), &suite(&root()), options).unwrap() {
        Language::Measured(section) => section,
        Language::NotMeasured(reason) => panic!("{family}: {reason}"),
    }
}
