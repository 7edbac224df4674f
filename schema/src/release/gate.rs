//! The format gate: files that run code when they are loaded, or are programs, are not published.
//!
//! What a file is, is told by its first bytes, since names lie; a pickle of an old protocol has no mark, so there the
//! name tells. It is a gate for what is known to be harmful, not a scanner: of what passes nothing is claimed. Safetensors
//! and GGUF hold numbers only, and their headers are read in full elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::base::name::FilePath;

/// So many first bytes of a file are looked at.
pub const LOOKED_AT: usize = 64 << 10;

/// Entries of a zip archive that are looked at.
const ENTRIES_MAX: usize = 1000;
/// A zip archive's entry begins with this.
const ENTRY: &[u8] = b"PK\x03\x04";

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unsafe {
    /// A Python pickle, alone or in a zip archive as PyTorch writes it.
    Pickle,
    /// A program or a library for some machine.
    Executable,
}

impl Unsafe {
    /// Returns the name by which it can be allowed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pickle => "pickle",
            Self::Executable => "executable",
        }
    }
}

/// A format has no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`pickle` and `executable` are the formats that can be allowed")]
pub struct UnsafeError;

impl FromStr for Unsafe {
    type Err = UnsafeError;

    fn from_str(text: &str) -> Result<Self, UnsafeError> {
        let all = [Self::Pickle, Self::Executable];
        all.into_iter().find(|one| one.name() == text).ok_or(UnsafeError)
    }
}

/// A file that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} {what}", what = Said(*.what))]
pub struct Refused {
    /// The file.
    pub path: FilePath,
    /// What it is.
    pub what: Unsafe,
}

struct Said(Unsafe);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Unsafe::Pickle => {
                "is a pickle, which runs code when it is loaded: write the tensors as safetensors \
                 (`safetensors.torch.save_file(state_dict, \"model.safetensors\")`) and publish that"
            }
            Unsafe::Executable => "is a program or a library: publish what it is built from, or leave it out",
        })
    }
}

/// Looks at a file by its path and its first bytes, [`LOOKED_AT`] of them or all it has.
///
/// # Errors
/// When it is one of those that are refused, and not of a format that is allowed all the same.
pub fn check(path: &FilePath, head: &[u8], allowed: &[Unsafe]) -> Result<(), Refused> {
    match look(path, head) {
        Some(what) if !allowed.contains(&what) => Err(Refused {
            path: path.clone(),
            what,
        }),
        _ => Ok(()),
    }
}

/// Says whether the first bytes of a file of this path have to be looked at: not where the name says that its reader
/// takes numbers or text from it and nothing else.
#[must_use]
pub fn has_to_be_seen(path: &FilePath) -> bool {
    const PLAIN: [&str; 20] = [
        "safetensors",
        "gguf",
        "json",
        "jsonl",
        "txt",
        "md",
        "rst",
        "csv",
        "tsv",
        "parquet",
        "arrow",
        "yaml",
        "yml",
        "toml",
        "png",
        "jpg",
        "jpeg",
        "svg",
        "html",
        "jinja",
    ];
    !PLAIN.iter().any(|extension| path.has_extension(extension))
}

fn look(path: &FilePath, head: &[u8]) -> Option<Unsafe> {
    if !has_to_be_seen(path) {
        return None;
    }
    let named = ["pkl", "pickle", "dill", "joblib"]
        .iter()
        .any(|extension| path.has_extension(extension));
    if named || is_pickle(head) || is_object_array(head) || holds_pickle(head) {
        return Some(Unsafe::Pickle);
    }
    is_executable(head).then_some(Unsafe::Executable)
}

/// Protocol 2 and later: its opcode and number, then an opcode that can begin a value.
fn is_pickle(head: &[u8]) -> bool {
    let begins = |opcode: u8| {
        matches!(
            opcode,
            b'c' | b'(' | b'}' | b']' | b')' | b'X' | b'U' | b'K' | b'J' | b'M' | b'C' | b'B' | b'N' | b'G'
        ) || matches!(opcode, 0x80..=0x98)
    };
    matches!(head, [0x80, 2..=5, opcode, ..] if begins(*opcode))
}

/// A NumPy array of objects, which are pickled.
fn is_object_array(head: &[u8]) -> bool {
    let header = &head[..head.len().min(256)];
    header.starts_with(b"\x93NUMPY") && find(header, b"'descr': '|O").is_some()
}

