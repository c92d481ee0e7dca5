//! Energy that the processors have used, where the kernel offers it (powercap, RAPL).

use std::path::PathBuf;

use super::figures::{Host, read_number};

/// The energy counters of all processor packages.
#[derive(Clone, Debug)]
pub(crate) struct EnergyMeter {
    packages: Vec<PathBuf>,
}

/// All packages' counters at one moment, with the value at which each begins again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnergyReading {
    packages: Vec<(u64, u64)>,
}

impl EnergyMeter {
    /// Finds the packages; `None` where there are none, as in most virtual machines, or only root may read them.
    pub(crate) fn find(host: &Host) -> Option<Self> {
        let entries = host.sys("class/powercap").read_dir().ok()?;
        let mut packages: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(is_package))
            .filter(|path| read_number(&path.join("energy_uj")).is_some())
            .collect();
        packages.sort();
        (!packages.is_empty()).then_some(Self { packages })
    }

    /// Reads the counters.
    pub(crate) fn read(&self) -> EnergyReading {
        let counter = |package: &PathBuf| {
            let value = read_number(&package.join("energy_uj")).unwrap_or(0);
            (value, read_number(&package.join("max_energy_range_uj")).unwrap_or(u64::MAX))
        };
        EnergyReading { packages: self.packages.iter().map(counter).collect() }
    }
}

impl EnergyReading {
    /// Microjoules used from `earlier` until now. A counter that has begun again in between is understood, once.
    pub(crate) fn microjoules_since(&self, earlier: &Self) -> u64 {
        let used = |(&(now, range), &(before, _)): (&(u64, u64), &(u64, u64))| {
            if now >= before { now - before } else { range.saturating_sub(before).saturating_add(now) }
        };
        self.packages.iter().zip(&earlier.packages).map(used).sum()
    }
}

/// A package is `intel-rapl:N` (AMD's have the same name); `intel-rapl:N:M` is a part of one and would count twice.
fn is_package(name: &str) -> bool {
    name.strip_prefix("intel-rapl:").is_some_and(|number| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_and_their_parts_are_not_counted_twice() {
        let meter = EnergyMeter::find(&Host::recorded()).unwrap();
        assert_eq!(meter.read(), EnergyReading { packages: vec![(52_143_328_850, 262_143_328_850)] });
    }

    #[test]
    fn a_counter_that_begins_again_is_understood() {
        let reading = |value| EnergyReading { packages: vec![(value, 1_000)] };
        assert_eq!(reading(30).microjoules_since(&reading(10)), 20);
        assert_eq!(reading(5).microjoules_since(&reading(990)), 15);
    }
}
