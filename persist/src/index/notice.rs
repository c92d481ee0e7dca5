//! What the operator should hear of the index, and what the index has noticed of the log.

use std::fmt;

use super::Lack;

/// Something that the program's log should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The index knows more than the log holds: the log has lost what was on the disk. The one notice that is not about the index.
    LogLacks {
        /// What.
        lack: Lack,
    },
    /// It was broken, or contradicted the log, and was moved aside.
    MovedAside {
        /// Where to, relative to the data directory.
        to: String,
        /// What was wrong.
        why: String,
    },
    /// It was built from the log.
    Built {
        /// Sessions in it.
        sessions: u64,
    },
    /// It was behind the log, as after a crash, and has caught up.
    CaughtUp {
        /// Changes of sessions that it took over.
        changes: u64,
    },
    /// There is none.
    Without {
        /// Why.
        why: String,
    },
    /// It follows the log no more.
    Stopped {
        /// Why.
        why: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogLacks { lack } => write!(
                f,
                "the log lacks what was on the disk: {lack}. Has a segment been removed or put back from an older copy? If not, \
                 check the disk"
            ),
            Self::MovedAside { to, why } => write!(
                f,
                "{why}; it was moved to {to} and is built again from the log. Nothing is lost: the index repeats what the log says"
            ),
            Self::Built { sessions } => write!(f, "built from the log: {sessions} sessions"),
            Self::CaughtUp { changes } => {
                write!(f, "was behind the log, as after a crash, and took over {changes} changes of sessions")
            }
            Self::Without { why } => {
                write!(f, "{why}; the broker runs without an index: only `dunlin store` is slower")
            }
            Self::Stopped { why } => write!(
                f,
                "{why}; it follows the log no more, and the next start brings it up to date. Sessions are not concerned"
            ),
        }
    }
}
