//! Who sends to whom, on which topics, and which stream of the ledger a message belongs to.
//!
//! Receivers are connections `0..receivers`, senders follow. A *flow* is a sender, a *target* is the receiver
//! that a message is meant for (where it matters).

use std::fmt::Write as _;

use crate::engine::ConnId;

/// The pattern of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Sender i to receiver i, each pair on its own topic.
    Pairs,
    /// All senders to one receiver that subscribes to `fi/#`.
    FanIn,
    /// One sender to all receivers, on one topic.
    FanOut,
    /// All senders to a group of receivers that share `sh/#`: each message reaches one of them, whichever.
    Shared,
    /// Each receiver holds this many wildcard filters; each message matches exactly one filter of one receiver.
    Wild {
        /// Filters per receiver.
        filters: u32,
    },
    /// Each receiver subscribes to its own topic; messages go to receivers at random.
    Own,
}

/// A pattern with its sizes.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    pub(crate) shape: Shape,
    pub(crate) senders: u32,
    pub(crate) receivers: u32,
}

impl Topology {
    /// All connections.
    pub(crate) const fn connections(&self) -> u32 {
        self.senders + self.receivers
    }

    /// The sender that this connection is, if it is one.
    pub(crate) const fn flow_of(&self, conn: ConnId) -> Option<u32> {
        conn.0.checked_sub(self.receivers)
    }

    /// The connection of a sender.
    pub(crate) const fn sender(&self, flow: u32) -> ConnId {
        ConnId(self.receivers + flow)
    }

    /// Whether a message is meant for a receiver that chance picks.
    pub(crate) const fn picks_target(&self) -> bool {
        matches!(self.shape, Shape::Wild { .. } | Shape::Own)
    }

    /// Receivers that each message reaches.
    pub(crate) const fn copies(&self) -> u32 {
        match self.shape {
            Shape::FanOut => self.receivers,
            Shape::Pairs | Shape::FanIn | Shape::Shared | Shape::Wild { .. } | Shape::Own => 1,
        }
    }

    /// Whether a message's stream has an order that a receiver may count on. What goes to different members of a
    /// group may overtake each other.
    pub(crate) const fn is_ordered(&self) -> bool {
        !matches!(self.shape, Shape::Shared)
    }

    /// The filters of a receiver.
    pub(crate) fn filters(&self, receiver: u32) -> Vec<String> {
        match self.shape {
            Shape::Pairs => vec![format!("p2p/{receiver}")],
            Shape::FanIn => vec!["fi/#".to_owned()],
            Shape::FanOut => vec!["fo/all".to_owned()],
            Shape::Shared => vec!["$share/g/sh/#".to_owned()],
            Shape::Own => vec![format!("device/{receiver}/down")],
            Shape::Wild { filters } => (0..filters)
                .map(|index| receiver * filters + index)
                .map(|number| match number % 3 {
                    0 => format!("site/{number}/+/temp"),
                    1 => format!("+/dev/{number}/#"),
                    _ => format!("fleet/+/{number}/state"),
                })
                .collect(),
        }
    }

    /// Writes the topic of a message into `topic`. `dice` decides where there is a choice.
    pub(crate) fn write_topic(&self, flow: u32, target: u32, dice: u32, topic: &mut String) {
        topic.clear();
        let written = match self.shape {
            Shape::Pairs => write!(topic, "p2p/{flow}"),
            Shape::FanIn => write!(topic, "fi/{flow}"),
            Shape::FanOut => write!(topic, "fo/all"),
            Shape::Shared => write!(topic, "sh/{flow}"),
            Shape::Own => write!(topic, "device/{target}/down"),
            Shape::Wild { filters } => {
                let number = target * filters + dice % filters;
                match number % 3 {
                    0 => write!(topic, "site/{number}/r{}/temp", dice % 97),
                    1 => write!(topic, "zone/dev/{number}/m{}", dice % 97),
                    _ => write!(topic, "fleet/v{}/{number}/state", dice % 97),
                }
            }
        };
        written.expect("writing to a String can't fail");
    }

    /// Streams that senders count their sequences in.
    pub(crate) const fn send_streams(&self) -> usize {
        let senders = self.senders as usize;
        if self.picks_target() { senders * self.receivers as usize } else { senders }
    }

    /// The stream that a message is numbered in.
    pub(crate) const fn send_stream(&self, flow: u32, target: u32) -> usize {
        if self.picks_target() {
            flow as usize * self.receivers as usize + target as usize
        } else {
            flow as usize
        }
    }

    /// Streams that receivers check.
    pub(crate) const fn receive_streams(&self) -> usize {
        match self.shape {
            Shape::FanOut => self.senders as usize * self.receivers as usize,
            Shape::Pairs | Shape::FanIn | Shape::Shared | Shape::Wild { .. } | Shape::Own => {
                self.send_streams()
            }
        }
    }

