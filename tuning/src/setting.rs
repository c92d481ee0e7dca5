//! One setting of a host: where it is, and why it matters. Values belong to profiles.

use serde::Deserialize;

/// One setting. One per key in the whole process; read from `tuning/profiles/settings.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Its name: the kernel's for a sysctl, ours for the rest (`nic.rps`).
    pub key: String,
    /// Where it is on a host.
    #[serde(default)]
    pub place: Place,
    /// Whether each network namespace has its own, so that a container can set it for itself.
    #[serde(default)]
    pub namespaced: bool,
    /// Whether a healthy kernel may lack it.
    #[serde(default)]
    pub optional: bool,
    /// Why it is looked at.
    pub why: String,
    /// What happens without.
    pub without: String,
    /// What it costs.
    pub costs: String,
    /// How to undo it, where that is more than putting the old value back.
    #[serde(default)]
    undo: Option<String>,
    /// Who says so: the kernel's documentation, or a measurement in `tuning/README.md`.
    pub source: String,
}

/// Where a setting is on a host.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// Below `/proc/sys`, by the setting's key.
    #[default]
    Sysctl,
    /// One or several files of `/sys` or `/proc`. `*` stands for any name or part of one, `{nic}` for each network card, and
    /// `{disk}` for each disk without spinning parts.
    File {
        /// The pattern.
        path: String,
        /// How a value is written.
        #[serde(default)]
        form: Form,
        /// A file beside it that lists the possible values.
        #[serde(default)]
        choices: Option<String>,
        /// Looked at only where this holds.
        #[serde(default)]
        only: Option<Only>,
    },
    /// Idle states of all CPUs; the rule is a number of microseconds that waking up may take.
    IdleStates,
    /// The interrupts of network cards.
    NicInterrupts,
    /// What the program ethtool shows and changes.
    Ethtool {
        /// The letter of the option that shows it; its capital changes it.
        show: char,
        /// Its name in the output.
        item: String,
        /// Its name in an argument.
        argument: String,
    },
    /// An argument of the kernel's command line. Needs a restart.
    KernelArgument {
        /// The part before `=`.
        name: String,
    },
    /// A property of the systemd unit `dunlin.service`.
    Service {
        /// Its name in the section `[Service]`.
        property: String,
    },
    /// Something that should not be there. Only looked at.
    Absent {
        /// What.
        what: Unwanted,
    },
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As it is.
    #[default]
    Plain,
    /// All choices in a line, the one in force in brackets.
    Choice,
    /// CPUs as a hexadecimal mask.
    CpuMask,
    /// CPUs as a list.
    CpuList,
}

/// A condition on one place.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Only {
    /// The card has fewer receive queues than there are cores for shards.
    FewQueues,
}

/// What should not be there.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Unwanted {
    /// Space that memory is swapped to, other than compressed memory.
    Swap,
    /// The program irqbalance, which moves interrupts about.
    Irqbalance,
}

impl Setting {
    /// How to undo it.
    #[must_use]
    pub fn undo(&self) -> String {
        if let Some(undo) = &self.undo {
            return undo.clone();
        }
        match &self.place {
            Place::Sysctl => "`dunlin tune revert` puts the old value back at once and removes the line from \
                              /etc/sysctl.d/90-dunlin.conf."
                .to_owned(),
            Place::File { .. } | Place::IdleStates | Place::NicInterrupts | Place::Ethtool { .. } => {
                "`dunlin tune revert` puts the old value back at once. The kernel forgets it at a restart in any case."
                    .to_owned()
            }
            Place::KernelArgument { .. } => "`dunlin tune revert` removes it from the boot loader's file; then \
                                             `update-grub` and a restart."
                .to_owned(),
            Place::Service { .. } => "`dunlin tune revert` removes it from the drop-in of dunlin.service; then \
                                      `systemctl daemon-reload` and a restart of the service."
                .to_owned(),
            Place::Absent { .. } => "Nothing was changed, so there is nothing to undo.".to_owned(),
        }
    }

    /// The file of a sysctl, from the root of the host.
    #[must_use]
    pub fn sysctl_path(&self) -> String {
        format!("/proc/sys/{}", self.key.replace('.', "/"))
    }

    /// Whether it takes effect only after a restart of the host.
    #[must_use]
    pub fn needs_restart(&self) -> bool {
        matches!(self.place, Place::KernelArgument { .. })
    }
}
