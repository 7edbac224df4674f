//! A suite as files: task descriptions (YAML) and the documents that they ask about (JSONL).
//!
//! A description's `data_files` are looked for in its own directory, then in those above. Of a release nothing outside it
//! is looked at; on a disk the directories above are searched to the root. Bounded are the number of tasks and the bytes of
//! all documents together, so what is held in memory is, too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use waag_kernels::language::{Description, Stop, Suite};
use waag_schema::statement::scorecard::TASK_MAX;

/// The most tasks of a suite.
pub const TASKS_MAX: usize = 128;
/// The most bytes of a description.
pub const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;
/// The most bytes of all documents of a suite.
pub const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// How deep directories are searched for descriptions.
const DEPTH_MAX: usize = 16;
/// The most files and directories that are looked at in search of descriptions.
const ENTRIES_MAX: usize = 100_000;

/// A suite that was read.
#[derive(Debug, Clone, Default)]
pub struct ReadSuite {
    /// What can be asked.
    pub suite: Suite,
    /// The tasks that this engine cannot ask, with the reason.
    pub not_measured: Vec<(String, String)>,
}

/// A suite cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// There is no such file or directory.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no description.
    #[error("{0} holds no task description (*.yaml)")]
    Empty(String),
}

impl SuiteError {
    fn file(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// Says whether a file of this path describes a task.
#[must_use]
pub fn is_description(path: &str) -> bool {
    let extension = Path::new(path).extension();
    extension.is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"))
}

/// Says whether a file of this path can be part of a suite: a description, or documents.
#[must_use]
pub fn is_part(path: &str) -> bool {
    let extension = Path::new(path).extension();
    let documents = |e: &std::ffi::OsStr| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("json");
    is_description(path) || extension.is_some_and(documents)
}

/// Returns which of these files, with their sizes, are read of a suite.
///
/// # Errors
/// When they have more bytes than are read.
pub fn parts<'a>(files: impl IntoIterator<Item = (&'a str, u64)>) -> Result<Vec<(&'a str, u64)>, SuiteError> {
    let mut left = DOCUMENT_BYTES_MAX;
    let mut parts = Vec::new();
    for (path, size) in files.into_iter().filter(|(path, _)| is_part(path)) {
        let limit = if is_description(path) {
            DESCRIPTION_BYTES_MAX
        } else {
            left
        };
        if size > limit {
            let problem = format!("has {size} bytes, {limit} more are read of a suite");
            return Err(SuiteError::file(path, problem));
        }
        if !is_description(path) {
            left -= size;
        }
        parts.push((path, size));
    }
    Ok(parts)
}

/// Reads a suite from a directory (every description below it), or from one description.
///
/// # Errors
/// When a file is missing, cannot be read, or is not what it should be; the error names it.
pub fn open(path: &Path) -> Result<ReadSuite, SuiteError> {
    read(path, false)
}

/// Reads a suite from a directory, and nothing outside of it.
///
/// # Errors
/// As for [`open`].
pub fn below(path: &Path) -> Result<ReadSuite, SuiteError> {
    read(path, true)
}

fn read(path: &Path, confined: bool) -> Result<ReadSuite, SuiteError> {
    let io = |path: &Path, error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => SuiteError::Missing(path.to_owned()),
        _ => SuiteError::Io {
            path: path.to_owned(),
            error,
        },
    };
    // Parents are those of the path that is meant, not those of a link to it.
    let path = std::path::absolute(path).map_err(|e| io(path, e))?;
    let is_directory = std::fs::metadata(&path).map_err(|e| io(&path, e))?.is_dir();
    let descriptions = if is_directory {
        descriptions_below(&path)?
    } else {
        vec![path.clone()]
    };
    let mut reading = Reading::default();
    for file in descriptions {
        let shown = file.display().to_string();
        let text = read_file(&file, DESCRIPTION_BYTES_MAX).map_err(|e| io(&file, e))?;
        reading.description(&shown, text, |name, left| {
            let within: Vec<PathBuf> = match file.strip_prefix(&path) {
                Ok(own) if confined => candidates(&own.display().to_string(), name)
                    .map(|candidate| path.join(candidate))
                    .collect(),
                _ => file
                    .ancestors()
                    .skip(1)
                    .map(|directory| directory.join(name))
                    .collect(),
            };
            for candidate in within {
                match read_file(&candidate, left) {
                    Ok(bytes) => return Ok(bytes),
                    Err(e) if is_absent(&e) => {}
                    Err(e) => return Err(io(&candidate, e)),
                }
            }
            Err(missing(&shown, name))
        })?;
    }
    reading.finish(&path.display().to_string())
}

/// Reads a suite from the files of a release: descriptions and documents, by path.
///
/// # Errors
/// When a file is missing or is not what it should be; the error names it.
pub fn of_files(files: &BTreeMap<String, Vec<u8>>) -> Result<ReadSuite, SuiteError> {
    let mut reading = Reading::default();
    let hidden = |path: &str| path.split('/').any(|name| name.starts_with('.'));
    for (path, bytes) in files
        .iter()
        .filter(|(path, _)| is_description(path) && !hidden(path))
    {
        if bytes.len() as u64 > DESCRIPTION_BYTES_MAX {
            let problem = format!(
                "has {} bytes, at most {DESCRIPTION_BYTES_MAX} are read",
                bytes.len()
            );
            return Err(SuiteError::file(path, problem));
        }
        reading.description(path, bytes.clone(), |name, left| {
            let found = candidates(path, name).find_map(|candidate| files.get(&candidate));
            let found = found.ok_or_else(|| missing(path, name))?;
            if found.len() as u64 > left {
                return Err(SuiteError::file(path, too_large(name)));
            }
            Ok(found.clone())
        })?;
    }
    reading.finish("the suite")
}