    /// The stream in which `receiver` should see a message of this flow and target; `None` if it should not
    /// see it at all.
    pub(crate) fn receive_stream(&self, flow: u32, target: u32, receiver: u32) -> Option<usize> {
        let known = flow < self.senders && receiver < self.receivers;
        let meant = match self.shape {
            Shape::Pairs => flow == receiver,
            Shape::FanIn | Shape::FanOut | Shape::Shared => true,
            Shape::Wild { .. } | Shape::Own => target == receiver,
        };
        let stream = match self.shape {
            Shape::FanOut => flow as usize * self.receivers as usize + receiver as usize,
            Shape::Pairs | Shape::FanIn | Shape::Shared | Shape::Wild { .. } | Shape::Own => {
                self.send_stream(flow, target)
            }
        };
        (known && meant).then_some(stream)
    }

    /// The send stream that feeds a receive stream.
    pub(crate) const fn source_of(&self, receive_stream: usize) -> usize {
        match self.shape {
            Shape::FanOut => receive_stream / self.receivers as usize,
            Shape::Pairs | Shape::FanIn | Shape::Shared | Shape::Wild { .. } | Shape::Own => receive_stream,
        }
    }

    /// The floor tool's channel of a connection: pairs have one each, the rest share one.
    pub(crate) fn channel(&self, conn: ConnId) -> u32 {
        match self.shape {
            Shape::Pairs => self.flow_of(conn).unwrap_or(conn.0),
            Shape::FanIn | Shape::FanOut | Shape::Shared | Shape::Wild { .. } | Shape::Own => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slow and obvious matcher, to check that a topic meets exactly one filter of the scenario.
    fn matches(filter: &str, topic: &str) -> bool {
        let mut levels = topic.split('/');
        for wanted in filter.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                (_, None) => return false,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    #[test]
    fn a_wildcard_topic_matches_exactly_its_own_receiver_once() {
        let topology = Topology { shape: Shape::Wild { filters: 7 }, senders: 2, receivers: 5 };
        let mut topic = String::new();
        for target in 0..5 {
            for dice in 0..200 {
                topology.write_topic(0, target, dice, &mut topic);
                let hits: Vec<u32> = (0..5)
                    .flat_map(|receiver| topology.filters(receiver).into_iter().map(move |f| (receiver, f)))
                    .filter(|(_, filter)| matches(filter, &topic))
                    .map(|(receiver, _)| receiver)
                    .collect();
                assert_eq!(hits, [target], "{topic}");
            }
        }
    }

    #[test]
    fn every_shape_reaches_as_many_receivers_as_it_says() {
        for shape in [Shape::Pairs, Shape::FanIn, Shape::FanOut, Shape::Own] {
            let receivers = if shape == Shape::FanIn { 1 } else { 4 };
            let senders = if shape == Shape::FanOut { 1 } else { 4 };
            let topology = Topology { shape, senders, receivers };
            let mut topic = String::new();
            for flow in 0..senders {
                let target = flow % receivers;
                topology.write_topic(flow, target, 9, &mut topic);
                let reached: Vec<u32> = (0..receivers)
                    .filter(|receiver| {
                        topology.filters(*receiver).iter().any(|filter| matches(filter, &topic))
                    })
                    .collect();
                assert_eq!(reached.len(), topology.copies() as usize);
                for receiver in 0..receivers {
                    let stream = topology.receive_stream(flow, target, receiver);
                    assert_eq!(stream.is_some(), reached.contains(&receiver), "{shape:?}");
                    if let Some(stream) = stream {
                        assert!(stream < topology.receive_streams());
                        assert_eq!(topology.source_of(stream), topology.send_stream(flow, target));
                    }
                }
            }
        }
    }

    #[test]
    fn a_shared_message_counts_once_whoever_gets_it() {
        let topology = Topology { shape: Shape::Shared, senders: 3, receivers: 4 };
        assert_eq!((topology.copies(), topology.receive_streams(), topology.is_ordered()), (1, 3, false));
        for receiver in 0..4 {
            assert_eq!(topology.receive_stream(2, 0, receiver), Some(2));
            assert_eq!(topology.filters(receiver), ["$share/g/sh/#"]);
        }
        assert_eq!(topology.receive_stream(2, 0, 4), None);
        let mut topic = String::new();
        topology.write_topic(2, 0, 0, &mut topic);
        assert_eq!(topic, "sh/2");
    }

    #[test]
    fn an_unknown_sender_belongs_to_nobody() {
        let topology = Topology { shape: Shape::FanIn, senders: 2, receivers: 1 };
        assert_eq!(topology.receive_stream(2, 0, 0), None);
    }
}
