//! Whole hosts: check, apply, a second apply, another profile, revert.
#![expect(clippy::disallowed_methods, reason = "tests make and read trees of files")]

mod tree;

use std::fs;

use dunlin_tuning::apply::{Outcome, Report, Request, apply};
use dunlin_tuning::catalogue::{CATALOGUE, Profile};
use dunlin_tuning::facts::Facts;
use dunlin_tuning::host::Host;
use dunlin_tuning::revert::revert;
use dunlin_tuning::setting::Place;
use dunlin_tuning::state::{self, StateError};
use dunlin_tuning::survey::{Item, Status, survey};
use proptest::prelude::*;
use tree::Tree;

fn profile(name: &str) -> &'static Profile {
    CATALOGUE.profile(name).unwrap_or_else(|| panic!("no profile {name}"))
}

fn facts(host: &Host, name: &str) -> Facts {
    Facts::of(host, profile(name).connections, profile(name).housekeeping)
}

fn items(host: &Host, name: &str) -> Vec<Item<'static>> {
    survey(host, profile(name), &facts(host, name))
}

fn tune(host: &Host, name: &str, dry_run: bool) -> Result<Report, StateError> {
    let facts = facts(host, name);
    let (catalogue, profile) = (&*CATALOGUE, profile(name));
    apply(host, Request { catalogue, profile, facts: &facts, connections: None, dry_run })
}

fn done(report: &Report) -> Vec<String> {
    let of = |change: &dunlin_tuning::apply::Change| format!("{} {} → {}", change.id, change.from, change.to);
    report.changes.iter().map(of).collect()
}

/// What is neither as wanted nor for somebody else to change.
fn unmet(host: &Host, name: &str) -> Vec<String> {
    let ours = |item: &Item<'_>| {
        item.status.is_unmet()
            && !item.setting.needs_restart()
            && !matches!(item.setting.place, Place::Absent { .. })
    };
    items(host, name).iter().filter(|item| ours(item)).map(Item::id).collect()
}

fn status(host: &Host, name: &str, id: &str) -> (Status, String) {
    let items = items(host, name);
    let item = items.iter().find(|item| item.id() == id).unwrap_or_else(|| panic!("no {id}"));
    (item.status, item.note.clone())
}

#[test]
fn a_recorded_machine_is_judged() {
    let tree = Tree::vm();
    let host = tree.host();
    assert_eq!(status(&host, "density", "net.core.somaxconn").0, Status::Low);
    assert_eq!(status(&host, "density", "net.ipv4.tcp_synack_retries").0, Status::Differs);
    assert_eq!(status(&host, "density", "memory.thp").0, Status::Ok);
    assert_eq!(status(&host, "density", "nic.interrupts@eth0/39").0, Status::Differs);
    assert_eq!(status(&host, "density", "nic.rps@eth0/rx-0").0, Status::Differs);
    assert_eq!(status(&host, "density", "host.swap").0, Status::Ok);
    for (id, why) in [
        ("nic.queues", "the program ethtool is not installed"),
        ("service.LimitNOFILE", "no dunlin.service is installed"),
        ("disk.scheduler", "there is no disk without spinning parts"),
    ] {
        let (status, note) = status(&host, "density", id);
        assert_eq!((status, note.as_str()), (Status::NotHere, why), "{id}");
    }
    assert!(status(&host, "latency", "cpu.governor").1.contains("there is no"));
    assert!(
        status(&host, "latency", "kernel-argument.isolcpus").1.contains("with 2 CPUs none can be set aside")
    );
    assert!(status(&host, "latency", "cpu.idle-states").1.contains("at most 10"));
}

