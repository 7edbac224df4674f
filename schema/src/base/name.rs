//! Names, with their rules.
//!
//! A [`Namespace`] is 1 to 39 characters, an artifact's last part 1 to 96: lower-case letters and digits,
//! joined by single `-` (in artifacts also `.` or `_`). That is valid both as an OCI repository path
//! (distribution-spec 1.1, `<name>`) and as a Hugging Face repository id, so one name serves every face.
//! A [`Tag`] is OCI's: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. A [`FilePath`] is relative, `/`-separated and
//! harmless on every file system.

use std::fmt;
use std::str::FromStr;

use super::digest::Sha256;

/// A name breaks its rules; the text says which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` {rule}")]
pub struct NameError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl NameError {
    fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        // Control characters are shown escaped: the message ends in a terminal.
        Self {
            what,
            text: text.chars().take(120).flat_map(char::escape_default).collect(),
            rule,
        }
    }
}

/// First parts of the paths that faces use; a namespace of this name would hide behind them.
pub const RESERVED_NAMESPACES: [&str; 13] = [
    "api", "v1", "v2", "cas", "ledger", "datasets", "models", "spaces", "kernels", "metrics", "healthz",
    "readyz", "assets",
];

fn is_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Letters and digits joined by single separators.
fn is_joined(text: &str, separators: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let ends_well = bytes.first().is_some_and(|b| is_alnum(*b)) && bytes.last().is_some_and(|b| is_alnum(*b));
    ends_well
        && bytes.iter().all(|b| is_alnum(*b) || separators.contains(b))
        && bytes.windows(2).all(|w| is_alnum(w[0]) || is_alnum(w[1]))
}

macro_rules! text_type {
    ($name:ident, $description:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        crate::base::text::as_text!($name, $description);
    };
}

/// Who publishes: the first part of an artifact's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |rule| Err(NameError::new("namespace", text, rule));
        if text.is_empty() || text.len() > 39 {
            return fail("must have 1 to 39 characters");
        }
        if !is_joined(text, b"-") {
            return fail("may only hold lower-case letters and digits, joined by single `-`");
        }
        if RESERVED_NAMESPACES.contains(&text) {
            return fail("is reserved");
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(
    Namespace,
    "A namespace: 1 to 39 lower-case letters and digits, joined by single `-`"
);

/// A named model, dataset or suite: `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactName {
    text: String,
    slash: usize,
}

impl ArtifactName {
    /// Returns the text, `namespace/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the first part.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace(self.text[..self.slash].to_owned())
    }

    /// Returns the last part.
    #[must_use]
    pub fn last(&self) -> &str {
        &self.text[self.slash + 1..]
    }
}

impl FromStr for ArtifactName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |rule| Err(NameError::new("artifact", text, rule));
        let Some((namespace, name)) = text.split_once('/') else {
            return fail("must have two parts, as in acme/tiny");
        };
        namespace.parse::<Namespace>()?;
        if name.is_empty() || name.len() > 96 {
            return fail("must have 1 to 96 characters after the `/`");
        }
        if !is_joined(name, b"-._") {
            return fail("may only hold lower-case letters and digits, joined by single `-`, `.` or `_`");
        }
        // Hugging Face refuses these endings, and OCI clients write fallback tags under them.
        if name.ends_with(".git") || name.ends_with(".ipynb") {
            return fail("may not end in .git or .ipynb");
        }
        Ok(Self {
            text: text.to_owned(),
            slash: namespace.len(),
        })
    }
}

text_type!(ArtifactName, "An artifact: `namespace/name`");

