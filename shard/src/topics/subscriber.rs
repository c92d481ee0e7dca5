//! Who gets the messages of a filter: a session or a shared group, and how.

use dunlin_wire::types::SubscriptionOptions;

use super::dense::Keyed;
use super::shared::GroupId;

/// One subscription as the index keeps it: 12 B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Session index, or group id with [`GROUP_BIT`].
    target: u32,
    subscription_id: u32,
    options: u8,
}

/// What a subscriber is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A session of this shard, by its index in the session table.
    Session(u32),
    /// A shared group; its members are in [`super::shared`].
    Group(GroupId),
}

impl Subscriber {
    /// A session's subscription. `subscription_id` is the Subscription Identifier, 0 for none.
    ///
    /// # Panics
    /// If `session` is 2³¹ or more, which no session table reaches.
    #[must_use]
    pub fn session(session: u32, options: SubscriptionOptions, subscription_id: u32) -> Self {
        assert!(session < GROUP_BIT, "session index below 2^31");
        Self { target: session, subscription_id, options: options.as_u8() }
    }

    /// A shared group on this filter.
    ///
    /// # Panics
    /// If `group` is 2³¹ or more.
    #[must_use]
    pub fn group(group: GroupId) -> Self {
        assert!(group.0 < GROUP_BIT, "group id below 2^31");
        Self { target: group.0 | GROUP_BIT, subscription_id: 0, options: 0 }
    }

    /// The session or group.
    #[inline]
    #[must_use]
    pub const fn target(self) -> Target {
        if self.target & GROUP_BIT == 0 {
            Target::Session(self.target)
        } else {
            Target::Group(GroupId(self.target & !GROUP_BIT))
        }
    }

    /// The Subscription Identifier, 0 for none.
    #[inline]
    #[must_use]
    pub const fn subscription_id(self) -> u32 {
        self.subscription_id
    }

    /// The Subscription Options. A few shifts.
    #[inline]
    #[must_use]
    pub fn options(self) -> SubscriptionOptions {
        SubscriptionOptions::from_u8(self.options).unwrap_or_default()
    }

    pub(crate) const fn from_parts(target: u32, subscription_id: u32, options: u8) -> Self {
        Self { target, subscription_id, options }
    }

    pub(crate) const fn into_parts(self) -> (u32, u32, u8) {
        (self.target, self.subscription_id, self.options)
    }
}

impl Target {
    pub(crate) const fn key(self) -> u32 {
        match self {
            Self::Session(session) => session,
            Self::Group(group) => group.0 | GROUP_BIT,
        }
    }
}

impl Keyed for Subscriber {
    fn key(&self) -> u32 {
        self.target
    }
}

const GROUP_BIT: u32 = 1 << 31;

const _: () = assert!(size_of::<Subscriber>() == 12, "what the doc comment says");
