//! What numbers are computed on: this processor, or a GPU where there is one.
//!
//! Invariant: the numbers are the same bits on both. A GPU that is not there, or fails, is a reason to compute on the
//! processor where that was left open, and an error where that GPU was asked for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waag_kernels::cuda::{Gpu, NoGpu};
use waag_schema::statement::scorecard::Device;

/// What somebody wants it to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number.
    Cuda(u32),
}

impl DeviceChoice {
    /// Looks for it. Never panics.
    ///
    /// # Errors
    /// When a GPU was asked for that cannot be used.
    pub fn open(self) -> Result<Computer, NoGpu> {
        let number = match self {
            Self::Cpu => return Ok(Computer::processor(None)),
            Self::Auto => 0,
            Self::Cuda(number) => number as usize,
        };
        match Gpu::open(number) {
            Ok(gpu) => Ok(Computer {
                gpu: Some(gpu),
                fallback: None,
                is_open: self == Self::Auto,
            }),
            Err(why) if self == Self::Auto => Ok(Computer::processor(Some(why.to_string()))),
            Err(why) => Err(why),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => text
                .strip_prefix("cuda:")
                .filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|number| Some(Self::Cuda(number.parse().ok()?)))
                .ok_or_else(|| format!("`{text}` is no device: auto, cpu and cuda:N (as cuda:0) are known")),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// What it is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Computer {
    gpu: Option<Arc<Gpu>>,
    fallback: Option<String>,
    /// Whether the processor would do.
    is_open: bool,
}

impl Computer {
    /// Takes the processor, and says why it is not the GPU, if it could have been one.
    #[must_use]
    pub const fn processor(fallback: Option<String>) -> Self {
        Self {
            gpu: None,
            fallback,
            is_open: false,
        }
    }

    /// Returns the GPU, if it is one.
    #[must_use]
    pub const fn gpu(&self) -> Option<&Arc<Gpu>> {
        self.gpu.as_ref()
    }

    /// Says why it is the processor and no GPU, where a GPU would have been taken.
    #[must_use]
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Returns what is left after the GPU has failed: nothing where that one was asked for.
    pub(super) fn without_gpu(&self, why: &str) -> Option<Self> {
        self.is_open.then(|| Self::processor(Some(why.to_owned())))
    }

    /// Returns what a scorecard says of it.
    #[must_use]
    pub fn device(&self) -> Device {
        let (class, name) = match &self.gpu {
            None => ("cpu", std::env::consts::ARCH.to_owned()),
            Some(gpu) => {
                let (major, minor) = gpu.capability();
                let name = format!(
                    "{}, compute capability {major}.{minor}, CUDA {}",
                    gpu.name(),
                    gpu.driver()
                );
                ("cuda", name)
            }
        };
        Device {
            class: class.to_owned(),
            name: Some(name),
            worker: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_has_one_spelling_and_nothing_else_is_one() {
        for text in ["auto", "cpu", "cuda:0", "cuda:17"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "gpu",
            "cuda",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:99999999999",
            "CPU",
        ] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_left_open_ends_on_the_processor_and_what_was_asked_for_does_not() {
        let auto = DeviceChoice::Auto.open().unwrap();
        // With a GPU there is no reason, without one there is.
        assert_eq!(auto.gpu().is_none(), auto.fallback().is_some());
        let cpu = DeviceChoice::Cpu.open().unwrap();
        assert_eq!((cpu.device().class.as_str(), cpu.fallback()), ("cpu", None));
        assert!(DeviceChoice::Cuda(9999).open().is_err());
        assert!(cpu.without_gpu("it failed").is_none());
    }
}
