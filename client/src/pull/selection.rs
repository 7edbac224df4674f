//! Which part of a release is pulled: files by patterns, tensors by a regular expression.
//!
//! A pattern is what it is in `.waagignore` (see [`crate::ignore`]): without a `/` it matches a name anywhere,
//! with one it is tied to the root; a directory stands for all that lies in it. A file is chosen when it
//! matches an include (or there is none) and no exclude.

use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use waag_schema::FilePath;

use crate::ignore::Ignore;

/// Which files and tensors; by default all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only files that match one of these.
    pub include: Vec<String>,
    /// But none that matches one of these.
    pub exclude: Vec<String>,
    /// Of safetensors files only tensors whose names match.
    pub tensors: Option<TensorPattern>,
}

impl Selection {
    /// Returns a test for paths.
    pub(crate) fn files(&self) -> impl Fn(&FilePath) -> bool + use<> {
        let all = self.include.is_empty();
        let include = Ignore::parse(&self.include.join("\n"));
        let exclude = Ignore::parse(&self.exclude.join("\n"));
        move |path| (all || matches(&include, path)) && !matches(&exclude, path)
    }

    /// Says in the words of a command line what was asked for.
    pub(crate) fn shown(&self) -> String {
        let include = self.include.iter().map(|glob| format!("--include {glob}"));
        let exclude = self.exclude.iter().map(|glob| format!("--exclude {glob}"));
        include.chain(exclude).collect::<Vec<_>>().join(" ")
    }
}

/// Says whether a path, or a directory that it lies in, matches.
fn matches(patterns: &Ignore, path: &FilePath) -> bool {
    let path = path.as_str();
    let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
    patterns.leaves_out(path, false) || above.any(|dir| patterns.leaves_out(dir, true))
}

/// A regular expression over tensors' names: it may match anywhere in a name; `\d`, `\w` and case are ASCII's.
#[derive(Debug, Clone)]
pub struct TensorPattern(Regex);

impl TensorPattern {
    /// Says whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }

    /// Returns the expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A regular expression is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a regular expression: {reason}")]
pub struct PatternError {
    text: String,
    reason: String,
}

impl FromStr for TensorPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let built = RegexBuilder::new(text).unicode(false).build();
        built.map(Self).map_err(|e| PatternError {
            text: text.to_owned(),
            // The last line says what is wrong; those before it draw where.
            reason: e.to_string().lines().last().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen_by_patterns_and_directories_stand_for_what_is_in_them() {
        let chosen = |include: &[&str], exclude: &[&str], path: &str| {
            let owned = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
            let selection = Selection {
                include: owned(include),
                exclude: owned(exclude),
                tensors: None,
            };
            selection.files()(&path.parse().unwrap())
        };
        assert!(chosen(&[], &[], "a/b"));
        assert!(chosen(&["*.json"], &[], "a/b.json"));
        assert!(!chosen(&["*.json"], &[], "a/b.bin"));
        assert!(chosen(&["a"], &[], "a/b/c.bin"));
        assert!(chosen(&["a/*.bin"], &[], "a/c.bin"));
        assert!(!chosen(&["a/*.bin"], &[], "a/b/c.bin"));
        assert!(!chosen(&["*.json"], &["a/"], "a/b.json"));
        assert!(!chosen(&[], &["*.bin"], "x.bin"));
    }

    #[test]
    fn a_tensor_pattern_matches_anywhere_in_the_name() {
        let pattern: TensorPattern = r"layers\.\d+\.attn|^lm_head".parse().unwrap();
        assert!(pattern.matches("model.layers.12.attn.q"));
        assert!(pattern.matches("lm_head.weight"));
        assert!(!pattern.matches("model.lm_head"));
        assert!("(".parse::<TensorPattern>().is_err());
    }
}
