//! Operations on a CPU and on a GPU, held against one another.
//!
//! Each is run on every device there is: the first GPU, and, where there is a C++ compiler, a process that runs the same
//! kernels on the processor. That shows what is computed, and in which order; it does not show races within a block, nor
//! what the driver does.

use std::sync::{Arc, Once};

use crate::cuda::Gpu;

/// Memory of an emulated device.
const MEMORY: usize = 256 << 20;

/// Returns the devices that operations are run on, and says in one line what is missing.
pub(crate) fn devices() -> Vec<Arc<Gpu>> {
    static SAID: Once = Once::new();
    let (real, emulated) = (Gpu::open(0), Gpu::emulated(MEMORY));
    SAID.call_once(|| {
        let real = real
            .as_ref()
            .map_or_else(ToString::to_string, |gpu| format!("on {}", gpu.name()));
        let emulated = emulated
            .as_ref()
            .map_or_else(ToString::to_string, |_| "kernels on the processor".to_owned());
        // Past the test harness, which would keep it to itself.
        let line = format!("operations on devices: {real}; {emulated}\n");
        drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
    });
    real.into_iter().chain(emulated).collect()
}
