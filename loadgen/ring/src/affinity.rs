//! Ties the calling thread to cores.

#![expect(unsafe_code, reason = "sched_setaffinity has no safe wrapper in the standard library")]

use std::io;

/// Lets the calling thread run on `core` only.
///
/// # Errors
/// When this host has no such core or the process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    pin_to_cores(&[core])
}

/// Lets the calling thread, and the processes that it starts from now on, run on these cores only.
///
/// # Errors
/// When `cores` is empty, when this host has none of them, or when the process may not use them.
pub fn pin_to_cores(cores: &[usize]) -> io::Result<()> {
    let bits = libc::c_ulong::BITS as usize;
    let mut mask: [libc::c_ulong; CPU_WORDS] = [0; CPU_WORDS];
    for core in cores {
        let word = mask.get_mut(core / bits).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        *word |= 1 << (core % bits);
    }
    // SAFETY: pid 0 is the calling thread; the mask is a live array of exactly the stated size that the
    // kernel only reads.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Words of a CPU mask: 1,024 cores, as in the C library's `cpu_set_t`.
const CPU_WORDS: usize = 1024 / libc::c_ulong::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_beyond_the_mask_is_refused() {
        assert!(pin_to_core(1 << 20).is_err());
    }

    #[test]
    fn no_core_at_all_is_refused() {
        assert!(pin_to_cores(&[]).is_err());
    }

    #[test]
    fn what_is_started_afterwards_may_use_all_of_the_cores() {
        let allowed = || {
            let status = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap().stdout;
            let status = String::from_utf8(status).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.unwrap().trim().to_owned()
        };
        pin_to_core(0).unwrap();
        assert_eq!(allowed(), "0");
        if std::thread::available_parallelism().unwrap().get() == 1 && pin_to_cores(&[0, 1]).is_ok() {
            let both = allowed();
            assert!(both == "0" || both == "0-1", "{both}");
        }
    }
}
