//! Which files a directory would publish, by name and size. Nothing is read but names.
//!
//! Invariant of a [`Scan`]: its paths can be published (relative, harmless, no two alike where case is
//! ignored), stand in order, and were regular files when they were seen. `.waag` in the root, `.git`
//! anywhere, and what Hugging Face's tools leave under `.cache/huggingface` are never part of it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use waag_schema::FilePath;
use waag_schema::base::name::NameError;
use waag_schema::release::ManifestError;
use waag_schema::release::files::FILES_MAX;
use waag_schema::release::manifest::refuse_collisions;

use crate::ignore::Ignore;

/// The name of the file that says what is left out. It is not published itself.
pub const IGNORE_FILE: &str = ".waagignore";
/// No real ignore file has more.
const IGNORE_MAX_BYTES: u64 = 1 << 20;

/// A directory cannot be published as it is.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// There is nothing of this name.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// A symbolic link, and following them was not asked for.
    #[error("{} is a symbolic link", .0.display())]
    Symlink(PathBuf),
    /// A link that leads nowhere, or in a circle.
    #[error("the symbolic link {} leads nowhere", .0.display())]
    BrokenLink(PathBuf),
    /// A link to a directory; these are not followed.
    #[error("{} is a symbolic link to a directory; only links to files are followed", .0.display())]
    LinkToDirectory(PathBuf),
    /// A socket, a device or a pipe.
    #[error("{} is neither a file nor a directory", .0.display())]
    Special(PathBuf),
    /// A name that is not UTF-8.
    #[error("the name of {} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// A name that cannot be published.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two names that cannot exist side by side everywhere.
    #[error("{0}")]
    Collision(ManifestError),
    /// There is no file to publish.
    #[error("there are no files to publish in {}{}", .path.display(), if *.ignored > 0 { " that .waagignore does not leave out" } else { "" })]
    Empty {
        /// The directory.
        path: PathBuf,
        /// How many files were left out.
        ignored: u64,
    },
    /// More files than any release holds.
    #[error("{} holds more than {FILES_MAX} files", .0.display())]
    TooMany(PathBuf),
    /// The disk failed.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A file that would be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path within the artifact.
    pub path: FilePath,
    /// Where it lies on this disk.
    pub local: PathBuf,
    /// Its length when it was seen.
    pub size: u64,
}

/// What to do with symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Refuse the directory.
    Refuse,
    /// Take the regular files that they lead to, as in a snapshot of a Hugging Face cache.
    Follow,
}

/// The files of a directory, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// At least one.
    pub files: Vec<Found>,
    /// How many files and directories `.waagignore` left out.
    pub ignored: u64,
}

impl Scan {
    /// Lists what a directory, or a single file, would publish.
    ///
    /// # Errors
    /// When something in it cannot be published; the error names it.
    pub fn of(path: &Path, links: Links) -> Result<Self, ScanError> {
        // A link that was named itself may lead to a directory: the person has seen it.
        let meta = fs::metadata(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => ScanError::Missing(path.to_owned()),
            _ => failed(path)(e),
        })?;
        let mut walk = Walk {
            links,
            ignore: Ignore::default(),
            files: Vec::new(),
            ignored: 0,
        };
        if meta.is_dir() {
            walk.ignore = read_ignore(&path.join(IGNORE_FILE))?;
            walk.directory(path)?;
        } else {
            walk.file(path, name_of(path)?)?;
        }
        let Walk {
            mut files, ignored, ..
        } = walk;
        if files.is_empty() {
            let path = path.to_owned();
            return Err(ScanError::Empty { path, ignored });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        refuse_collisions(files.iter().map(|file| &file.path)).map_err(ScanError::Collision)?;
        Ok(Self { files, ignored })
    }

    /// Returns the sum of the files' sizes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .map(|file| file.size)
            .fold(0, u64::saturating_add)
    }
}

struct Walk {
    links: Links,
    ignore: Ignore,
    files: Vec<Found>,
    ignored: u64,
}

