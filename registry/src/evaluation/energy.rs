//! How much energy the processors take, by the counters of RAPL where this process may read them, or a GPU, by the counter
//! that NVIDIA's management library (NVML) reads where it is installed.
//!
//! A counter is of a whole package or board, so whatever else runs there is in it. One of RAPL wraps around; two readings
//! must be nearer to each other than the minute that takes at least. They are opened once: a weigher opens nothing later.
//! Nothing here panics where there is no driver: what cannot be read is a reason.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::OnceLock;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use waag_kernels::cuda::Gpu;

/// Where the kernel shows the counters.
const COUNTERS: &str = "/sys/class/powercap";
/// NVIDIA's management library, as drivers install it.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// The counters of what computes, open.
#[derive(Debug)]
pub struct Meter(Counters);

#[derive(Debug)]
enum Counters {
    /// Of all packages.
    Packages(Vec<Package>),
    /// Of a GPU.
    Gpu(Device<'static>),
}

#[derive(Debug)]
struct Package {
    counter: File,
    /// The counter's greatest value, in microjoules.
    range: u64,
}

/// What the counters said at one moment, in microjoules.
#[derive(Debug)]
pub(super) struct Reading(Vec<u64>);

impl Meter {
    /// Looks for counters of the GPU if there is one, else of the processors. Never panics.
    ///
    /// # Errors
    /// Why there are none that can be read.
    pub fn find(gpu: Option<&Gpu>) -> Result<Self, String> {
        match gpu {
            None => Self::below(Path::new(COUNTERS)),
            Some(gpu) => Self::of_gpu(&gpu.uuid().ok_or("the GPU has no identifier")?),
        }
    }

    fn of_gpu(uuid: &str) -> Result<Self, String> {
        let library = management().as_ref().map_err(Clone::clone)?;
        let unread = |error: NvmlError| format!("the energy of {uuid} cannot be read: {error}");
        let device = library.device_by_uuid(uuid).map_err(unread)?;
        device.total_energy_consumption().map_err(unread)?;
        Ok(Self(Counters::Gpu(device)))
    }

    fn below(counters: &Path) -> Result<Self, String> {
        let none = || format!("there is no {}/intel-rapl:0", counters.display());
        let mut packages = Vec::new();
        for entry in fs::read_dir(counters).map_err(|_| none())?.flatten() {
            let zone = entry.path();
            let text = |file: &str| {
                let path = zone.join(file);
                fs::read_to_string(&path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
            };
            // Parts of a package have a second colon; what is not of a package (the whole board, say) another name.
            let number = entry.file_name().into_string().unwrap_or_default();
            let is_whole = number
                .strip_prefix("intel-rapl:")
                .is_some_and(|number| number.parse::<u32>().is_ok());
            if !is_whole || !text("name")?.starts_with("package") {
                continue;
            }
            let path = zone.join("energy_uj");
            let counter = File::open(&path);
            let range = text("max_energy_range_uj")?.trim().parse();
            packages.push(Package {
                counter: counter.map_err(|e| format!("{} cannot be read: {e}", path.display()))?,
                range: range.map_err(|e| format!("{}/max_energy_range_uj: {e}", zone.display()))?,
            });
        }
        if packages.is_empty() {
            return Err(none());
        }
        Ok(Self(Counters::Packages(packages)))
    }

    /// Reads all counters, if they still can be read.
    pub(super) fn read(&self) -> Option<Reading> {
        let packages = match &self.0 {
            Counters::Packages(packages) => packages,
            Counters::Gpu(device) => {
                let millijoules = device.total_energy_consumption().ok()?;
                return Some(Reading(vec![millijoules.saturating_mul(1000)]));
            }
        };
        let counters = packages.iter().map(|package| {
            let mut bytes = [0; 32];
            let length = package.counter.read_at(&mut bytes, 0).ok()?;
            std::str::from_utf8(bytes.get(..length)?)
                .ok()?
                .trim()
                .parse()
                .ok()
        });
        Some(Reading(counters.collect::<Option<_>>()?))
    }

    /// Returns the joules between two readings.
    pub(super) fn joules(&self, from: &Reading, to: &Reading) -> f64 {
        // That of a GPU counts from when its driver was loaded, and does not wrap around.
        let range = |at: usize| match &self.0 {
            Counters::Packages(packages) => packages.get(at).map_or(0, |package| package.range),
            Counters::Gpu(_) => 0,
        };
        let each = from.0.iter().zip(&to.0).enumerate();
        let microjoules = each.map(|(at, (from, to))| {
            let wrapped = if to < from { range(at) } else { 0 };
            to.saturating_add(wrapped).saturating_sub(*from) as f64
        });
        microjoules.sum::<f64>() / 1e6
    }
}

/// Returns NVIDIA's management library, loaded once and for as long as this process lives, or why it cannot be used.
fn management() -> &'static Result<Nvml, String> {
    static LOADED: OnceLock<Result<Nvml, String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        // A library that lacks a function may make the wrapper panic.
        let loaded = catch_unwind(|| Nvml::builder().lib_path(OsStr::new(LIBRARY)).init());
        match loaded {
            Ok(Ok(library)) => Ok(library),
            Ok(Err(error)) => Err(format!("{LIBRARY} cannot be used: {error}")),
            Err(_) => Err(format!("{LIBRARY} lacks what is needed")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_added_up_and_counters_wrap_around() {
        let world = tempfile::tempdir().unwrap();
        assert!(
            Meter::below(&world.path().join("none"))
                .unwrap_err()
                .contains("there is no")
        );
        assert!(Meter::below(world.path()).unwrap_err().contains("intel-rapl:0"));
        for (zone, name, energy) in [
            ("intel-rapl:0", "package-0\n", "9000000\n"),
            ("intel-rapl:1", "package-1", "1000000"),
            ("intel-rapl:2", "psys", "77"),
            ("intel-rapl:0:0", "core", "5"),
        ] {
            let zone = world.path().join(zone);
            fs::create_dir(&zone).unwrap();
            fs::write(zone.join("name"), name).unwrap();
            fs::write(zone.join("energy_uj"), energy).unwrap();
            fs::write(zone.join("max_energy_range_uj"), "10000000\n").unwrap();
        }
        let meter = Meter::below(world.path()).unwrap();
        let before = meter.read().unwrap();
        fs::write(world.path().join("intel-rapl:0/energy_uj"), "500000").unwrap();
        fs::write(world.path().join("intel-rapl:1/energy_uj"), "3000000").unwrap();
        let after = meter.read().unwrap();
        assert!((meter.joules(&before, &after) - 3.5).abs() < 1e-9);
        fs::write(world.path().join("intel-rapl:1/energy_uj"), "gone").unwrap();
        assert!(meter.read().is_none());
        fs::remove_file(world.path().join("intel-rapl:1/energy_uj")).unwrap();
        assert!(Meter::below(world.path()).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_gpu_whose_energy_cannot_be_read_is_a_reason_with_a_driver_and_without() {
        let uuid = "GPU-00000000-0000-0000-0000-000000000000";
        let reason = Meter::of_gpu(uuid).unwrap_err();
        assert!(reason.contains(LIBRARY) || reason.contains(uuid), "{reason}");
        // Once more: what was found out stays.
        assert_eq!(Meter::of_gpu(uuid).unwrap_err(), reason);
    }
}
