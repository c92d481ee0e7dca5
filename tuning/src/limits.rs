//! Bounds of what is read: none of it is trusted to be small.

/// Most CPUs of a host, as a bound on what a list may name. Linux's largest build has 8,192.
pub const CPU_COUNT_MAX: u32 = 8_192;

/// Most bytes of one value of the kernel. A page is what sysfs can give; `/proc/interrupts` of a large host has more.
pub const VALUE_BYTES_MAX: u64 = 4 << 20;

/// Most bytes of a state file. One entry is about 100 bytes, and a host of 512 CPUs with four idle states each has 2,048.
pub const STATE_BYTES_MAX: u64 = 4 << 20;

/// Most bytes of one value that a state file may bring back. The longest are masks of [`CPU_COUNT_MAX`] CPUs.
pub const RESTORED_BYTES_MAX: usize = 4 << 10;

const _: () = assert!(CPU_COUNT_MAX as usize / 32 * 9 <= RESTORED_BYTES_MAX);
