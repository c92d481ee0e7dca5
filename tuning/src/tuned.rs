//! Profiles of tuned(8), for hosts that are tuned by it already.

use std::fmt::Write as _;

use crate::catalogue::Profile;
use crate::owned::wrapped;
use crate::rule::{Rule, Wanted};
use crate::setting::{Place, Setting, Unwanted};
use crate::shipped::on_any_host;

/// A profile's `tuned.conf`. What tuned cannot say is named in its head.
#[must_use]
pub fn profile(profile: &Profile) -> String {
    let mut sections = Sections::default();
    let mut left = Vec::new();
    for (setting, wanted) in on_any_host(profile) {
        let rule = profile.rule(&setting.key);
        if !sections.take(setting, wanted.as_ref(), rule) {
            left.push(setting.key.as_str());
        }
    }
    let mut text =
        format!("# Profile {} of tuned(8): `tuned-adm profile dunlin-{}`.\n", profile.name, profile.name);
    if !left.is_empty() {
        let line = format!(
            "`dunlin tune apply --profile {}` also does these, which tuned does not: {}.",
            profile.name,
            left.join(", ")
        );
        for line in wrapped(&line, 108) {
            writeln!(text, "# {line}").expect("writing to a String does not fail");
        }
    }
    writeln!(text, "\n[main]\nsummary=MQTT broker: {}", profile.about)
        .expect("writing to a String does not fail");
    if profile.housekeeping {
        writeln!(text, "\n[variables]\ninclude=/etc/tuned/{VARIABLES_FILE}\n{DERIVED_VARIABLES}")
            .expect("writing to a String does not fail");
    }
    sections.write(&mut text);
    text
}

/// Lines of each section that is used.
#[derive(Debug, Default)]
struct Sections {
    sysctl: Vec<String>,
    sysfs: Vec<String>,
    vm: Vec<String>,
    cpu: Vec<String>,
    net_ring: Vec<String>,
    net_coalesce: Vec<String>,
    net: Vec<String>,
    disk: Vec<String>,
    service: Vec<String>,
    arguments: Vec<String>,
}

impl Sections {
    /// Takes a setting, if tuned has a word for it.
    fn take(&mut self, setting: &Setting, wanted: Option<&Wanted>, rule: Option<&Rule>) -> bool {
        let value = wanted.map(Wanted::value).unwrap_or_default();
        match (&setting.place, setting.key.as_str()) {
            (Place::Sysctl, key) => self.sysctl.push(format!("{key}={}", compared(wanted))),
            (_, "memory.thp") => self.vm.push(format!("transparent_hugepages={value}")),
            (_, "conntrack.hashsize") => self.net.push(format!("nf_conntrack_hashsize={value}")),
            (_, "cpu.governor") => self.cpu.push(format!("governor={value}")),
            (_, "disk.scheduler") => self.disk.push(format!("elevator={value}")),
            (_, "cpu.workqueues") => {
                self.sysfs.push("/sys/devices/virtual/workqueue/cpumask=${not_isolated_cpumask}".to_owned());
            }
            (Place::IdleStates, _) => self.cpu.push(format!("force_latency={value}")),
            (Place::File { path, .. }, _) if wanted.is_some() && !path.contains(['*', '{']) => {
                self.sysfs.push(format!("{path}={value}"));
            }
            (Place::Ethtool { show: 'g', argument, .. }, _) => {
                self.net_ring.push(format!("{argument} {value}"))
            }
            (Place::Ethtool { show: 'c', argument, .. }, _) => {
                self.net_coalesce.push(format!("{argument} {value}"));
            }
            (Place::Absent { what: Unwanted::Irqbalance }, _) => {
                self.service.push("service.irqbalance=stop,disable".to_owned());
            }
            (Place::KernelArgument { name }, _) => {
                let Some(Rule::Equals(text)) = rule else {
                    return false;
                };
                let text = text
                    .replace("{isolated}", "${isolated_cores}")
                    .replace("{housekeeping}", "${not_isolated_cores_expanded}");
                self.arguments.push(format!("{name}={text}"));
            }
            _ => return false,
        }
        true
    }

    fn write(mut self, text: &mut String) {
        if !self.net_ring.is_empty() {
            self.net.push(format!("ring={}", self.net_ring.join(" ")));
        }
        if !self.net_coalesce.is_empty() {
            self.net.push(format!("coalesce={}", self.net_coalesce.join(" ")));
        }
        if !self.arguments.is_empty() {
            self.arguments = vec![format!("cmdline_dunlin=+{}", self.arguments.join(" "))];
        }
        let sections = [
            ("sysctl", self.sysctl),
            ("vm", self.vm),
            ("cpu", self.cpu),
            ("net", self.net),
            ("disk", self.disk),
            ("sysfs", self.sysfs),
            ("service", self.service),
            ("bootloader", self.arguments),
        ];
        for (name, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            writeln!(text, "\n[{name}]\n{}", lines.join("\n")).expect("writing to a String does not fail");
        }
    }
}

/// A value with tuned's sign for a bound: `>` sets it only where the host has less, `<` only where it has more. One digit
/// needs no sign and tuned takes none there.
fn compared(wanted: Option<&Wanted>) -> String {
    let Some(wanted) = wanted else {
        return String::new();
    };
    let sign = match wanted {
        Wanted::AtLeast(_) => ">",
        Wanted::AtMost(_) => "<",
        Wanted::Exactly(_) => "",
    };
    format!("{sign}{}", wanted.value())
}

/// The file that names the CPUs of shards, beside the profiles.
pub const VARIABLES_FILE: &str = "dunlin-latency-variables.conf";

/// Its text. tuned's other profiles that isolate CPUs use the same name.
pub const VARIABLES: &str = "\
# CPUs of Dunlin's shards, for the profile dunlin-latency of tuned(8). Copy this file to /etc/tuned/ and fill it in: all CPUs
# but the first and those that share its core, for example
#isolated_cores=1-7
";

const DERIVED_VARIABLES: &str = "\
isolated_cores_expanded=${f:cpulist_unpack:${isolated_cores}}
not_isolated_cores_expanded=${f:cpulist_invert:${isolated_cores_expanded}}
not_isolated_cpumask=${f:cpulist2hex:${not_isolated_cores_expanded}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_have_tuneds_signs() {
        assert_eq!(compared(Some(&Wanted::AtLeast(32_768))), ">32768");
        assert_eq!(compared(Some(&Wanted::AtMost(3))), "<3");
        assert_eq!(compared(Some(&Wanted::Exactly("1".to_owned()))), "1");
    }
}
