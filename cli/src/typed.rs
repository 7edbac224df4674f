//! What a person types that no other crate has a type for.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use waag_schema::base::name::Version;
use waag_schema::statement::scorecard::Amount;
use waag_schema::wire::token::Scope;
use waag_schema::{ArtifactName, Reference, Tag};

/// Reads a token's public name.
pub(crate) fn token_id(text: &str) -> Result<String, String> {
    let is_id = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_id
        .then(|| text.to_owned())
        .ok_or_else(|| "a token's id has 16 hex digits".to_owned())
}

/// A scope as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeArg {
    /// Read the artifacts of its namespaces
    Read,
    /// Publish in its namespaces; an owner's key must sign as well
    Publish,
    /// Measure releases in the site's stead, as `waag worker` does
    Weigh,
    /// Admit namespaces and make tokens
    Admin,
}

impl From<ScopeArg> for Scope {
    fn from(scope: ScopeArg) -> Self {
        match scope {
            ScopeArg::Read => Self::Read,
            ScopeArg::Publish => Self::Publish,
            ScopeArg::Weigh => Self::Weigh,
            ScopeArg::Admin => Self::Admin,
        }
    }
}

/// Where a push goes: a name and a tag. A digest cannot be chosen, it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) artifact: ArtifactName,
    pub(crate) tag: Tag,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Reference { artifact, version } = text.parse().map_err(|e| format!("{e}"))?;
        match version {
            Version::Tag(tag) => Ok(Self { artifact, tag }),
            Version::Manifest(_) => Err("a push names a tag; the digest follows from the files".to_owned()),
        }
    }
}

/// What is shown: an artifact with all its versions, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Artifact(ArtifactName),
    Release(Reference),
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A reference without a version means the newest; here it means them all.
        match text.parse() {
            Ok(artifact) => Ok(Self::Artifact(artifact)),
            Err(_) => text.parse().map(Self::Release).map_err(|e| format!("{e}")),
        }
    }
}

/// What to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// A GPU where there is one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number.
    Cuda(u32),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|n| n.parse().ok());
                number
                    .map(Self::Cuda)
                    .ok_or_else(|| "auto, cpu and cuda:N (as cuda:0) are known".to_owned())
            }
        }
    }
}

/// How to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrecisionArg {
    F32,
    Bf16,
}

impl FromStr for PrecisionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            _ => Err("f32 and bf16 are known".to_owned()),
        }
    }
}

/// Reads a rate in bytes a second: a number, alone or with K, M or G (1024 each).
pub(crate) fn rate(text: &str) -> Result<u64, String> {
    let wrong = || "a number of bytes a second, such as 500K, 10M or 1.5G".to_owned();
    let (number, unit) = match text.trim_end_matches(['b', 'B']).char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_u64 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    #[expect(clippy::cast_precision_loss, reason = "a unit is a power of two")]
    let bytes = number * unit as f64;
    if !(1.0..=1e15).contains(&bytes) {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 1 and 10^15"
    )]
    Ok(bytes as u64)
}

/// One side of a comparison. What can be read as a reference is one; `./` before it makes it a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compared {
    Release(Reference),
    Directory(PathBuf),
}

impl FromStr for Compared {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text
            .parse()
            .map_or_else(|_| Self::Directory(PathBuf::from(text)), Self::Release))
    }
}

/// A number as people write it: `3`, `0.7`, `1e-3`.
pub(crate) fn amount(text: &str) -> Result<Amount, String> {
    let real = || {
        text.parse::<f64>()
            .ok()
            .filter(|real| real.is_finite())
            .map(Amount::Real)
    };
    let count = text.parse::<u64>().ok().map(Amount::Count);
    count.or_else(real).ok_or_else(|| "not a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_goes_to_a_tag_never_to_a_digest() {
        let target: Target = "acme/tiny".parse().unwrap();
        assert_eq!(target.tag, Tag::latest());
        let digest = waag_schema::Sha256::of(b"m");
        assert!(format!("acme/tiny@{digest}").parse::<Target>().is_err());
    }

    #[test]
    fn a_name_alone_is_shown_with_all_its_versions() {
        assert!(matches!("acme/tiny".parse(), Ok(Shown::Artifact(_))));
        assert!(matches!("acme/tiny:latest".parse(), Ok(Shown::Release(_))));
        assert!("acme".parse::<Shown>().is_err());
    }

    #[test]
    fn a_rate_is_a_number_with_a_unit() {
        for (text, bytes) in [
            ("1", 1),
            ("500K", 512_000),
            ("10m", 10 << 20),
            ("1.5G", 3 << 29),
            ("2MB", 2 << 20),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for bad in ["", "K", "-1", "0", "nan", "inf", "10T", "1e99", "ten"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slash_makes_a_reference_unless_it_can_only_be_a_path() {
        for release in ["acme/tiny", "acme/tiny:1.0"] {
            assert!(matches!(release.parse(), Ok(Compared::Release(_))), "{release}");
        }
        for directory in ["tiny", "./acme/tiny", "acme/tiny/", "/acme/tiny", "a/b/c", "."] {
            assert!(
                matches!(directory.parse(), Ok(Compared::Directory(_))),
                "{directory}"
            );
        }
    }
}
