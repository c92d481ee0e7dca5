//! Where a setting is on one host: the files behind a pattern, the queues of cards, the lines of owned files.

use crate::ethtool;
use crate::host::Host;
use crate::owned::{self, Owned};
use crate::rule::{Queue, in_force};
use crate::setting::{Form, Only, Place, Setting, Unwanted};

/// One place of a setting on a host.
#[derive(Clone, Debug)]
pub struct Spot {
    /// What tells it from the setting's other places, such as `eth0/rx-0`.
    pub name: Option<String>,
    /// How it is changed.
    pub target: Target,
    /// What is in force; `Err` says why that cannot be read.
    pub current: Result<Option<String>, String>,
    /// How values are written.
    pub form: Form,
    /// The queue it belongs to.
    pub queue: Option<Queue>,
    /// The most that the hardware can.
    pub most: Option<u64>,
    /// The values that this kernel offers.
    pub choices: Option<Vec<String>>,
    /// Why it is to be left alone, if it is.
    pub unless: Option<String>,
    /// Microseconds that an idle state takes to leave.
    pub latency_us: Option<u64>,
    /// What stands in our file already and waits for a restart.
    pub waits: Option<String>,
}

/// How a place is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By writing into a file of the kernel.
    Kernel {
        /// The file, from the host's root.
        path: String,
    },
    /// By ethtool.
    Ethtool {
        /// The card.
        nic: String,
        /// The option.
        option: char,
        /// The argument.
        argument: String,
    },
    /// By a line in a file that Dunlin owns.
    Line(Owned),
    /// Not by us: the text says what to do.
    Advice(&'static str),
}

/// All places of a setting.
///
/// # Errors
/// Why this host has none, as a clause.
pub fn spots(host: &Host, setting: &Setting) -> Result<Vec<Spot>, String> {
    match &setting.place {
        Place::Sysctl if !host.is_live() => {
            Ok(vec![line(Owned::Sysctl, owned::sysctl_line(host, &setting.key))])
        }
        Place::KernelArgument { name } => Ok(vec![kernel_argument(host, name)]),
        Place::Service { property } => service(host, property),
        _ if !host.is_live() => {
            Err("an image has no kernel yet; dunlin-tune.service sets it at each start".to_owned())
        }
        Place::Sysctl => sysctl(host, setting),
        Place::File { path, form, choices, only } => files(host, path, *form, choices.as_deref(), *only),
        Place::IdleStates => idle_states(host),
        Place::NicInterrupts => nic_interrupts(host),
        Place::Ethtool { show, item, argument } => ethtool_items(host, *show, item, argument),
        Place::Absent { what } => Ok(vec![absent(host, *what)]),
    }
}

impl Spot {
    fn new(target: Target, current: Result<Option<String>, String>) -> Self {
        Self {
            name: None,
            target,
            current,
            form: Form::Plain,
            queue: None,
            most: None,
            choices: None,
            unless: None,
            latency_us: None,
            waits: None,
        }
    }

    fn named(mut self, name: String) -> Self {
        self.name = Some(name);
        self
    }
}

fn read(host: &Host, path: &str) -> Result<Option<String>, String> {
    host.read(path).map(Some).map_err(|error| format!("{path} cannot be read: {error}"))
}

fn kernel(host: &Host, path: &str) -> Spot {
    Spot::new(Target::Kernel { path: path.to_owned() }, read(host, path))
}

fn line(file: Owned, current: Option<String>) -> Spot {
    Spot::new(Target::Line(file), Ok(current))
}

fn sysctl(host: &Host, setting: &Setting) -> Result<Vec<Spot>, String> {
    let path = setting.sysctl_path();
    if !host.exists(&path) {
        return Err("this kernel does not have it".to_owned());
    }
    let mut spot = kernel(host, &path);
    if setting.key == "net.ipv4.tcp_congestion_control" {
        spot.choices = listed(host, "/proc/sys/net/ipv4/tcp_available_congestion_control");
    }
    Ok(vec![spot])
}

