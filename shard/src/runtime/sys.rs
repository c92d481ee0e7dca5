//! The few system calls that the standard library lacks: sockets that share a port, eventfds, limits, CPU sets.
//!
//! One of the three files of this folder with `unsafe` (ADR 0012); everything that it exports is safe.
#![expect(unsafe_code, reason = "calls into libc; each block says why it is sound")]

use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use glommio::io::BufferedFile;

/// A socket that listens on `address` together with others of this process (SO_REUSEPORT), with TCP_NODELAY for all that
/// it accepts: output is coalesced per tick, so that waiting for more would only add delay.
pub(super) fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = bound(address, true)?;
    let raw = socket.as_raw_fd();
    set_option(raw, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    // SAFETY: no pointers are passed.
    check(unsafe { libc::listen(raw, i32::try_from(backlog).unwrap_or(i32::MAX)) })?;
    Ok(TcpListener::from(socket))
}

/// Fails if anybody listens on `address`. Without this look, a second broker of the same user would share the port
/// (SO_REUSEPORT) and each would serve a part of the clients.
///
/// A broker that was killed leaves its listening sockets to the kernel, which takes its rings down some time after the process
/// has gone: therefore an address in use is looked at again for three seconds (on a
/// machine that is short of CPU one was not enough).
#[expect(clippy::disallowed_methods, reason = "sleeps while the process starts, before there are shards")]
pub(super) fn check_free(address: SocketAddr) -> io::Result<()> {
    for _ in 0..CHECKS_FREE {
        match bound(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(CHECK_FREE_PAUSE),
            other => return other.map(drop),
        }
    }
    bound(address, false).map(drop)
}

/// A stream socket bound to `address`.
fn bound(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers are passed.
    let raw = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if shared {
        set_option(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if address.is_ipv6() {
        set_option(raw, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    bind(raw, address)?;
    Ok(socket)
}

/// Connections that the kernel keeps at most for a listening socket, whatever it is told.
#[expect(clippy::disallowed_methods, reason = "reads the kernel's settings while the process starts")]
pub(super) fn backlog_max() -> u32 {
    let setting = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    setting.and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX)
}

/// A new eventfd, counter 0. Reading an empty one waits or fails.
pub(super) fn eventfd(waits: bool) -> io::Result<OwnedFd> {
    let flags = if waits { libc::EFD_CLOEXEC } else { libc::EFD_CLOEXEC | libc::EFD_NONBLOCK };
    // SAFETY: no pointers are passed.
    let raw = check(unsafe { libc::eventfd(0, flags) })?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sets an eventfd that does not wait back to 0.
pub(super) fn drain_eventfd(eventfd: &OwnedFd) {
    let mut count = [0_u8; 8];
    // SAFETY: `count` is 8 writable bytes for the time of the call.
    let _read = unsafe { libc::read(eventfd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

/// Adds one to an eventfd. It cannot block and its counter cannot overflow in practice (2^64 rings).
pub(super) fn ring_eventfd(eventfd: &OwnedFd) {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: `one` is 8 readable bytes for the time of the call.
    let _written = unsafe { libc::write(eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// The eventfd as a file that glommio reads from.
pub(super) fn eventfd_file(eventfd: OwnedFd) -> BufferedFile {
    use std::os::fd::IntoRawFd as _;
    // SAFETY: ownership of the descriptor moves into the file.
    unsafe { BufferedFile::from_raw_fd(eventfd.into_raw_fd()) }
}

/// Soft and hard limit of open descriptors (RLIMIT_NOFILE), after an attempt to raise the soft one to the hard one.
pub(super) fn raise_nofile() -> (u64, u64) {
    let (soft, hard) = limit(libc::RLIMIT_NOFILE);
    if soft < hard {
        let wanted = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        // SAFETY: `wanted` is valid for the time of the call.
        let _raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) };
    }
    limit(libc::RLIMIT_NOFILE)
}

/// Takes this process out of transparent huge pages, whatever the host's default; whether the kernel agreed. Each shard's
/// heap would otherwise hold several pages of 2 MiB with little in them: 9 MB of resident memory per shard more.
pub(super) fn refuse_huge_pages() -> bool {
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: this option takes numbers only and changes no memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, unused, unused, unused) == 0 }
}

/// Bytes of memory that may be locked: soft limit (RLIMIT_MEMLOCK).
pub(super) fn memlock_bytes() -> u64 {
    limit(libc::RLIMIT_MEMLOCK).0
}

/// Lets this thread run on one CPU only.
pub(super) fn bind_to_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: a CPU set of zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if cpu >= size_of::<libc::cpu_set_t>() * 8 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `cpu` is below the number of bits of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is readable and its size is passed.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) })?;
    Ok(())
}

/// The CPUs that this thread may run on, in order.
pub(super) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: a CPU set of zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is writable and its size is passed.
    let got = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if got != 0 {
        return Vec::new();
    }
    let bits = size_of::<libc::cpu_set_t>() * 8;
    // SAFETY: `cpu` is below the number of bits of the set.
    (0..bits).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

fn limit(which: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut value = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `value` is writable for the time of the call.
    let _got = unsafe { libc::getrlimit(which, &raw mut value) };
    (value.rlim_cur, value.rlim_max)
}

fn set_option(socket: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    let at = (&raw const value).cast();
    // SAFETY: `at` points to `length` readable bytes for the time of the call.
    check(unsafe { libc::setsockopt(socket, level, name, at, length) })?;
    Ok(())
}

fn bind(socket: RawFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default(),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            bind_name(socket, &name)
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or_default(),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            bind_name(socket, &name)
        }
    }
}

fn bind_name<T>(socket: RawFd, name: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    let at = std::ptr::from_ref(name).cast();
    // SAFETY: `at` points to a socket address of `length` bytes for the time of the call.
    check(unsafe { libc::bind(socket, at, length) })?;
    Ok(())
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// How often an address in use is looked at again, and how long after the last look.
const CHECKS_FREE: u32 = 60;
const CHECK_FREE_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sockets_share_one_port() {
        let first = listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let address = first.local_addr().unwrap();
        assert_ne!(address.port(), 0);
        let second = listen(address, 16).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
    }

    #[test]
    fn an_ipv6_address_is_bound_as_asked() {
        let socket = listen("[::1]:0".parse().unwrap(), 16).unwrap();
        assert!(socket.local_addr().unwrap().is_ipv6());
    }

    #[test]
    fn the_host_has_limits_and_cpus() {
        let (soft, hard) = raise_nofile();
        assert!(soft >= 256 && soft <= hard);
        assert!(!allowed_cpus().is_empty());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test asks the kernel")]
    fn the_kernel_takes_a_process_out_of_huge_pages() {
        assert!(refuse_huge_pages());
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(status.lines().any(|line| line.split_whitespace().eq(["THP_enabled:", "0"])), "{status}");
    }
}
