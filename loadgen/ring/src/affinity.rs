//! Ties the calling thread to one core.

#![expect(unsafe_code, reason = "sched_setaffinity has no safe wrapper in the standard library")]

use std::io;

/// Lets the calling thread run on `core` only.
///
/// # Errors
/// When this host has no such core or the process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    let bits = libc::c_ulong::BITS as usize;
    let mut mask: [libc::c_ulong; CPU_WORDS] = [0; CPU_WORDS];
    let word = mask.get_mut(core / bits).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    *word = 1 << (core % bits);
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
}