/// The files of a pattern, each named by what its stars stand for.
fn files(
    host: &Host,
    pattern: &str,
    form: Form,
    choices: Option<&str>,
    only: Option<Only>,
) -> Result<Vec<Spot>, String> {
    let patterns: Vec<String> = if pattern.contains("{nic}") {
        let nics = nics(host);
        if nics.is_empty() {
            return Err("there is no network card".to_owned());
        }
        nics.iter().map(|nic| pattern.replace("{nic}", nic)).collect()
    } else if pattern.contains("{disk}") {
        let disks = disks(host);
        if disks.is_empty() {
            return Err("there is no disk without spinning parts".to_owned());
        }
        disks.iter().map(|disk| pattern.replace("{disk}", disk)).collect()
    } else {
        vec![pattern.to_owned()]
    };
    let mut spots = Vec::new();
    for path in patterns.iter().flat_map(|pattern| host.expand(pattern)) {
        let mut spot = kernel(host, &path);
        spot.form = form;
        if form == Form::Choice {
            spot.choices = spot.current.clone().ok().flatten().map(|line| offered(&line));
        }
        if let (Some(choices), Some((folder, _))) = (choices, path.rsplit_once('/')) {
            spot.choices = listed(host, &format!("{folder}/{choices}"));
        }
        if pattern.contains(['*', '{']) {
            spot.name = Some(distinct(pattern, &path));
        }
        spot.queue = queue_of(host, &path);
        if only == Some(Only::FewQueues) {
            spot.unless = enough_queues(host, spot.queue);
        }
        spots.push(spot);
    }
    if spots.is_empty() { Err(format!("there is no {pattern}")) } else { Ok(spots) }
}

/// The parts of a path that a pattern leaves open.
fn distinct(pattern: &str, path: &str) -> String {
    let open = |(pattern, part): (&str, &str)| pattern.contains(['*', '{']).then(|| part.to_owned());
    pattern.split('/').zip(path.split('/')).filter_map(open).collect::<Vec<_>>().join("/")
}

/// The queue that a path such as `/sys/class/net/eth0/queues/rx-3/rps_cpus` belongs to.
fn queue_of(host: &Host, path: &str) -> Option<Queue> {
    let (folder, rest) = path.split_once("/queues/")?;
    let (kind, rest) = rest.split_once('-')?;
    let index = rest.split('/').next()?.parse().ok()?;
    let count = host.expand(&format!("{folder}/queues/{kind}-*")).len();
    Some(Queue { index, count })
}

fn enough_queues(host: &Host, queue: Option<Queue>) -> Option<String> {
    let cores = host.expand("/sys/devices/system/cpu/cpu*/topology").len().max(1);
    let queue = queue?;
    let plural = if queue.count == 1 { "queue" } else { "queues" };
    (queue.count >= cores).then(|| format!("the card has {} {plural} for {cores} CPUs", queue.count))
}

fn idle_states(host: &Host) -> Result<Vec<Spot>, String> {
    let pattern = "/sys/devices/system/cpu/cpu*/cpuidle/state*/disable";
    let spots: Vec<Spot> = host
        .expand(pattern)
        .iter()
        .map(|path| {
            let mut spot = kernel(host, path).named(distinct(pattern, path));
            let latency = host.read(&path.replace("/disable", "/latency")).ok();
            spot.latency_us = latency.and_then(|text| text.parse().ok());
            spot
        })
        .collect();
    if spots.is_empty() { Err("this machine shows no idle states".to_owned()) } else { Ok(spots) }
}

/// Interrupts whose name in `/proc/interrupts` has the card's name or that of its device, and that serve a queue.
fn nic_interrupts(host: &Host) -> Result<Vec<Spot>, String> {
    let table = host.read("/proc/interrupts").map_err(|error| format!("/proc/interrupts: {error}"))?;
    let mut spots = Vec::new();
    for nic in nics(host) {
        let device = host.path(&format!("/sys/class/net/{nic}/device")).canonicalize().ok();
        let device = device.as_deref().and_then(std::path::Path::file_name).and_then(|name| name.to_str());
        let found: Vec<_> = table.lines().filter_map(|line| queue_interrupt(line, &nic, device)).collect();
        for (number, index) in &found {
            let path = format!("/proc/irq/{number}/smp_affinity_list");
            let mut spot = kernel(host, &path).named(format!("{nic}/{number}"));
            spot.form = Form::CpuList;
            spot.queue = Some(Queue { index: *index, count: found.len() });
            spots.push(spot);
        }
    }
    if spots.is_empty() {
        Err("no interrupt of a network card's queue was found".to_owned())
    } else {
        Ok(spots)
    }
}

