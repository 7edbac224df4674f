//! How much energy the processors take: the counters of RAPL, where this process may read them.
//!
//! A counter is of a whole package, so whatever else runs there is in it. It wraps around; two readings must be nearer to
//! each other than the minute that takes at least. They are opened once: a weigher opens nothing later.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where the kernel shows the counters.
const COUNTERS: &str = "/sys/class/powercap";

/// The counters of all packages, open.
#[derive(Debug)]
pub struct Meter(Vec<Package>);

#[derive(Debug)]
struct Package {
    counter: File,
    /// The counter's greatest value, in microjoules.
    range: u64,
}

/// What the counters said at one moment.
#[derive(Debug)]
pub(super) struct Reading(Vec<u64>);

impl Meter {
    /// Looks for counters that can be read, or says why there are none.
    ///
    /// # Errors
    /// Why there are none.
    pub fn find() -> Result<Self, String> {
        Self::below(Path::new(COUNTERS))
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
        Ok(Self(packages))
    }

    /// Reads all counters, if they still can be read.
    pub(super) fn read(&self) -> Option<Reading> {
        let counters = self.0.iter().map(|package| {
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
        let each = self.0.iter().zip(from.0.iter().zip(&to.0));
        let microjoules = each.map(|(package, (from, to))| {
            let wrapped = if to < from { package.range } else { 0 };
            (to + wrapped).saturating_sub(*from) as f64
        });
        microjoules.sum::<f64>() / 1e6
    }
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
}
