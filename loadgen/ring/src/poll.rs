//! Sleeps until one of several rings has something.

#![expect(unsafe_code, reason = "ppoll has no safe wrapper in the standard library")]

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::Ring;

/// Waits until one of `rings` has completions or `timeout` has passed; `None` waits for ever.
///
/// Everything that the rings have queued must have been submitted before. With a single ring,
/// [`Ring::wait`] is the cheaper way. Costs one system call and O(rings).
///
/// # Errors
/// Whatever ppoll reports, except an interruption, which counts as a wake.
pub fn wait_any(rings: &[Ring], timeout: Option<Duration>) -> io::Result<()> {
    let mut watched: Vec<libc::pollfd> = rings
        .iter()
        .map(|ring| libc::pollfd { fd: ring.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    let deadline = timeout.map(timespec);
    let deadline_pointer = deadline.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let count = watched.len() as libc::nfds_t;
    // SAFETY: the array and the deadline outlive the call and the count is the array's length; a null
    // signal mask leaves the mask alone.
    let result = unsafe { libc::ppoll(watched.as_mut_ptr(), count, deadline_pointer, std::ptr::null()) };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos().cast_signed()),
    }
}
