//! The files of `tuning/` that are made from the catalogue. A test compares them with what is on disk;
//! `cargo run -p dunlin-tuning` writes them.

use std::fmt::Write as _;

use crate::catalogue::{Catalogue, Profile};
use crate::facts::Facts;
use crate::owned::{sysctls, wrapped};
use crate::rule::Wanted;
use crate::setting::{Form, Place, Setting};
use crate::tuned;

/// A file: its path below `tuning/`, and its text.
pub type Shipped = (String, String);

/// All files.
#[must_use]
pub fn files(catalogue: &Catalogue) -> Vec<Shipped> {
    let mut files = vec![
        ("systemd/dunlin.service".to_owned(), SERVICE.to_owned()),
        ("systemd/dunlin-tune.service".to_owned(), TUNE_SERVICE.to_owned()),
        (format!("tuned/{}", tuned::VARIABLES_FILE), tuned::VARIABLES.to_owned()),
    ];
    for profile in &catalogue.profiles {
        let name = profile.name;
        files.push((format!("profiles/{name}/sysctl.conf"), sysctl_conf(profile)));
        files.push((format!("systemd/dunlin.service.d/{name}.conf"), drop_in(profile)));
        // A container has no tuned(8) of its own.
        if profile.wants().any(|(setting, _)| !setting.namespaced && setting.place != Place::Sysctl) {
            files.push((format!("tuned/dunlin-{name}/tuned.conf"), tuned::profile(profile)));
        }
    }
    files.retain(|(_, text)| !text.is_empty());
    files
}

/// What a profile wants of a host that nobody has seen, as far as that can be said.
pub(crate) fn on_any_host(profile: &Profile) -> impl Iterator<Item = (&Setting, Option<Wanted>)> {
    let facts = Facts::unknown(profile.connections, profile.housekeeping);
    profile.wants().map(move |(setting, rule)| (setting, rule.on(&facts, None, Form::Plain).ok()))
}

fn sysctl_conf(profile: &Profile) -> String {
    let lines: Vec<(&Setting, String)> = on_any_host(profile)
        .filter(|(setting, _)| setting.place == Place::Sysctl)
        .filter_map(|(setting, wanted)| Some((setting, wanted?.value())))
        .collect();
    let mut text = format!(
        "# Profile {}, for {} connections: {}\n\
         # Copy it to /etc/sysctl.d/90-dunlin.conf and run `sysctl --system`. Better is `dunlin tune apply --profile {}`, which\n\
         # fits the numbers to the host, never lowers what is already larger, and knows the way back.\n",
        profile.name, profile.connections, profile.about, profile.name
    );
    sysctls(&mut text, &lines);
    text
}

/// Empty when the profile wants nothing of the service.
fn drop_in(profile: &Profile) -> String {
    let mut lines = String::new();
    for (setting, wanted) in on_any_host(profile) {
        let Place::Service { property } = &setting.place else {
            continue;
        };
        for line in wrapped(&setting.why, 108) {
            writeln!(lines, "# {line}").expect("writing to a String does not fail");
        }
        match wanted {
            Some(wanted) => writeln!(lines, "{property}={}\n", wanted.value()),
            None => writeln!(
                lines,
                "# Depends on the host: `dunlin tune apply --profile {}` fills it in; by hand, on eight CPUs:\n#{property}=1-7\n",
                profile.name
            ),
        }
        .expect("writing to a String does not fail");
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "# Profile {}, for {} connections. Copy it to /etc/systemd/system/dunlin.service.d/, then `systemctl daemon-reload`.\n\
         [Service]\n{}",
        profile.name,
        profile.connections,
        lines.trim_end().to_owned() + "\n"
    )
}

/// The unit. What it forbids, the broker does not do; `tuning/README.md` says how it was tried.
const SERVICE: &str = "\
[Unit]
Description=Dunlin MQTT broker
Documentation=man:dunlin(1) man:dunlin.toml(5)
After=network-online.target dunlin-tune.service
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
# The broker says READY=1 when it listens and STOPPING=1 when it begins to stop.
Type=notify
NotifyAccess=main
ExecStart=/usr/bin/dunlin run --config /etc/dunlin/dunlin.toml
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
TimeoutStartSec=60
# SIGTERM stops gracefully within shutdown.timeout (10 s unless configured) and two seconds of grace.
TimeoutStopSec=30

User=dunlin
# A folder of its own below the state: tune.json beside it belongs to root.
StateDirectory=dunlin/data
StateDirectoryMode=0750
UMask=0077

# Room for connections, rings and buffers; a profile's drop-in says more.
LimitNOFILE=2097152
LimitMEMLOCK=infinity
TasksMax=4096
OOMScoreAdjust=-900

# For ports below 1024 give both lines the value CAP_NET_BIND_SERVICE in a drop-in.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
# Services do not usually need io_uring, so it is named beside the usual set. Pinning shards is in @resources.
SystemCallArchitectures=native
SystemCallFilter=@system-service io_uring_setup io_uring_enter io_uring_register
SystemCallFilter=~@privileged @keyring
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";

/// The unit that tunes the host at each start, because the kernel forgets most of it.
const TUNE_SERVICE: &str = "\
[Unit]
Description=Kernel settings for the Dunlin MQTT broker
Documentation=man:dunlin(1)
After=systemd-sysctl.service systemd-modules-load.service network.target
Before=dunlin.service

[Service]
Type=oneshot
RemainAfterExit=yes
# PROFILE is throughput, latency, density or edge; MORE may be --connections N.
Environment=PROFILE=density
EnvironmentFile=-/etc/default/dunlin-tune
ExecStart=/usr/bin/dunlin tune apply --profile ${PROFILE} $MORE
ExecReload=/usr/bin/dunlin tune apply --profile ${PROFILE} $MORE
# Starting the broker does not depend on it: what could not be set is in its log.

[Install]
WantedBy=multi-user.target
";
