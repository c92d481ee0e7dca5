//! The files that Dunlin owns on a host: what is in them, and what was there before is put back by a revert.

use std::fmt::Write as _;

use crate::host::Host;
use crate::places::argument_in;
use crate::setting::Setting;

/// One of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owned {
    /// Sysctls for the next start of the host.
    Sysctl,
    /// Limits of the service.
    DropIn,
    /// Arguments of the kernel, where GRUB collects them.
    Grub,
    /// Arguments of the kernel, for another boot loader.
    KernelArguments,
}

impl Owned {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sysctl, Self::DropIn, Self::Grub, Self::KernelArguments];

    /// Where it is, from the host's root.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Sysctl => "/etc/sysctl.d/90-dunlin.conf",
            Self::DropIn => "/etc/systemd/system/dunlin.service.d/90-dunlin-tune.conf",
            Self::Grub => "/etc/default/grub.d/90-dunlin.cfg",
            Self::KernelArguments => "/etc/dunlin/kernel-arguments",
        }
    }

    /// What to do after it has changed, on the machine that runs.
    #[must_use]
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Sysctl => None,
            Self::DropIn => Some("systemctl daemon-reload && systemctl try-restart dunlin"),
            Self::Grub => Some("update-grub, then restart the host"),
            Self::KernelArguments => Some(
                "put the line of /etc/dunlin/kernel-arguments into the boot loader, then restart the host",
            ),
        }
    }

    /// Its text with these values; `None` when there are none.
    #[must_use]
    pub fn text(self, profile: &str, lines: &[(&Setting, String)]) -> Option<String> {
        if lines.is_empty() {
            return None;
        }
        let mut text = format!(
            "# Written by `dunlin tune apply --profile {profile}`; `dunlin tune revert` takes it away again.\n\
             # `dunlin tune explain KEY` gives the reason of each line.\n"
        );
        match self {
            Self::Sysctl => sysctls(&mut text, lines),
            Self::DropIn => {
                text.push_str("[Service]\n");
                for (setting, value) in lines {
                    let property = setting.key.trim_start_matches("service.");
                    writeln!(text, "{property}={value}").expect("writing to a String does not fail");
                }
            }
            Self::Grub => {
                let line = kernel_arguments(lines);
                text.push_str(&format!(
                    "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {line}\"\n"
                ));
            }
            Self::KernelArguments => {
                text.push_str(&kernel_arguments(lines));
                text.push('\n');
            }
        }
        Some(text)
    }
}

/// Lines of sysctl.d(5), each below its reason. A leading `-` lets a kernel lack the key.
pub fn sysctls(text: &mut String, lines: &[(&Setting, String)]) {
    for (setting, value) in lines {
        let dash = if setting.optional { "-" } else { "" };
        text.push('\n');
        for line in wrapped(&setting.why, COMMENT_COLUMNS) {
            writeln!(text, "# {line}").expect("writing to a String does not fail");
        }
        writeln!(text, "{dash}{} = {value}", setting.key).expect("writing to a String does not fail");
    }
}

/// Arguments of the kernel as one line.
#[must_use]
pub fn kernel_arguments(lines: &[(&Setting, String)]) -> String {
    let argument = |(setting, value): &(&Setting, String)| {
        let name = setting.key.trim_start_matches("kernel-argument.");
        if value.is_empty() { name.to_owned() } else { format!("{name}={value}") }
    };
    lines.iter().map(argument).collect::<Vec<_>>().join(" ")
}

/// The value of a key in our own sysctl file.
pub fn sysctl_line(host: &Host, key: &str) -> Option<String> {
    let text = host.read(Owned::Sysctl.path()).ok()?;
    let mut values = text.lines().filter(|line| !line.starts_with(['#', ';'])).filter_map(|line| {
        let (name, value) = line.trim_start_matches('-').split_once('=')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    });
    values.next_back()
}

/// The boot loader's file on this host.
#[must_use]
pub fn boot_file(host: &Host) -> Owned {
    let grub = host.exists("/etc/default/grub") || host.exists("/etc/default/grub.d");
    if grub { Owned::Grub } else { Owned::KernelArguments }
}

/// The value of a kernel argument in our own file.
pub fn kernel_argument_line(host: &Host, name: &str) -> Option<String> {
    let text = host.read(boot_file(host).path()).ok()?;
    let line = text.lines().rfind(|line| !line.starts_with('#'))?;
    argument_in(line.trim_end_matches('"').rsplit('"').next().unwrap_or(line), name)
}

/// The unit of the service, where it is installed.
#[must_use]
pub fn unit(host: &Host) -> Option<String> {
    let folders = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    folders.iter().map(|folder| format!("{folder}/dunlin.service")).find(|path| host.exists(path))
}

/// A property of the service as systemd would read it: the unit, then its drop-ins in the order of their names.
pub fn service_property(host: &Host, property: &str) -> Option<String> {
    let mut drop_ins: Vec<(String, String)> = Vec::new();
    for folder in ["/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system"] {
        let folder = format!("{folder}/dunlin.service.d");
        let names = host.list(&folder).into_iter().filter(|name| name.ends_with(".conf"));
        for name in names {
            drop_ins.retain(|(found, _)| *found != name);
            drop_ins.push((name.clone(), format!("{folder}/{name}")));
        }
    }
    drop_ins.sort();
    let paths = unit(host).into_iter().chain(drop_ins.into_iter().map(|(_, path)| path));
    let mut values = paths.filter_map(|path| property_in(&host.read(&path).ok()?, property));
    values.next_back()
}

fn property_in(text: &str, property: &str) -> Option<String> {
    let value = |line: &str| Some(line.trim().strip_prefix(property)?.strip_prefix('=')?.trim().to_owned());
    text.lines().filter_map(value).next_back()
}

/// Breaks a text into lines of at most this many characters where words end.
#[must_use]
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

const COMMENT_COLUMNS: usize = 108;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable", 3), ["unbreakable"]);
    }

    #[test]
    fn the_last_line_of_a_property_counts() {
        let text = "[Service]\nLimitNOFILE=1\nLimitNOFILE = 2\nLimitNOFILE=3\n";
        assert_eq!(property_in(text, "LimitNOFILE"), Some("3".to_owned()));
        assert_eq!(property_in(text, "Limit"), None);
    }
}