#[test]
fn every_profile_can_be_applied_twice_and_reverted_on_every_host() {
    for make in [Tree::vm as fn() -> Tree, Tree::server] {
        for profile in &CATALOGUE.profiles {
            let name = profile.name;
            let tree = make();
            let host = tree.with_ethtool();
            let before = tree.snapshot();
            tune(&host, name, true).expect("a dry run");
            assert_eq!(tree.snapshot(), before, "a dry run of {name} touched something");
            let first = tune(&host, name, false).expect("an apply");
            assert!(!first.has_failed() && !first.changes.is_empty(), "{name}: {:?}", done(&first));
            assert_eq!(unmet(&host, name), Vec::<String>::new(), "{name}");
            let after = tree.snapshot();
            let second = tune(&host, name, false).expect("a second apply");
            assert_eq!(done(&second), Vec::<String>::new(), "{name}");
            assert_eq!(tree.snapshot(), after, "{name}");
            let back = revert(&host, &CATALOGUE, false).expect("a revert").expect("something to revert");
            assert!(!back.has_failed(), "{name}: {:?}", back.changes);
            assert_eq!(tree.snapshot(), before, "{name}");
            assert!(revert(&host, &CATALOGUE, false).expect("a second revert").is_none());
        }
    }
}

#[test]
fn a_dry_run_says_what_an_apply_does() {
    let tree = Tree::server();
    let host = tree.with_ethtool();
    let would = tune(&host, "density", true).expect("a dry run");
    assert!(would.changes.iter().all(|change| change.outcome == Outcome::Would));
    let did = tune(&host, "density", false).expect("an apply");
    assert!(did.changes.iter().all(|change| change.outcome == Outcome::Done));
    assert_eq!(done(&would), done(&did));
}

#[test]
fn a_server_gets_its_queues_cpus_and_arguments() {
    let tree = Tree::server();
    let host = tree.with_ethtool();
    tune(&host, "latency", false).expect("an apply");
    let text = |path: &str| tree.text(path).unwrap_or_default().trim().to_owned();
    assert_eq!(text("/proc/irq/100/smp_affinity_list"), "1");
    assert_eq!(text("/proc/irq/107/smp_affinity_list"), "9", "CPU 8 shares the core of CPU 0");
    assert_eq!(text("/sys/class/net/eth0/queues/tx-1/xps_cpus"), "804", "CPUs 2 and 11");
    assert_eq!(text("/sys/devices/virtual/workqueue/cpumask"), "101");
    assert_eq!(text("/sys/devices/system/cpu/cpu3/cpuidle/state3/disable"), "1");
    assert_eq!(text("/sys/devices/system/cpu/cpu3/cpuidle/state2/disable"), "0");
    assert_eq!(text("/sys/devices/system/cpu/cpu15/cpufreq/scaling_governor"), "performance");
    assert_eq!(text("/ethtool/usecs"), "4");
    assert_eq!(text("/ethtool/combined"), "14", "a queue for each CPU of a shard");
    let grub = text("/etc/default/grub.d/90-dunlin.cfg");
    assert!(grub.contains("isolcpus=managed_irq,domain,1-7,9-15 nohz_full=1-7,9-15"), "{grub}");
    assert_eq!(status(&host, "latency", "kernel-argument.isolcpus").0, Status::Waits);
    let drop_in = text("/etc/systemd/system/dunlin.service.d/90-dunlin-tune.conf");
    assert!(drop_in.contains("[Service]\n") && drop_in.contains("CPUAffinity=1-7,9-15"), "{drop_in}");
    assert!(drop_in.contains("LimitNOFILE=524288"), "the unit's own limit is larger: {drop_in}");
    // After the restart the kernel's line has them.
    tree.put("/proc/cmdline", "quiet isolcpus=managed_irq,domain,1-7,9-15 skew_tick=1");
    assert_eq!(status(&host, "latency", "kernel-argument.isolcpus").0, Status::Ok);
}

