//! Start-up self-check: whether this host can run the edge, and what to change if not.

use io_uring::{IoUring, Probe, opcode};

use super::config::EdgeConfig;
use super::ring::RingShape;
use super::sys;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// The broker runs, but not as configured or not as well as it could.
    Warning,
    /// The broker cannot run like this.
    Fatal,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at: `kernel`, `io_uring`, `memlock`, `nofile`, `cores`.
    pub subject: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was found, with its value, and what to change.
    pub text: String,
}

/// Looks at everything that the edge needs of the host. A few milliseconds; makes one small ring and closes it.
#[must_use]
pub fn check(config: &EdgeConfig) -> Vec<Finding> {
    vec![kernel(), io_uring(), memlock(config), nofile(config), cores(config)]
}

/// The worst verdict of a list; [`Verdict::Good`] for an empty one.
#[must_use]
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Good)
}

fn kernel() -> Finding {
    let release = read_line("/proc/sys/kernel/osrelease").unwrap_or_default();
    judge_kernel(&release)
}

fn judge_kernel(release: &str) -> Finding {
    let (verdict, text) = match version(release) {
        Some(found) if found >= KERNEL_MIN => (Verdict::Good, format!("Linux {release}")),
        Some(_) => (
            Verdict::Fatal,
            format!(
                "Linux {release} is too old: {}.{} or newer is needed (socket commands of io_uring)",
                KERNEL_MIN.0, KERNEL_MIN.1
            ),
        ),
        None => (Verdict::Warning, format!("the kernel's version {release:?} cannot be read")),
    };
    Finding { subject: "kernel", verdict, text }
}

fn io_uring() -> Finding {
    let disabled = read_line("/proc/sys/kernel/io_uring_disabled");
    let (verdict, text) = match probe() {
        Ok(missing) if missing.is_empty() => {
            (Verdict::Good, "available, with every operation that is needed".to_owned())
        }
        Ok(missing) => (
            Verdict::Fatal,
            format!("this kernel lacks io_uring operations: {}; take a newer kernel", missing.join(", ")),
        ),
        Err(error) => (Verdict::Fatal, explain_refusal(&error, disabled.as_deref())),
    };
    Finding { subject: "io_uring", verdict, text }
}

/// Says why the kernel refused a ring, as far as one can know.
fn explain_refusal(error: &std::io::Error, disabled: Option<&str>) -> String {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some("2")) => {
            "io_uring is switched off on this host: set sysctl kernel.io_uring_disabled=0".to_owned()
        }
        (Some(libc::EPERM), Some("1")) => {
            "io_uring is for privileged processes only on this host: set sysctl \
             kernel.io_uring_disabled=0, or put this user into the group of kernel.io_uring_group"
                .to_owned()
        }
        (Some(libc::EPERM), _) => {
            "io_uring_setup is forbidden (EPERM), most likely by a container's seccomp profile: \
             allow io_uring_setup, io_uring_enter and io_uring_register"
                .to_owned()
        }
        (Some(libc::ENOSYS), _) => "this kernel was built without io_uring (CONFIG_IO_URING)".to_owned(),
        (Some(libc::ENOMEM), _) => {
            "no memory for a ring: raise the memory limit, or RLIMIT_MEMLOCK (LimitMEMLOCK=infinity)"
                .to_owned()
        }
        (Some(libc::EINVAL), _) => {
            "this kernel does not know the ring's set-up flags (DEFER_TASKRUN): Linux 6.7 or newer is needed"
                .to_owned()
        }
        _ => format!("no ring could be made: {error}"),
    }
}

/// Makes a ring as a shard does and lists the operations that the kernel lacks.
fn probe() -> std::io::Result<Vec<&'static str>> {
    let ring: IoUring = RingShape::PROBE.build()?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
        ("CLOSE", opcode::Close::CODE),
        ("MSG_RING", opcode::MsgRingSendFd::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
        ("SENDMSG", opcode::SendMsg::CODE),
        ("URING_CMD", opcode::UringCmd16::CODE),
    ];
    Ok(needed.into_iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(name, _)| name).collect())
}

