//! Who gets a publication on this shard: what the topic index found, one entry per session or group.

use dunlin_wire::types::{QoS, SubscriptionOptions};

use crate::topics::{FilterIndex, GroupId, Subscriber, Target};

/// The subscribers of one topic. One per shard, reused from message to message, so that a match allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    found: Vec<Subscriber>,
    /// Whether more than one filter matched, so that a session may stand in `found` more than once.
    overlap: bool,
    /// Who published.
    own: Publisher,
    /// Identifiers of the overlapping subscriptions of the recipient last given.
    ids: Vec<u32>,
    /// Subscriptions that were passed over because the publisher does not want its own messages.
    not_local: u64,
}

/// Who published, as far as No Local is concerned. [MQTT5-3.8.3-3]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Publisher {
    /// Its session, if it has one on this shard.
    pub(crate) session: Option<u32>,
    /// Whether none of its subscriptions wants its own messages (`ignore_loop_deliver` and a 3.x client), rather than
    /// only those with No Local.
    pub(crate) ignore_loop: bool,
}

/// One session that gets the publication, and how.
///
/// [MQTT5-3.3.4-2] [MQTT311-3.3.5-1]: where several of its subscriptions match it gets one copy, at the highest of their QoS;
/// [MQTT5-3.3.4-4]: with all their Subscription Identifiers. RETAIN is kept if one of them asks for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipient<'a> {
    /// Index of the session.
    pub(crate) session: u32,
    /// The QoS granted.
    pub(crate) qos: QoS,
    /// Retain As Published.
    pub(crate) retain_as_published: bool,
    /// Subscription Identifiers.
    pub(crate) ids: &'a [u32],
}

/// What the next entry of the matches is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// A session.
    Session(Recipient<'a>),
    /// A shared group, of which one member gets the publication.
    Group(GroupId),
}

impl Matches {
    /// Looks a topic up. Sorts only if several filters matched. [MQTT5-3.3.2-3] [MQTT311-3.3.2-3]
    pub(crate) fn find(&mut self, index: &FilterIndex, topic: &str, own: Publisher) {
        self.found.clear();
        self.own = own;
        let mut filter_count = 0;
        index.for_each_match(topic, |_, subscribers| {
            filter_count += 1;
            self.found.extend_from_slice(subscribers);
        });
        self.overlap = filter_count > 1;
        if self.overlap {
            // Stable: what is equal keeps the order of the filters, which is repeatable.
            self.found.sort_by_key(|subscriber| sort_key(subscriber.target()));
        }
    }

    /// Whether nobody wants it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many subscriptions were passed over since the last call because of No Local.
    pub(crate) fn take_not_local(&mut self) -> u64 {
        std::mem::take(&mut self.not_local)
    }

    /// The entry at `at`, which moves on; `None` at the end.
    #[inline]
    pub(crate) fn next(&mut self, at: &mut usize) -> Option<Next<'_>> {
        let (session, options, id) = loop {
            let first = *self.found.get(*at)?;
            *at += 1;
            let session = match first.target() {
                Target::Group(group) => return Some(Next::Group(group)),
                Target::Session(session) => session,
            };
            let options = first.options();
            if self.wants(session, options) {
                break (session, options, first.subscription_id());
            }
            self.not_local += 1;
        };
        let (mut qos, mut retain_as_published) = (options.qos, options.retain_as_published);
        self.ids.clear();
        if id != 0 {
            self.ids.push(id);
        }
        while self.overlap
            && let Some(&more) = self.found.get(*at).filter(|more| more.target() == Target::Session(session))
        {
            *at += 1;
            let options = more.options();
            if !self.wants(session, options) {
                self.not_local += 1;
                continue;
            }
            qos = qos.max(options.qos);
            retain_as_published |= options.retain_as_published;
            if more.subscription_id() != 0 {
                self.ids.push(more.subscription_id());
            }
        }
        Some(Next::Session(Recipient { session, qos, retain_as_published, ids: &self.ids }))
    }

    /// Whether a subscription wants the message, given who published it.
    #[inline]
    fn wants(&self, session: u32, options: SubscriptionOptions) -> bool {
        self.own.session != Some(session) || !(options.no_local || self.own.ignore_loop)
    }
}

/// Sessions first, by index, then groups.
fn sort_key(target: Target) -> (bool, u32) {
    match target {
        Target::Session(session) => (false, session),
        Target::Group(group) => (true, group.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(qos: QoS, no_local: bool, retain_as_published: bool) -> SubscriptionOptions {
        SubscriptionOptions { no_local, retain_as_published, ..SubscriptionOptions::with_qos(qos) }
    }

    /// Session, QoS, Retain As Published, identifiers.
    fn recipients(matches: &mut Matches) -> Vec<(u32, QoS, bool, Vec<u32>)> {
        let (mut at, mut all) = (0, Vec::new());
        while let Some(next) = matches.next(&mut at) {
            match next {
                Next::Session(one) => {
                    all.push((one.session, one.qos, one.retain_as_published, one.ids.to_vec()));
                }
                Next::Group(group) => all.push((group.0, QoS::AtMostOnce, false, Vec::new())),
            }
        }
        all
    }

    #[test]
    fn overlapping_subscriptions_become_one_copy_at_the_highest_qos_with_all_identifiers() {
        // [MQTT5-3.3.4-2] [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT311-3.3.5-1]
        let mut index = FilterIndex::new(1);
        index.subscribe("a/+", Subscriber::session(7, options(QoS::AtMostOnce, false, true), 10));
        index.subscribe("a/#", Subscriber::session(7, options(QoS::ExactlyOnce, false, false), 20));
        index.subscribe("a/b", Subscriber::session(7, options(QoS::AtLeastOnce, false, false), 0));
        index.subscribe("a/b", Subscriber::session(3, options(QoS::AtLeastOnce, false, false), 5));
        let mut matches = Matches::default();
        matches.find(&index, "a/b", Publisher::default());
        let mut found = recipients(&mut matches);
        found[1].3.sort_unstable();
        assert_eq!(
            found,
            [(3, QoS::AtLeastOnce, false, vec![5]), (7, QoS::ExactlyOnce, true, vec![10, 20]),]
        );
    }

    #[test]
    fn no_local_takes_only_the_publishers_own_subscriptions_that_ask_for_it() {
        // [MQTT5-3.8.3-3]
        let mut index = FilterIndex::new(1);
        index.subscribe("a/+", Subscriber::session(1, options(QoS::AtLeastOnce, true, false), 0));
        index.subscribe("a/b", Subscriber::session(1, options(QoS::AtMostOnce, false, false), 0));
        index.subscribe("a/b", Subscriber::session(2, options(QoS::AtMostOnce, true, false), 0));
        let mut matches = Matches::default();
        matches.find(&index, "a/b", Publisher { session: Some(1), ignore_loop: false });
        assert_eq!(
            recipients(&mut matches),
            [(1, QoS::AtMostOnce, false, vec![]), (2, QoS::AtMostOnce, false, vec![])]
        );
        assert_eq!(matches.take_not_local(), 1);
        matches.find(&index, "a/b", Publisher { session: Some(1), ignore_loop: true });
        assert_eq!(recipients(&mut matches).len(), 1);
        assert_eq!(matches.take_not_local(), 2);
    }
}