#[test]
fn another_profile_leaves_nothing_of_the_first() {
    let tree = Tree::server();
    let host = tree.with_ethtool();
    let before = tree.snapshot();
    tune(&host, "latency", false).expect("the first");
    let report = tune(&host, "edge", false).expect("the second");
    assert!(!report.has_failed(), "{:?}", report.changes);
    let text = |path: &str| tree.text(path).unwrap_or_default().trim().to_owned();
    assert_eq!(text("/sys/devices/system/cpu/cpu15/cpufreq/scaling_governor"), "powersave");
    assert_eq!(text("/etc/default/grub.d/90-dunlin.cfg"), "", "edge wants no argument of the kernel");
    assert_eq!(done(&tune(&host, "edge", false).expect("again")), Vec::<String>::new());
    revert(&host, &CATALOGUE, false).expect("a revert");
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn what_cannot_be_set_is_reported_and_the_rest_goes_on() {
    let tree = Tree::vm();
    let host = tree.host();
    let path = tree.folder.join("proc/sys/net/core/somaxconn");
    // A folder can neither be read nor written as a file, whoever asks.
    fs::remove_file(&path).expect("a file");
    fs::create_dir(&path).expect("a folder");
    let full = tree.folder.join("proc/sys/fs/nr_open");
    fs::remove_file(&full).expect("a file");
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link");
    let report = tune(&host, "density", false).expect("an apply");
    assert!(status(&host, "density", "net.core.somaxconn").1.contains("cannot be read"));
    assert_eq!(tree.text("/proc/sys/net/ipv4/tcp_fin_timeout").as_deref(), Some("30\n"));
    assert!(!report.changes.iter().any(|change| change.id == "fs.nr_open"), "{:?}", report.changes);
    let kept = tree.text("/etc/sysctl.d/90-dunlin.conf").expect("a file");
    assert!(!kept.contains("somaxconn") && kept.contains("tcp_fin_timeout = 30"), "{kept}");
}

#[test]
fn a_card_that_only_agrees_is_a_failure() {
    let tree = Tree::server();
    let host = tree.with_ethtool();
    tree.put("/ethtool/deaf", "");
    let report = tune(&host, "latency", false).expect("an apply");
    let failed: Vec<&str> = report
        .changes
        .iter()
        .filter(
            |change| matches!(&change.outcome, Outcome::Failed(why) if why.contains("is 50 all the same")),
        )
        .map(|change| change.id.as_str())
        .collect();
    assert_eq!(failed, ["nic.rx-usecs@eth0"]);
    assert!(!tree.text(state::PATH).expect("a state").contains("rx-usecs"), "it was never changed");
}

#[test]
fn a_link_out_of_the_root_is_not_followed() {
    let (outside, tree) = (Tree::empty(), Tree::vm());
    outside.put("/victim", "4096");
    let sysctl = tree.folder.join("proc/sys/net/core/somaxconn");
    fs::remove_file(&sysctl).expect("a file");
    std::os::unix::fs::symlink(outside.folder.join("victim"), &sysctl).expect("a link");
    std::os::unix::fs::symlink(&outside.folder, tree.folder.join("etc")).expect("a link");
    let report = tune(&tree.host(), "density", false).expect("an apply");
    let failed: Vec<&str> = report
        .changes
        .iter()
        .filter(|change| matches!(&change.outcome, Outcome::Failed(why) if why.contains("leads out of")))
        .map(|change| change.id.as_str())
        .collect();
    assert_eq!(failed, ["net.core.somaxconn", "/etc/sysctl.d/90-dunlin.conf"]);
    assert_eq!(outside.text("/victim").as_deref(), Some("4096\n"));
    assert_eq!(outside.snapshot().len(), 1);
    let state = tree.text(state::PATH).expect("a state");
    assert!(!state.contains("somaxconn"), "what failed is not to be reverted: {state}");
}

#[test]
fn an_image_gets_files_only() {
    let tree = Tree::empty();
    tree.put("/etc/default/grub", "");
    tree.put("/usr/lib/systemd/system/dunlin.service", "[Service]\nLimitNOFILE=1024");
    let host = tree.host();
    assert!(!host.is_live());
    let report = tune(&host, "density", false).expect("an apply");
    let ids: Vec<&str> = report.changes.iter().map(|change| change.id.as_str()).collect();
    assert_eq!(
        ids,
        ["/etc/sysctl.d/90-dunlin.conf", "/etc/systemd/system/dunlin.service.d/90-dunlin-tune.conf"]
    );
    let sysctl = tree.text("/etc/sysctl.d/90-dunlin.conf").expect("a file");
    assert!(sysctl.contains("\nnet.core.somaxconn = 32768\n"), "{sysctl}");
    assert!(sysctl.contains("\n-net.netfilter.nf_conntrack_max = 4000000\n"), "{sysctl}");
    let met = items(&host, "density").iter().filter(|item| item.status == Status::Ok).count();
    assert!(met > 15, "{met}");
    assert!(status(&host, "density", "memory.thp").1.contains("dunlin-tune.service"));
    assert_eq!(done(&tune(&host, "density", false).expect("again")), Vec::<String>::new());
}

#[test]
fn a_state_file_that_is_not_ours_stops_everything() {
    let tree = Tree::vm();
    let host = tree.host();
    tune(&host, "density", false).expect("an apply");
    let good = tree.text(state::PATH).expect("a state");
    let before = tree.snapshot();
    for bad in [&good[..good.len() / 2], "", "[]", "{\"version\": 9}", &good.replace("sysctl.d", "cron.d")] {
        fs::write(tree.folder.join(state::PATH.trim_start_matches('/')), bad).expect("a file");
        let problem = revert(&host, &CATALOGUE, false).expect_err("a damaged file").to_string();
        assert!(problem.contains("nothing was changed"), "{problem}");
        assert!(tune(&host, "edge", false).is_err());
    }
    tree.put(state::PATH, &good);
    assert_eq!(tree.snapshot(), before);
}

#[test]
fn what_has_gone_is_left() {
    let tree = Tree::server();
    let host = tree.host();
    tune(&host, "density", false).expect("an apply");
    fs::remove_dir_all(tree.folder.join("sys/class/net/eth0")).expect("the card");
    let back = revert(&host, &CATALOGUE, false).expect("a revert").expect("a report");
    let gone = back.changes.iter().filter(|change| matches!(change.outcome, Outcome::Gone(_))).count();
    assert!(gone >= 8, "{gone}");
    assert!(!back.has_failed());
    assert_eq!(tree.text(state::PATH), None);
}

/// A value such as a kernel might have for each plain number.
fn numbers() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(
        prop_oneof![Just(0), Just(1), 2u64..100, 100u64..100_000, Just(9_223_372_036_854_775_807)],
        60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn whatever_was_there_comes_back(
        numbers in numbers(),
        (first, second) in (0usize..5, 0usize..5),
        thp in prop::sample::select(vec!["[always] madvise never", "always [madvise] never", "always madvise [never]"]),
        own_file in prop::option::of("[a-z.]{1,20} = [0-9]{1,5}"),
    ) {
        let tree = Tree::server();
        let host = tree.with_ethtool();
        let plain = CATALOGUE.settings.iter().filter(|setting| setting.place == Place::Sysctl);
        for (setting, number) in plain.zip(&numbers) {
            let single = tree.text(&setting.sysctl_path()).is_some_and(|text| text.trim().parse::<u64>().is_ok());
            if single {
                tree.put(&setting.sysctl_path(), &number.to_string());
            }
        }
        tree.put("/sys/kernel/mm/transparent_hugepage/enabled", thp);
        if let Some(text) = &own_file {
            tree.put("/etc/sysctl.d/90-dunlin.conf", text);
        }
        let before = tree.snapshot();
        let (first, second) = (CATALOGUE.profiles[first].name, CATALOGUE.profiles[second].name);
        tune(&host, first, true).expect("a dry run");
        prop_assert_eq!(&tree.snapshot(), &before);
        tune(&host, first, false).expect("an apply");
        prop_assert_eq!(unmet(&host, first), Vec::<String>::new());
        let settled = tree.snapshot();
        prop_assert_eq!(done(&tune(&host, first, false).expect("again")), Vec::<String>::new());
        prop_assert_eq!(&tree.snapshot(), &settled);
        tune(&host, second, false).expect("another");
        prop_assert_eq!(unmet(&host, second), Vec::<String>::new());
        revert(&host, &CATALOGUE, true).expect("a dry revert");
        revert(&host, &CATALOGUE, false).expect("a revert");
        prop_assert_eq!(tree.snapshot(), before);
    }
}
