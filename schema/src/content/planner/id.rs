//! The names of planners: which one cut a file is part of what is signed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which rules cut a file.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
pub enum PlannerId {
    /// At the tensors of a safetensors file.
    #[serde(rename = "tensors-1")]
    Tensors1,
    /// By content.
    #[serde(rename = "fastcdc-1")]
    FastCdc1,
    /// At the tensors of a GGUF file.
    #[serde(rename = "gguf-1")]
    Gguf1,
}

impl PlannerId {
    /// Returns the name that statements use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tensors1 => "tensors-1",
            Self::FastCdc1 => "fastcdc-1",
            Self::Gguf1 => "gguf-1",
        }
    }

    /// Returns the byte that recipes use.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Tensors1 => 1,
            Self::FastCdc1 => 2,
            Self::Gguf1 => 3,
        }
    }

    /// Returns the planner of a recipe's byte.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Tensors1),
            2 => Some(Self::FastCdc1),
            3 => Some(Self::Gguf1),
            _ => None,
        }
    }
}

impl fmt::Display for PlannerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A planner's name is not known here; a newer version may know it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a known planner (tensors-1, fastcdc-1, gguf-1)")]
pub struct UnknownPlanner(String);

impl FromStr for PlannerId {
    type Err = UnknownPlanner;

    fn from_str(text: &str) -> Result<Self, UnknownPlanner> {
        [Self::Tensors1, Self::FastCdc1, Self::Gguf1]
            .into_iter()
            .find(|planner| planner.as_str() == text)
            .ok_or_else(|| UnknownPlanner(text.chars().take(100).collect()))
    }
}