fn memlock(config: &EdgeConfig) -> Finding {
    judge_memlock(sys::memlock_bytes(), config.shard_count())
}

fn judge_memlock(bytes: u64, shards: usize) -> Finding {
    let (verdict, text) = if bytes < EXECUTOR_MEMLOCK_BYTES {
        (
            Verdict::Fatal,
            format!(
                "RLIMIT_MEMLOCK is {bytes} bytes; the executor of a shard refuses to start below \
                 {EXECUTOR_MEMLOCK_BYTES}: set LimitMEMLOCK=infinity in the service, or `ulimit -l unlimited`"
            ),
        )
    } else {
        (Verdict::Good, format!("RLIMIT_MEMLOCK {} for {}", in_words(bytes), counted(shards as u64, "shard")))
    };
    Finding { subject: "memlock", verdict, text }
}

fn nofile(config: &EdgeConfig) -> Finding {
    let (soft, _hard) = sys::raise_nofile();
    judge_nofile(soft, config)
}

fn judge_nofile(soft: u64, config: &EdgeConfig) -> Finding {
    let shards = u64::try_from(config.shard_count()).unwrap_or(u64::MAX).max(1);
    let table = u32::try_from(soft).unwrap_or(u32::MAX).min(config.rings.table_entries_max).max(2);
    let capacity = super::capacity_per_shard(config);
    let per_shard = u64::from(capacity);
    let rings = u64::from(super::edge::rings_for(capacity, table));
    let needed = shards * (rings + DESCRIPTORS_PER_SHARD) + DESCRIPTORS_PER_PROCESS;
    let connections = config.connection_count_max;
    let least = shards * (1 + DESCRIPTORS_PER_SHARD) + DESCRIPTORS_PER_PROCESS;
    // One ring per shard is best; where no kernel would give that, what suffices.
    let advised = if per_shard <= NR_OPEN_USUAL { per_shard.max(needed) } else { needed };
    let (verdict, text) = if soft < needed {
        (
            Verdict::Fatal,
            format!(
                "RLIMIT_NOFILE is {soft}, and {connections} connections on {} need {needed} descriptors ({} per shard): raise \
                 it to {advised} (`ulimit -n {advised}`; LimitNOFILE={advised} in the service){}",
                counted(shards, "shard"),
                counted(rings, "ring"),
                if soft > least { ", or lower --max-connections" } else { "" }
            ),
        )
    } else if rings > RINGS_WORTH_A_WORD {
        (
            Verdict::Warning,
            format!(
                "RLIMIT_NOFILE is {soft}, so that {connections} connections need up to {rings} rings per shard; \
                 LimitNOFILE={per_shard} would need fewer and cost less CPU"
            ),
        )
    } else {
        (
            Verdict::Good,
            format!(
                "RLIMIT_NOFILE {}: up to {} per shard for {connections} connections",
                in_words(soft),
                counted(rings, "ring")
            ),
        )
    };
    Finding { subject: "nofile", verdict, text }
}

fn cores(config: &EdgeConfig) -> Finding {
    judge_cores(&config.cores, &sys::allowed_cpus())
}

fn judge_cores(wanted: &[Option<usize>], allowed: &[usize]) -> Finding {
    let missing: Vec<String> =
        wanted.iter().flatten().filter(|core| !allowed.contains(core)).map(ToString::to_string).collect();
    let (verdict, text) = if missing.is_empty() {
        (
            Verdict::Good,
            format!(
                "{} on {}",
                counted(wanted.len() as u64, "shard"),
                counted(allowed.len() as u64, "usable CPU")
            ),
        )
    } else {
        (
            Verdict::Fatal,
            format!(
                "CPU {} cannot be used by this process; usable are {allowed:?}: change --cores, or the CPU set of the \
                 service",
                missing.join(", ")
            ),
        )
    };
    Finding { subject: "cores", verdict, text }
}

