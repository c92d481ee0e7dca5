//! What a scenario file may ask for at most.

/// Bytes of a scenario file: a person writes it.
pub(crate) const SCENARIO_BYTES_MAX: u64 = 1 << 20;
/// Bytes of each file that a scenario names. Data files are kept whole in memory, by every process of a run.
pub(crate) const FILE_BYTES_MAX: u64 = 256 << 20;
/// Groups of a plan.
pub(crate) const GROUP_COUNT_MAX: usize = 256;
/// Stages of a plan.
pub(crate) const STAGE_COUNT_MAX: usize = 1_024;
/// Clients of all groups together: beyond what the addresses of 127/8 can open towards one port by far.
pub(crate) const CLIENT_COUNT_MAX: u64 = 100_000_000;
/// Subscriptions of one form that a client may repeat.
pub(crate) const REPEAT_MAX: u32 = 1_000_000;
/// Bytes of a payload: more than any broker takes by default.
pub(crate) const PAYLOAD_BYTES_MAX: u32 = 16 << 20;
/// Devices behind one Sparkplug node.
pub(crate) const DEVICES_MAX: u16 = 1_000;
/// Metrics of a Sparkplug node or device.
pub(crate) const METRICS_MAX: u16 = 1_000;
