//! This core's slice of the topic index, what other cores want, shared groups, and retained messages.

mod dense;
mod filter_set;
mod hash;
mod index;
mod interest;
mod levels;
mod records;
mod retained;
mod shapes;
mod shared;
mod subscriber;
mod table;

pub use self::filter_set::FilterSet;
pub use self::hash::HashKey;
pub use self::index::{FilterIndex, IndexStats, Subscribed, Unsubscribed};
pub use self::interest::{InterestTable, ShardSet};
pub use self::levels::{filter_matches, has_wildcard};
pub use self::records::FilterId;
pub use self::retained::{Page, RetainedCursor, RetainedStore};
pub use self::shared::{Group, GroupId, Joined, Left, Member, MemberId, PickContext, SharedGroups};
pub use self::subscriber::{Subscriber, Target};