/// Number and queue of a line of `/proc/interrupts` that belongs to a queue of this card. The queue is the number at the
/// end of the interrupt's name, 0 when there is none.
fn queue_interrupt<'a>(line: &'a str, nic: &str, device: Option<&str>) -> Option<(&'a str, usize)> {
    let (number, rest) = line.trim_start().split_once(':')?;
    number.parse::<u32>().ok()?;
    let name = rest.split_whitespace().last()?;
    let ours = name.split(['-', '@', '.']).any(|part| part == nic)
        || device.is_some_and(|device| name.strip_prefix(device).is_some_and(|rest| rest.starts_with('-')))
        || device.is_some_and(|device| name.contains(&format!("@pci:{device}")));
    let lower = name.to_ascii_lowercase();
    let serves =
        ["rx", "tx", "input", "output", "comp", "queue", "-q"].iter().any(|word| lower.contains(word));
    let queue = name.split('@').next()?;
    let digits = &queue[queue.trim_end_matches(|c: char| c.is_ascii_digit()).len()..];
    (ours && serves).then(|| (number, digits.parse().unwrap_or(0)))
}

fn ethtool_items(host: &Host, show: char, item: &str, argument: &str) -> Result<Vec<Spot>, String> {
    let nics = nics(host);
    if nics.is_empty() {
        return Err("there is no network card".to_owned());
    }
    let mut spots = Vec::new();
    let mut why = String::new();
    for nic in nics {
        let Some(shown) = host.ethtool(&[&format!("-{show}"), &nic]) else {
            return Err("the program ethtool is not installed".to_owned());
        };
        match shown.and_then(|text| ethtool::find(&text, item)) {
            Ok(found) => {
                let (option, argument) = (show.to_ascii_uppercase(), argument.to_owned());
                let target = Target::Ethtool { nic: nic.clone(), option, argument };
                let mut spot = Spot::new(target, Ok(Some(found.current))).named(nic);
                spot.most = found.most;
                spots.push(spot);
            }
            Err(problem) => why = format!("{nic}: {problem}"),
        }
    }
    if spots.is_empty() { Err(why) } else { Ok(spots) }
}

fn kernel_argument(host: &Host, name: &str) -> Spot {
    let kept = owned::kernel_argument_line(host, name);
    let running = host.read("/proc/cmdline").ok().map(|line| argument_in(&line, name));
    let mut spot = line(owned::boot_file(host), running.clone().unwrap_or_else(|| kept.clone()));
    if running.is_some() {
        spot.waits = kept;
    }
    spot
}

