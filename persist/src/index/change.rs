//! What the index hears of a log: which of its records change where a session stands.

use super::Place;
use crate::record::{Record, SessionNo};

/// What a record changes in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session's whole state stands here.
    Image {
        /// Whose.
        client_id: Box<str>,
        /// Its number.
        session: SessionNo,
        /// Where.
        at: Place,
    },
    /// A session was begun here, unless it is known already.
    Begun {
        /// Whose.
        client_id: Box<str>,
        /// Its number.
        session: SessionNo,
        /// Where.
        at: Place,
    },
    /// A session ended.
    Ended {
        /// Its number.
        session: SessionNo,
    },
}

impl Change {
    /// What a record that stands at `at` changes; most records change nothing, which costs a comparison.
    #[must_use]
    pub fn of(record: &Record, at: Place) -> Option<Self> {
        match record {
            Record::Session(image) => {
                Some(Self::Image { client_id: image.client_id.clone(), session: image.session, at })
            }
            Record::Attached(attached) => {
                Some(Self::Begun { client_id: attached.client_id.clone(), session: attached.session, at })
            }
            Record::SessionEnded { session } => Some(Self::Ended { session: *session }),
            Record::Detached { .. }
            | Record::WillGone { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::Published(_)
            | Record::Sent { .. }
            | Record::Done { .. }
            | Record::Received { .. }
            | Record::Completed { .. }
            | Record::Arrived { .. }
            | Record::Released { .. }
            | Record::Retained(_)
            | Record::RetainedCleared { .. } => None,
        }
    }
}

/// What one shard's log says that the index does not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Whose log.
    pub shard: u16,
    /// The frame up to which the changes are complete.
    pub up_to: u64,
    /// In the order of the log.
    pub changes: Vec<Change>,
}
