//! Trees of `/proc` and `/sys` in a folder of their own, for tests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use dunlin_tuning::host::Host;
use dunlin_tuning::rule::in_force;
use dunlin_tuning::setting::Form;

/// A folder that stands for a host. It goes when the test ends.
pub(crate) struct Tree {
    pub(crate) folder: PathBuf,
}

impl Tree {
    pub(crate) fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("dunlin-tuning-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Self { folder }
    }

    /// A recorded virtual machine with two CPUs.
    pub(crate) fn vm() -> Self {
        let tree = Self::empty();
        let mut path = None;
        let mut text = String::new();
        for line in include_str!("../hosts/vm.tree").lines().chain(["@"]) {
            if line.starts_with(['=', '@', '#'])
                && let Some(path) = path.take()
            {
                tree.put(path, &std::mem::take(&mut text));
            }
            if let Some(next) = line.strip_prefix("= ") {
                path = Some(next);
            } else if let Some((link, target)) = line.strip_prefix("@ ").and_then(|rest| rest.split_once(' '))
            {
                tree.link(link, target);
            } else if path.is_some() {
                text.push_str(line);
                text.push('\n');
            }
        }
        tree
    }

    /// A server of eight cores with two threads each, a card with eight queues, a fast disk, swap, GRUB, systemd and the
    /// broker's unit. Put together from the forms that such hosts show.
    pub(crate) fn server() -> Self {
        let tree = Self::vm();
        fs::remove_dir_all(tree.folder.join("sys/class")).expect("the recorded card");
        fs::remove_dir_all(tree.folder.join("sys/block")).expect("the recorded disk");
        fs::remove_dir_all(tree.folder.join("sys/devices/system/cpu")).expect("the recorded CPUs");
        tree.put("/sys/devices/system/cpu/online", "0-15");
        for cpu in 0..16 {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
            tree.put(
                &format!("{folder}/topology/thread_siblings_list"),
                &format!("{},{}", cpu % 8, cpu % 8 + 8),
            );
            tree.put(&format!("{folder}/cpufreq/scaling_governor"), "powersave");
            tree.put(&format!("{folder}/cpufreq/scaling_available_governors"), "performance powersave");
            for (state, latency) in [0, 2, 10, 133].into_iter().enumerate() {
                tree.put(&format!("{folder}/cpuidle/state{state}/latency"), &latency.to_string());
                tree.put(&format!("{folder}/cpuidle/state{state}/disable"), "0");
            }
        }
        tree.put("/sys/devices/pci0/0000:17:00.0/uevent", "DRIVER=ice");
        tree.put("/sys/class/net/eth0/operstate", "up");
        tree.link("/sys/class/net/eth0/device", "../../../devices/pci0/0000:17:00.0");
        tree.put("/sys/class/net/eth0/gro_flush_timeout", "0");
        let mut interrupts = "            CPU0\n".to_owned();
        for queue in 0..8 {
            tree.put(&format!("/sys/class/net/eth0/queues/rx-{queue}/rps_cpus"), "0000");
            tree.put(&format!("/sys/class/net/eth0/queues/rx-{queue}/rps_flow_cnt"), "0");
            tree.put(&format!("/sys/class/net/eth0/queues/tx-{queue}/xps_cpus"), "0000");
            tree.put(&format!("/proc/irq/{}/smp_affinity_list", 100 + queue), "0-15");
            interrupts.push_str(&format!(" {}: 9 IR-PCI-MSI 1-edge ice-eth0-TxRx-{queue}\n", 100 + queue));
        }
        tree.put("/proc/interrupts", &interrupts);
        tree.put("/proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1p3 partition 8388604 0 -2");
        tree.put("/sys/block/nvme0n1/queue/rotational", "0");
        tree.put("/sys/block/nvme0n1/queue/scheduler", "[none] mq-deadline kyber");
        tree.link("/sys/block/nvme0n1/device", "../../devices/pci0/0000:17:00.0");
        tree.put("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"");
        tree.put("/usr/lib/systemd/system/dunlin.service", "[Service]\nLimitNOFILE=524288");
        tree
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let target = self.folder.join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a file has a folder")).expect("a folder");
        fs::write(target, format!("{}\n", text.trim_end())).expect("a file");
    }

    pub(crate) fn link(&self, path: &str, to: &str) {
        let target = self.folder.join(path.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a link has a folder")).expect("a folder");
        symlink(to, target).expect("a link");
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(path.trim_start_matches('/'))).ok()
    }

    pub(crate) fn host(&self) -> Host {
        Host::at(&self.folder).expect("a folder")
    }

    /// A program that answers as ethtool does for rings of 256 out of 4,096 and eight of sixteen channels, and remembers.
    pub(crate) fn with_ethtool(&self) -> Host {
        for (name, value) in
            [("rx", "256"), ("tx", "256"), ("combined", "8"), ("adaptive", "off"), ("usecs", "50")]
        {
            self.put(&format!("/ethtool/{name}"), value);
        }
        let program = self.folder.join("ethtool.sh");
        fs::write(&program, ETHTOOL.replace("FOLDER", &self.folder.join("ethtool").display().to_string()))
            .expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("to be run");
        self.host().with_ethtool(program)
    }

    /// Every file with its text; of a line of choices only the one in force.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        collect(&self.folder, &self.folder, &mut found);
        found
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn collect(top: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() {
            collect(top, &path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let name = path.strip_prefix(top).expect("below the top").display().to_string();
            let in_etc = name.starts_with("etc") || name.starts_with("usr");
            found.insert(name, if in_etc { text } else { in_force(&text, Form::Choice) });
        }
    }
}

const ETHTOOL: &str = r#"#!/bin/sh
cd FOLDER || exit 1
option=$1; shift 2
case $option in
-g) printf 'Pre-set maximums:\nRX:\t\t4096\nTX:\t\t4096\nCurrent hardware settings:\nRX:\t\t%s\nTX:\t\t%s\n' "$(cat rx)" "$(cat tx)" ;;
-l) printf 'Pre-set maximums:\nRX:\t\tn/a\nCombined:\t16\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t%s\n' "$(cat combined)" ;;
-c) printf 'Adaptive RX: %s  TX: n/a\nrx-usecs: %s\ntx-usecs: n/a\n' "$(cat adaptive)" "$(cat usecs)" ;;
-G | -L) [ "$2" -le 4096 ] || { echo 'netlink error: Invalid argument' >&2; exit 1; }; echo "$2" >"$1" ;;
-C) [ -e deaf ] || case $1 in adaptive-rx) echo "$2" >adaptive ;; rx-usecs) echo "$2" >usecs ;; *) exit 1 ;; esac ;;
*) echo "bad option $option" >&2; exit 1 ;;
esac
"#;