/// Returns where a data file that a description names may lie within a release, in the order in which it is looked for;
/// a name that leads elsewhere lies nowhere.
fn candidates<'a>(description: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let plain = Path::new(name).components().all(|part| {
        matches!(
            part,
            std::path::Component::Normal(_) | std::path::Component::CurDir
        )
    });
    let name: PathBuf = Path::new(name)
        .components()
        .filter(|part| *part != std::path::Component::CurDir)
        .collect();
    let above = Path::new(description).ancestors().skip(1);
    above
        .filter(move |_| plain)
        .map(move |directory| directory.join(&name).display().to_string())
}

fn missing(description: &str, name: &str) -> SuiteError {
    let problem = format!("names the data file {name}, which is neither beside it nor in a directory above");
    SuiteError::file(description, problem)
}

fn too_large(name: &str) -> String {
    format!("with {name} its suite has more than {DOCUMENT_BYTES_MAX} bytes of documents")
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Reads a regular file of at most so many bytes.
fn read_file(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        // A directory of the name of a file is not the file.
        return Err(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "it is not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let problem = format!("it is longer than the {bytes_max} bytes that are read");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Returns the descriptions below a directory, by path. What begins with a dot is passed over.
fn descriptions_below(root: &Path) -> Result<Vec<PathBuf>, SuiteError> {
    let mut found = Vec::new();
    let mut open = vec![(root.to_owned(), 0)];
    let mut seen = 0;
    while let Some((directory, depth)) = open.pop() {
        let io = |error| SuiteError::Io {
            path: directory.clone(),
            error,
        };
        for entry in std::fs::read_dir(&directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            seen += 1;
            if seen > ENTRIES_MAX {
                let problem = format!("holds more than {ENTRIES_MAX} files: name the suite's own directory");
                return Err(SuiteError::file(root.display().to_string(), problem));
            }
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() && depth < DEPTH_MAX {
                open.push((entry.path(), depth + 1));
            } else if !kind.is_dir() && is_description(name) {
                found.push(entry.path());
            }
        }
    }
    // As their names stand in a release: the order of tasks shows in the details.
    found.sort_by(|a: &PathBuf, b| a.as_os_str().cmp(b.as_os_str()));
    Ok(found)
}

#[derive(Default)]
struct Reading {
    read: ReadSuite,
    names: BTreeSet<String>,
    bytes: u64,
}

impl Reading {
    /// Takes a description; `documents` finds a data file of at most so many bytes.
    fn description(
        &mut self,
        path: &str,
        text: Vec<u8>,
        documents: impl Fn(&str, u64) -> Result<Vec<u8>, SuiteError>,
    ) -> Result<(), SuiteError> {
        let bad = |problem: String| SuiteError::file(path, problem);
        let text = String::from_utf8(text).map_err(|_| bad("is no UTF-8 text".to_owned()))?;
        let description = match Description::parse(&text) {
            Ok(description) => description,
            Err(Stop::NotMeasured(reason)) => {
                let reason = reason.to_string();
                let because = reason.strip_prefix("not measured because ").unwrap_or(&reason);
                self.read.not_measured.push((path.to_owned(), because.to_owned()));
                return Ok(());
            }
            Err(Stop::Failed(error)) => return Err(bad(error.to_string())),
        };
        let name = description.name.clone();
        if name.len() > TASK_MAX || name.chars().any(char::is_control) {
            return Err(bad(format!(
                "the name of its task has {} bytes, 1 to {TASK_MAX} without control characters are read",
                name.len()
            )));
        }
        if !self.names.insert(name.clone()) {
            return Err(bad(format!("another description is of the task {name}, too")));
        }
        if self.names.len() > TASKS_MAX {
            return Err(bad(format!("a suite has at most {TASKS_MAX} tasks")));
        }
        if description.data_files.is_empty() {
            return Err(bad(format!("task {name} names no data file")));
        }
        let mut all = Vec::new();
        for file in &description.data_files {
            let bytes = documents(file, DOCUMENT_BYTES_MAX - self.bytes)?;
            self.bytes += bytes.len() as u64;
            all.extend(bytes);
            all.push(b'\n');
        }
        let task = description.with_documents(&all).map_err(|e| bad(e.to_string()))?;
        task.check().map_err(|e| bad(e.to_string()))?;
        self.read.suite.tasks.push(task);
        Ok(())
    }

    fn finish(self, shown: &str) -> Result<ReadSuite, SuiteError> {
        if self.read.suite.tasks.is_empty() && self.read.not_measured.is_empty() {
            return Err(SuiteError::Empty(shown.to_owned()));
        }
        Ok(self.read)
    }
}