/// The name of a version: OCI's tag.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tag of a push that names none.
    #[must_use]
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// Says whether this tag moves without being told to: `latest` and `main` do.
    #[must_use]
    pub fn moves(&self) -> bool {
        matches!(self.0.as_str(), "latest" | "main")
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |rule| Err(NameError::new("tag", text, rule));
        if text.is_empty() || text.len() > 128 {
            return fail("must have 1 to 128 characters");
        }
        let first = text.as_bytes()[0];
        if !(first.is_ascii_alphanumeric() || first == b'_')
            || !text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        {
            return fail(
                "may only hold letters, digits, `_`, `.` and `-`, and starts with none of the last two",
            );
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(Tag, "A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`");

/// One registry installation: the lower-case base32 of the first 160 bits of the SHA-256 of its first log
/// key, 32 characters. It is also the fingerprint that a person compares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(String);

impl SiteId {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SiteId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let base32 = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
        if text.len() != 32 || !text.bytes().all(base32) {
            return Err(NameError::new(
                "site",
                text,
                "must be 32 characters of lower-case base32 (a-z, 2-7)",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(
    SiteId,
    "A site: 32 characters of lower-case base32, also its fingerprint"
);

/// Where a file lies within an artifact: relative, `/`-separated, at most 1,024 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the form in which two paths collide on a file system that ignores case.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }

    /// Says whether the last part ends in this extension (given without a dot, lower case), in any case.
    #[must_use]
    pub fn has_extension(&self, extension: &str) -> bool {
        let file = self.0.rsplit('/').next().unwrap_or_default();
        file.rsplit_once('.')
            .is_some_and(|(stem, found)| !stem.is_empty() && found.eq_ignore_ascii_case(extension))
    }
}

impl FromStr for FilePath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |rule| Err(NameError::new("file name", text, rule));
        if text.is_empty() || text.len() > 1024 {
            return fail("must have 1 to 1,024 bytes");
        }
        if text.starts_with('/') {
            return fail("is absolute; names are relative to the artifact");
        }
        if text.chars().any(|c| c.is_control() || c == '\\') {
            return fail("holds a control character, a NUL or a backslash");
        }
        let bytes = text.as_bytes();
        if bytes.len() >= 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' {
            return fail("starts with a drive letter");
        }
        for part in text.split('/') {
            match part {
                "" => return fail("has an empty part (`//` or a `/` at its end)"),
                "." | ".." => return fail("has a part `.` or `..`"),
                _ if part.len() > 255 => return fail("has a part of more than 255 bytes"),
                _ => {}
            }
        }
        if text
            .split('/')
            .next()
            .is_some_and(|first| first.eq_ignore_ascii_case(".waag"))
        {
            return fail("lies under .waag, which is kept for proofs");
        }
        Ok(Self(text.to_owned()))
    }
}

text_type!(
    FilePath,
    "A file's path within its artifact: relative, `/`-separated, no `..`"
);

/// What a person names on the command line: `namespace/name`, `namespace/name:tag` or
/// `namespace/name@sha256:<hex>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The artifact.
    pub artifact: ArtifactName,
    /// Which of its versions.
    pub version: Version,
}

/// Which version of an artifact is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The one that this tag names now.
    Tag(Tag),
    /// The one with this manifest.
    Manifest(Sha256),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Manifest(digest) => digest.fmt(f),
        }
    }
}

crate::base::text::as_text!(Version, "A tag, or sha256:<64 lower-case hex digits>");

impl FromStr for Version {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.starts_with("sha256:") {
            let digest = text
                .parse()
                .map_err(|_| NameError::new("digest", text, "must be sha256:<64 hex digits>"))?;
            return Ok(Self::Manifest(digest));
        }
        text.parse().map(Self::Tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}:{tag}", self.artifact),
            Version::Manifest(digest) => write!(f, "{}@{digest}", self.artifact),
        }
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some((artifact, digest)) = text.split_once('@') {
            let digest = digest.parse().map_err(|_| {
                NameError::new(
                    "reference",
                    text,
                    "must name its digest as @sha256:<64 lower-case hex digits>",
                )
            })?;
            return Ok(Self {
                artifact: artifact.parse()?,
                version: Version::Manifest(digest),
            });
        }
        let (artifact, tag) = match text.split_once(':') {
            Some((artifact, tag)) => (artifact, tag.parse()?),
            None => (text, Tag::latest()),
        };
        Ok(Self {
            artifact: artifact.parse()?,
            version: Version::Tag(tag),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifact_names_hold_for_both_hugging_face_and_oci() {
        for good in ["acme/tiny", "a/b", "acme-labs/llama-3.1_8b", "x1/y"] {
            assert_eq!(good.parse::<ArtifactName>().unwrap().to_string(), good);
        }
        for bad in [
            "tiny",
            "acme/",
            "/tiny",
            "acme/a/b",
            "Acme/tiny",
            "acme/a--b",
            "acme/a..b",
            "acme/-a",
            "acme/a-",
            "acme_x/a",
            "api/x",
            "v2/x",
            "acme/x.git",
            "acme/a b",
            "acme/ä",
        ] {
            assert!(bad.parse::<ArtifactName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn file_paths_that_could_leave_their_directory_are_refused() {
        for good in ["config.json", "a/b/c.bin", ".gitattributes", "größe.txt", "a..b"] {
            assert!(good.parse::<FilePath>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\\b",
            "C:x",
            ".waag/x",
            ".WAAG",
            "a\nb",
        ] {
            assert!(bad.parse::<FilePath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn references_name_a_tag_a_digest_or_latest() {
        let digest = Sha256::of(b"m");
        for (text, printed) in [
            ("acme/tiny".to_owned(), "acme/tiny:latest".to_owned()),
            ("acme/tiny:1.0".to_owned(), "acme/tiny:1.0".to_owned()),
            (format!("acme/tiny@{digest}"), format!("acme/tiny@{digest}")),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), printed);
        }
        assert!("acme/tiny@sha256:00".parse::<Reference>().is_err());
        assert!("acme/tiny:-x".parse::<Reference>().is_err());
    }
}