impl Walk {
    /// Walks without recursion: how deep directories go is not ours to choose.
    fn directory(&mut self, root: &Path) -> Result<(), ScanError> {
        let mut waiting = vec![(root.to_owned(), String::new())];
        while let Some((dir, prefix)) = waiting.pop() {
            for entry in fs::read_dir(&dir).map_err(failed(&dir))? {
                let entry = entry.map_err(failed(&dir))?;
                let local = entry.path();
                let name = format!("{prefix}{}", name_of(&local)?);
                let is_dir = entry.file_type().map_err(failed(&local))?.is_dir();
                if is_never_published(&name) {
                    continue;
                }
                if self.ignore.leaves_out(&name, is_dir) {
                    self.ignored += 1;
                } else if is_dir {
                    // Checked here as well: an endless chain of directories ends at the longest path.
                    name.parse::<FilePath>()?;
                    waiting.push((local, format!("{name}/")));
                } else {
                    self.file(&local, &name)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, local: &Path, name: &str) -> Result<(), ScanError> {
        let mut meta = fs::symlink_metadata(local).map_err(failed(local))?;
        if meta.is_symlink() {
            if self.links == Links::Refuse {
                return Err(ScanError::Symlink(local.to_owned()));
            }
            meta = fs::metadata(local).map_err(|e| match Errno::from_io_error(&e) {
                Some(Errno::NOENT | Errno::LOOP) => ScanError::BrokenLink(local.to_owned()),
                _ => failed(local)(e),
            })?;
            if meta.is_dir() {
                return Err(ScanError::LinkToDirectory(local.to_owned()));
            }
        }
        if !meta.is_file() {
            return Err(ScanError::Special(local.to_owned()));
        }
        if self.files.len() == FILES_MAX {
            return Err(ScanError::TooMany(local.to_owned()));
        }
        self.files.push(Found {
            path: name.parse()?,
            local: local.to_owned(),
            size: meta.len(),
        });
        Ok(())
    }
}

fn is_never_published(name: &str) -> bool {
    name == ".waag"
        || name == IGNORE_FILE
        || name == ".cache/huggingface"
        || name.rsplit('/').next() == Some(".git")
}

fn name_of(path: &Path) -> Result<&str, ScanError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ScanError::NotUtf8(path.to_owned()))
}

fn read_ignore(path: &Path) -> Result<Ignore, ScanError> {
    match fs::metadata(path) {
        // Opening a pipe would wait for somebody to write into it.
        Ok(meta) if !meta.is_file() => return Err(ScanError::Special(path.to_owned())),
        // What was cut off would be published.
        Ok(meta) if meta.len() > IGNORE_MAX_BYTES => {
            let text = format!("it has more than {IGNORE_MAX_BYTES} bytes");
            return Err(failed(path)(std::io::Error::other(text)));
        }
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Ignore::default()),
        Err(e) => return Err(failed(path)(e)),
    }
    Ok(Ignore::parse(&fs::read_to_string(path).map_err(failed(path))?))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ScanError + use<> {
    let path = path.to_owned();
    |source| ScanError::Io { path, source }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_ignore_file_that_is_none_is_refused_and_not_waited_for() {
        let dir = directory(&["a.bin"]);
        let _pipe = UnixListener::bind(dir.path().join(".waagignore")).unwrap();
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Special(_))
        ));
        let dir = directory(&["a.bin"]);
        fs::write(dir.path().join(".waagignore"), vec![b'#'; 2 << 20]).unwrap();
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Io { .. })
        ));
    }

    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn paths(scan: &Scan) -> Vec<&str> {
        scan.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn files_come_in_order_without_what_is_never_published() {
        let dir = directory(&[
            "b/z",
            "b/a",
            "a.txt",
            ".waag/proof.json",
            ".git/HEAD",
            "sub/.git/x",
            ".cache/huggingface/m",
        ]);
        let scan = Scan::of(dir.path(), Links::Refuse).unwrap();
        assert_eq!(paths(&scan), ["a.txt", "b/a", "b/z"]);
        assert_eq!(scan.bytes(), 11);
    }

    #[test]
    fn waagignore_leaves_files_and_directories_out() {
        let dir = directory(&["keep.bin", "x.log", "runs/1", "runs/2"]);
        fs::write(dir.path().join(IGNORE_FILE), "*.log\nruns/\n").unwrap();
        let scan = Scan::of(dir.path(), Links::Refuse).unwrap();
        assert_eq!((paths(&scan), scan.ignored), (vec!["keep.bin"], 2));
        fs::write(dir.path().join(IGNORE_FILE), "*\n").unwrap();
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Empty { ignored: 3, .. })
        ));
    }

    #[test]
    fn links_are_refused_or_followed_to_files_only() {
        let dir = directory(&["blobs/1", "snapshot/a"]);
        let snapshot = dir.path().join("snapshot");
        symlink("../blobs/1", snapshot.join("model.safetensors")).unwrap();
        assert!(matches!(
            Scan::of(&snapshot, Links::Refuse),
            Err(ScanError::Symlink(_))
        ));
        assert_eq!(
            paths(&Scan::of(&snapshot, Links::Follow).unwrap()),
            ["a", "model.safetensors"]
        );

        symlink("../blobs", snapshot.join("dir")).unwrap();
        assert!(matches!(
            Scan::of(&snapshot, Links::Follow),
            Err(ScanError::LinkToDirectory(_))
        ));
        fs::remove_file(snapshot.join("dir")).unwrap();
        symlink("circle", snapshot.join("circle")).unwrap();
        assert!(matches!(
            Scan::of(&snapshot, Links::Follow),
            Err(ScanError::BrokenLink(_))
        ));
    }

    #[test]
    fn what_cannot_be_published_is_named() {
        let dir = directory(&["Config.json", "config.json"]);
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Collision(_))
        ));
        let dir = directory(&["a\\b"]);
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Name(_))
        ));
        let dir = directory(&[]);
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Empty { ignored: 0, .. })
        ));
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        assert!(matches!(
            Scan::of(dir.path(), Links::Refuse),
            Err(ScanError::Special(_))
        ));
        assert!(matches!(
            Scan::of(&dir.path().join("nothing"), Links::Refuse),
            Err(ScanError::Missing(_))
        ));
    }

    #[test]
    fn a_single_file_is_published_under_its_own_name() {
        let dir = directory(&["deep/model.gguf"]);
        let scan = Scan::of(&dir.path().join("deep/model.gguf"), Links::Refuse).unwrap();
        assert_eq!(paths(&scan), ["model.gguf"]);
    }
}