/// The value of an argument of a command line; empty when it has none. The last one counts.
pub fn argument_in(line: &str, name: &str) -> Option<String> {
    let split = |word: &str| word.split_once('=').map_or_else(|| (word.to_owned(), String::new()), own);
    let own_last = line.split_whitespace().map(split).rfind(|(found, _)| found == name);
    own_last.map(|(_, value)| value)
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn service(host: &Host, property: &str) -> Result<Vec<Spot>, String> {
    if host.is_this_machine() && !host.exists("/run/systemd/system") {
        return Err("this host is not run by systemd; what starts the broker must see to it".to_owned());
    }
    if owned::unit(host).is_none() {
        return Err("no dunlin.service is installed".to_owned());
    }
    Ok(vec![line(Owned::DropIn, owned::service_property(host, property))])
}

fn absent(host: &Host, what: Unwanted) -> Spot {
    let (found, advice) = match what {
        Unwanted::Swap => (
            host.read("/proc/swaps").map(|text| swaps(&text)).unwrap_or_default(),
            "remove it from /etc/fstab, then `swapoff -a` at a quiet hour",
        ),
        Unwanted::Irqbalance => {
            let running = host.exists("/run/irqbalance") || has_process(host, "irqbalance");
            (if running { "running".to_owned() } else { String::new() }, "systemctl disable --now irqbalance")
        }
    };
    let found = if found.is_empty() { "none".to_owned() } else { found };
    Spot::new(Target::Advice(advice), Ok(Some(found)))
}

/// Devices that are swapped to, without compressed memory.
fn swaps(table: &str) -> String {
    let devices = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    devices.filter(|device| !device.starts_with("/dev/zram")).collect::<Vec<_>>().join(" ")
}

fn has_process(host: &Host, name: &str) -> bool {
    let numbers = host.list("/proc").into_iter().filter(|entry| entry.parse::<u32>().is_ok());
    numbers.into_iter().any(|pid| host.read(&format!("/proc/{pid}/comm")).is_ok_and(|found| found == name))
}

/// Network cards that have a device behind them and are not switched off.
fn nics(host: &Host) -> Vec<String> {
    let mut names = host.list("/sys/class/net");
    names.retain(|name| {
        let up = host.read(&format!("/sys/class/net/{name}/operstate")).is_ok_and(|state| state != "down");
        up && host.exists(&format!("/sys/class/net/{name}/device"))
    });
    names
}

/// Disks that have a device behind them and do not spin.
fn disks(host: &Host) -> Vec<String> {
    let mut names = host.list("/sys/block");
    names.retain(|name| {
        let still = host.read(&format!("/sys/block/{name}/queue/rotational")).is_ok_and(|spins| spins == "0");
        still && host.exists(&format!("/sys/block/{name}/device"))
    });
    names
}

/// The words of a file.
fn listed(host: &Host, path: &str) -> Option<Vec<String>> {
    let text = host.read(path).ok()?;
    Some(text.split_whitespace().map(str::to_owned).collect())
}

/// The choices of a line such as `always [madvise] never`. A line without brackets offers anything.
fn offered(line: &str) -> Vec<String> {
    if in_force(line, Form::Choice) == in_force(line, Form::Plain) {
        return Vec::new();
    }
    line.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interrupts_of_queues_are_told_from_the_others() {
        let table = [
            (" 41:  7965  0 PCI-MSIX-0000:00:04.0  1-edge  virtio3-rx", None),
            (" 38:  0  8522 PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0", Some(("38", 0))),
            (" 39:  0  1 PCI-MSIX-0000:00:03.0  2-edge  virtio2-output.1", Some(("39", 1))),
            (" 37:  0  0 PCI-MSIX-0000:00:03.0  0-edge  virtio2-config", None),
            (" 90:  1  0 IR-PCI-MSI 1-edge  eth0-TxRx-3", Some(("90", 3))),
            (" 91:  1  0 IR-PCI-MSI 1-edge  i40e-eth0-TxRx-3", Some(("91", 3))),
            (" 92:  1  0 IR-PCI-MSI 1-edge  eth01-TxRx-3", None),
            ("NMI:  0  0  Non-maskable interrupts", None),
        ];
        for (line, expected) in table {
            assert_eq!(queue_interrupt(line, "eth0", Some("virtio2")), expected, "{line}");
        }
        let mellanox = " 70: 1 0 IR-PCI-MSI 2-edge mlx5_comp4@pci:0000:17:00.0";
        assert_eq!(queue_interrupt(mellanox, "ens1", Some("0000:17:00.0")), Some(("70", 4)));
    }

    #[test]
    fn the_last_argument_of_a_name_counts() {
        let line = "quiet isolcpus=1 nosoftlockup isolcpus=2-3";
        assert_eq!(argument_in(line, "isolcpus"), Some("2-3".to_owned()));
        assert_eq!(argument_in(line, "nosoftlockup"), Some(String::new()));
        assert_eq!(argument_in(line, "isol"), None);
    }

    #[test]
    fn compressed_memory_is_not_swap() {
        let head = "Filename Type Size Used Priority\n";
        assert_eq!(swaps(head), "");
        assert_eq!(swaps(&format!("{head}/dev/zram0 partition 1 0 100\n")), "");
        assert_eq!(swaps(&format!("{head}/dev/sda2 partition 1 0 -2\n")), "/dev/sda2");
    }

    #[test]
    fn a_place_is_named_by_what_the_pattern_leaves_open() {
        let pattern = "/sys/class/net/{nic}/queues/rx-*/rps_cpus";
        assert_eq!(distinct(pattern, "/sys/class/net/eth0/queues/rx-3/rps_cpus"), "eth0/rx-3");
    }
}
