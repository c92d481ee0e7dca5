//! The kind byte of a frame: which record stands in it.

use super::Record;

/// Numbers are for ever; one that is given up is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Session = 1,
    SessionEnded = 2,
    Attached = 3,
    Detached = 4,
    WillGone = 5,
    Subscribed = 6,
    Unsubscribed = 7,
    Published = 8,
    Sent = 9,
    Done = 10,
    Received = 11,
    Completed = 12,
    Arrived = 13,
    Released = 14,
    Retained = 15,
    RetainedCleared = 16,
}

/// All kinds, by their numbers from 1.
const ALL: [Kind; 16] = [
    Kind::Session,
    Kind::SessionEnded,
    Kind::Attached,
    Kind::Detached,
    Kind::WillGone,
    Kind::Subscribed,
    Kind::Unsubscribed,
    Kind::Published,
    Kind::Sent,
    Kind::Done,
    Kind::Received,
    Kind::Completed,
    Kind::Arrived,
    Kind::Released,
    Kind::Retained,
    Kind::RetainedCleared,
];

impl Kind {
    /// The kind of a record.
    pub(crate) const fn of(record: &Record) -> Self {
        match record {
            Record::Session(_) => Self::Session,
            Record::SessionEnded { .. } => Self::SessionEnded,
            Record::Attached(_) => Self::Attached,
            Record::Detached { .. } => Self::Detached,
            Record::WillGone { .. } => Self::WillGone,
            Record::Subscribed { .. } => Self::Subscribed,
            Record::Unsubscribed { .. } => Self::Unsubscribed,
            Record::Published(_) => Self::Published,
            Record::Sent { .. } => Self::Sent,
            Record::Done { .. } => Self::Done,
            Record::Received { .. } => Self::Received,
            Record::Completed { .. } => Self::Completed,
            Record::Arrived { .. } => Self::Arrived,
            Record::Released { .. } => Self::Released,
            Record::Retained(_) => Self::Retained,
            Record::RetainedCleared { .. } => Self::RetainedCleared,
        }
    }

    /// The kind of this number.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// Its number.
    #[expect(clippy::as_conversions, reason = "the enum is repr(u8)")]
    pub(crate) const fn byte(self) -> u8 {
        self as u8
    }

    /// Whether such a record only takes something back. When it is freed, what it took back is older and freed already, or was
    /// not said again.
    pub(crate) const fn is_tombstone(self) -> bool {
        match self {
            Self::SessionEnded
            | Self::WillGone
            | Self::Unsubscribed
            | Self::Done
            | Self::Completed
            | Self::Released
            | Self::RetainedCleared => true,
            Self::Session
            | Self::Attached
            | Self::Detached
            | Self::Subscribed
            | Self::Published
            | Self::Sent
            | Self::Received
            | Self::Arrived
            | Self::Retained => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_kinds_are_each_others() {
        for byte in 1..=16 {
            assert_eq!(Kind::from_byte(byte).map(Kind::byte), Some(byte));
        }
        assert_eq!((Kind::from_byte(0), Kind::from_byte(17)), (None, None));
    }
}