/// A number and its noun: `1 shard`, `2 shards`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn in_words(limit: u64) -> String {
    if limit == libc::RLIM_INFINITY { "unlimited".to_owned() } else { limit.to_string() }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[expect(clippy::disallowed_methods, reason = "two files of /proc, read before the shards start")]
fn read_line(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// SOCKET_URING_OP_GETSOCKOPT came with Linux 6.7; everything else that the edge uses is older.
const KERNEL_MIN: (u32, u32) = (6, 7);

/// What glommio asks for before it makes its rings.
const EXECUTOR_MEMLOCK_BYTES: u64 = 512 << 10;

/// Descriptors of one shard besides its rings: the executor's three rings and eventfds, the doorbell, listeners.
const DESCRIPTORS_PER_SHARD: u64 = 16;

/// Descriptors of the process besides its shards: the control plane, log files, databases.
const DESCRIPTORS_PER_PROCESS: u64 = 256;

/// The kernel's own bound on RLIMIT_NOFILE where nobody changed `fs.nr_open`.
const NR_OPEN_USUAL: u64 = 1 << 20;

/// From this many rings per shard on, the host's limit is worth a warning: each ring with output costs a system call per
/// tick.
const RINGS_WORTH_A_WORD: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_with_the_version_that_is_needed() {
        assert_eq!(judge_kernel("6.18.44-fc").verdict, Verdict::Good);
        assert_eq!(judge_kernel("6.7.0").verdict, Verdict::Good);
        let old = judge_kernel("5.15.0-91-generic");
        assert_eq!(old.verdict, Verdict::Fatal);
        assert!(old.text.contains("6.7"), "{}", old.text);
        assert_eq!(judge_kernel("strange").verdict, Verdict::Warning);
    }

    #[test]
    fn a_refused_ring_names_the_switch_to_turn() {
        let eperm = std::io::Error::from_raw_os_error(libc::EPERM);
        assert!(explain_refusal(&eperm, Some("2")).contains("kernel.io_uring_disabled=0"));
        assert!(explain_refusal(&eperm, Some("1")).contains("io_uring_group"));
        assert!(explain_refusal(&eperm, Some("0")).contains("seccomp"));
        assert!(explain_refusal(&eperm, None).contains("seccomp"));
        let enosys = std::io::Error::from_raw_os_error(libc::ENOSYS);
        assert!(explain_refusal(&enosys, None).contains("CONFIG_IO_URING"));
    }

    #[test]
    fn little_locked_memory_is_fatal() {
        assert_eq!(judge_memlock(64 << 10, 2).verdict, Verdict::Fatal);
        assert_eq!(judge_memlock(8 << 20, 2).verdict, Verdict::Good);
    }

    #[test]
    fn descriptors_are_counted_in_rings() {
        let mut config = EdgeConfig { cores: vec![None; 2], ..EdgeConfig::default() };
        config.connection_count_max = 2_000_000;
        let finding = judge_nofile(20_000, &config);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.text.contains("66 rings per shard"), "{}", finding.text);
        let short = judge_nofile(300, &config);
        assert_eq!(short.verdict, Verdict::Fatal);
        assert!(
            short.text.contains("on 2 shards need") && short.text.contains("or lower --max-connections"),
            "{}",
            short.text
        );
        config.connection_count_max = 100;
        let hopeless = judge_nofile(256, &config);
        assert!(
            hopeless.text.contains("1 ring per shard") && !hopeless.text.contains("lower"),
            "{}",
            hopeless.text
        );
        config.connection_count_max = 2_000_000;
        assert_eq!(judge_nofile(4_000_000, &config).verdict, Verdict::Good);
    }

    #[test]
    fn a_core_that_is_not_ours_is_fatal() {
        assert_eq!(judge_cores(&[Some(0), None], &[0, 1]).verdict, Verdict::Good);
        assert_eq!(judge_cores(&[Some(2)], &[0, 1]).verdict, Verdict::Fatal);
    }

    #[test]
    fn this_host_passes() {
        let findings = check(&EdgeConfig { connection_count_max: 10_000, ..EdgeConfig::default() });
        assert_eq!(worst(&findings), Verdict::Good, "{findings:#?}");
    }
}
