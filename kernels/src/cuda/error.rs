//! Why there is no GPU, and what may go wrong with one.

/// No GPU can be used. That is a value: the CPU does the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGpu {
    /// NVIDIA's driver is not installed.
    #[error("no GPU: there is no libcuda.so.1")]
    NoDriver,
    /// The driver does not know what kernels are made of.
    #[error("no GPU: the driver is for CUDA {}, too old; it has to be for {} or later", version(*.found), version(*.needed))]
    DriverTooOld {
        /// The version it is for: 1000 times the major and 10 times the minor one.
        found: i32,
        /// The version that is needed, in the same way.
        needed: i32,
    },
    /// There is a driver, and nothing that it drives.
    #[error("no GPU: the driver finds no device")]
    NoDevice,
    /// There are fewer devices.
    #[error("no GPU {wanted}: the driver finds {found}")]
    NoSuchDevice {
        /// The number asked for; the first one is 0.
        wanted: usize,
        /// How many there are.
        found: usize,
    },
    /// The device does not know the instructions of the kernels.
    #[error("no GPU: {name} has compute capability {}.{}, at least 8.0 is needed", .capability.0, .capability.1)]
    DeviceTooOld {
        /// Its name.
        name: String,
        /// What it has.
        capability: (i32, i32),
    },
    /// The driver refuses.
    #[error("no GPU: {0}")]
    Refused(GpuError),
}

/// A GPU did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// Its memory is full.
    #[error("the GPU has no {wanted} bytes of memory left")]
    Memory {
        /// How much was wanted.
        wanted: usize,
    },
    /// The driver reports an error. After most of them the GPU is of no more use to this process.
    #[error("{call} failed: {problem}")]
    Driver {
        /// What was tried.
        call: String,
        /// What the driver says.
        problem: String,
    },
    /// Elements cannot be measured.
    #[error(transparent)]
    Tally(#[from] crate::TallyError),
}

fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

#[test]
fn versions_are_written_as_people_read_them() {
    let reason = NoGpu::DriverTooOld {
        found: 12_020,
        needed: 12_040,
    };
    assert_eq!(
        reason.to_string(),
        "no GPU: the driver is for CUDA 12.2, too old; it has to be for 12.4 or later"
    );
}
