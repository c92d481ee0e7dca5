//! What rules depend on: CPUs, memory and the connections that a host is meant for.

use crate::cpus::CpuSet;
use crate::host::Host;

/// What is known of a host. Of an image that runs nowhere yet, only the connections are.
#[derive(Clone, Debug)]
pub struct Facts {
    /// CPUs that are switched on.
    pub online: Option<CpuSet>,
    /// The first CPU together with those that share its core.
    pub first_core: Option<CpuSet>,
    /// Memory in KiB.
    pub memory_kib: Option<u64>,
    /// Connections that the host is to hold.
    pub connections: u64,
    /// Whether the profile sets CPUs aside for the kernel and everybody else.
    pub housekeeping: bool,
}

impl Facts {
    /// Asks a host. A few small files.
    #[must_use]
    pub fn of(host: &Host, connections: u64, housekeeping: bool) -> Self {
        let online = host.read("/sys/devices/system/cpu/online").ok().and_then(|text| CpuSet::of_list(&text));
        let first = online.as_ref().and_then(CpuSet::first);
        let siblings = first.and_then(|cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            CpuSet::of_list(&host.read(&path).ok()?)
        });
        let first_core = siblings.or_else(|| first.map(|cpu| [cpu].into_iter().collect()));
        Self { online, first_core, memory_kib: memory_kib(host), connections, housekeeping }
    }

    /// Of a host that nobody has seen.
    #[must_use]
    pub fn unknown(connections: u64, housekeeping: bool) -> Self {
        Self { online: None, first_core: None, memory_kib: None, connections, housekeeping }
    }

    /// CPUs for shards: all but those that are set aside.
    #[must_use]
    pub fn shards(&self) -> Option<CpuSet> {
        let online = self.online.clone()?;
        Some(self.reserved().map_or(online, |(_, shards)| shards))
    }

    /// The CPUs that are set aside, and the rest.
    ///
    /// # Errors
    /// Why none are, as a clause.
    pub fn reserved(&self) -> Result<(CpuSet, CpuSet), String> {
        if !self.housekeeping {
            return Err("this profile sets no CPU aside".to_owned());
        }
        let online = self.online.as_ref().ok_or("the CPUs of the host are not known")?;
        if online.count() < RESERVE_FROM_CPUS {
            return Err(format!(
                "with {} CPUs none can be set aside; it takes {RESERVE_FROM_CPUS}",
                online.count()
            ));
        }
        let first: CpuSet = online.first().into_iter().collect();
        let siblings = self.first_core.as_ref().map(|core| core.both(online)).unwrap_or_default();
        let aside = first.with(&siblings);
        let rest = online.without(&aside);
        if rest.is_empty() {
            return Err("all CPUs share one core, so none can be set aside".to_owned());
        }
        Ok((aside, rest))
    }
}

fn memory_kib(host: &Host) -> Option<u64> {
    let text = host.read("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Setting a core aside costs a quarter of a host with four; with fewer it costs more than it can give.
const RESERVE_FROM_CPUS: usize = 4;