/// A zip archive with a pickle among its first entries.
fn holds_pickle(head: &[u8]) -> bool {
    let mut rest = head;
    for _ in 0..ENTRIES_MAX {
        let Some(at) = find(rest, ENTRY) else { return false };
        rest = &rest[at + ENTRY.len()..];
        let Some(fields) = rest.first_chunk::<26>() else {
            return false;
        };
        let name_length = usize::from(u16::from_le_bytes([fields[22], fields[23]]));
        let extra = usize::from(u16::from_le_bytes([fields[24], fields[25]]));
        let name = rest.get(26..26 + name_length).unwrap_or_default();
        let stored = fields[4..6] == [0, 0];
        let content = rest.get(26 + name_length + extra..).unwrap_or_default();
        if at > 0 && !head.starts_with(ENTRY) {
            return false;
        }
        if name.ends_with(b".pkl") || (stored && (is_pickle(content) || is_object_array(content))) {
            return true;
        }
    }
    false
}

/// ELF, PE, Mach-O and Java classes, WebAssembly, and archives of object files.
fn is_executable(head: &[u8]) -> bool {
    const MARKS: [&[u8]; 8] = [
        b"\x7fELF",
        b"\xfe\xed\xfa\xce",
        b"\xfe\xed\xfa\xcf",
        b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
        b"\0asm",
        b"!<arch>\n",
    ];
    let portable = head.starts_with(b"MZ")
        && head
            .get(0x3c..0x40)
            .and_then(|at| Some(u32::from_le_bytes(at.try_into().ok()?) as usize))
            .and_then(|at| head.get(at..at.checked_add(4)?))
            == Some(b"PE\0\0");
    portable || MARKS.iter().any(|mark| head.starts_with(mark))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(path: &str, head: &[u8]) -> Option<Unsafe> {
        check(&path.parse().unwrap(), head, &[])
            .err()
            .map(|refused| refused.what)
    }

    /// A zip archive of stored entries, without its directory.
    fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in entries {
            bytes.extend_from_slice(ENTRY);
            bytes.extend_from_slice(&[0; 22]);
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(content);
        }
        bytes
    }

    #[test]
    fn pickles_are_known_by_their_bytes_under_any_name() {
        // What Python's pickle.dumps({}, 2) and dumps([1], 4) give.
        let (two, four) = (
            &b"\x80\x02}q\x00."[..],
            &b"\x80\x04\x95\x08\0\0\0\0\0\0\0]\x94K\x01a."[..],
        );
        // How torch.save began its files before they were archives.
        let legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.";
        for head in [two, four, legacy] {
            assert_eq!(seen("pytorch_model.bin", head), Some(Unsafe::Pickle));
            assert_eq!(seen("weights", head), Some(Unsafe::Pickle));
        }
        let archive = zip(&[("archive/version", b"3\n"), ("archive/data.pkl", two)]);
        assert_eq!(seen("model.pt", &archive), Some(Unsafe::Pickle));
        assert_eq!(
            seen("x.npz", &zip(&[("a.npy", b"\x93NUMPY\x01\0v\0{'descr': '|O'")])),
            Some(Unsafe::Pickle)
        );
        assert_eq!(seen("old.pkl", b"(dp0\n."), Some(Unsafe::Pickle));
    }

    #[test]
    fn programs_are_refused_and_data_is_not() {
        assert_eq!(seen("tool", b"\x7fELF\x02\x01"), Some(Unsafe::Executable));
        let mut portable = vec![0; 0x84];
        portable[..2].copy_from_slice(b"MZ");
        portable[0x3c] = 0x80;
        portable[0x80..].copy_from_slice(b"PE\0\0");
        assert_eq!(seen("setup.exe", &portable), Some(Unsafe::Executable));
        for (path, head) in [
            ("weights.bin", &b"\x80\x3f\x80\x3f"[..]),
            ("plain.npy", b"\x93NUMPY\x01\0v\0{'descr': '<f4'"),
            ("x.npz", &zip(&[("a.npy", b"\x93NUMPY\x01\0v\0{'descr': '<f4'")])),
            ("modeling.py", b"import torch\n"),
            ("config.json", b"\x80\x02}q\x00."),
            ("MZ.bin", b"MZ and more"),
            ("empty.bin", b""),
        ] {
            assert_eq!(seen(path, head), None, "{path}");
        }
    }

    #[test]
    fn the_refusal_says_how_to_convert() {
        let path: FilePath = "a/model.pkl".parse().unwrap();
        let said = check(&path, b"", &[Unsafe::Executable]).unwrap_err().to_string();
        assert!(
            said.starts_with("a/model.pkl is a pickle") && said.contains("safetensors"),
            "{said}"
        );
        assert_eq!(check(&path, b"", &[Unsafe::Pickle]), Ok(()));
    }
}
