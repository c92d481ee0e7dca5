//! A core that says plausible things: any record that a broker could say in its state, by chance.

use dunlin_persist::record::{Attached, Message, Published, Receiver, Session, Subscription, Will};
use dunlin_persist::{MessageId, Record, Recovered, SessionNo};

use super::model::{Model, message_of, qos_of};

/// Chance from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

/// The part of a session number that counts; above it stands the shard that gave it.
const COUNT: u64 = (1 << 48) - 1;
/// Sessions of one shard at the same time.
const SESSIONS_MAX: usize = 12;
/// Messages that one session waits for.
const WAITING_MAX: usize = 24;

pub struct Core {
    pub dice: Dice,
    pub model: Model,
    next_session: SessionNo,
    next_message: MessageId,
    shard: u64,
    shard_count: u64,
}

impl Core {
    pub fn new(seed: u64, start: &Model, recovered: &Recovered, shard: u64, shard_count: u64) -> Self {
        for session in start.sessions.keys() {
            let count = |session: SessionNo| session.0 & COUNT;
            assert!(count(*session) < count(recovered.next_session), "{session:?} is never given again");
        }
        for (_, wanted) in start.wanted() {
            assert!(
                wanted.iter().all(|id| *id < recovered.next_message),
                "a message's name is never given again"
            );
        }
        Self {
            dice: Dice::new(seed),
            model: start.clone(),
            next_session: recovered.next_session,
            next_message: recovered.next_message,
            shard,
            shard_count,
        }
    }

    /// Something that a broker could say now.
    pub fn say(&mut self) -> Record {
        if self.model.sessions.len() < 3 {
            return self.begin();
        }
        match self.dice.below(20) {
            0 => self.begin_or_end(),
            1 => self.retain(),
            2..=9 => self.publish(),
            _ => self.about_a_session(),
        }
    }

    /// A session, or a message that one more session waits for: only what takes room.
    pub fn say_only_more(&mut self) -> Record {
        let Some(session) = self.model.sessions.keys().next().copied() else { return self.begin() };
        let id = self.next_message;
        self.next_message.0 += 1;
        let receiver = Receiver { session, packet_id: 0, qos: qos_of(session, id), retain: false };
        Record::Published(Box::new(Published {
            id,
            message: message_of(id),
            receivers: vec![receiver],
            subscription_ids: Vec::new(),
            groups: Vec::new(),
            arrived: None,
        }))
    }

    fn begin(&mut self) -> Record {
        let session = self.next_session;
        self.next_session.0 += 1;
        // A name that nobody had, whose home is this shard.
        let count = session.0 & COUNT;
        let client_id = format!("c{}", count * self.shard_count + self.shard);
        self.attach(session, client_id.into())
    }

    fn attach(&mut self, session: SessionNo, client_id: Box<str>) -> Record {
        let will = (self.dice.below(3) == 0).then(|| Will {
            message: Message { topic: "will".into(), payload: Box::from(&b"gone"[..]), ..Message::default() },
            delay_seconds: 5,
            peer: "192.0.2.1:1234".into(),
        });
        let user_name = (self.dice.below(2) == 0).then(|| "user".into());
        Record::Attached(Box::new(Attached { session, client_id, user_name, expiry_seconds: u32::MAX, will }))
    }

    fn begin_or_end(&mut self) -> Record {
        if self.model.sessions.len() < SESSIONS_MAX {
            return self.begin();
        }
        let session = self.some_session().session;
        Record::SessionEnded { session }
    }

    fn retain(&mut self) -> Record {
        let number = self.dice.below(8) as u64 * self.shard_count + self.shard;
        let topic: Box<str> = format!("r{number}").into();
        if self.dice.below(3) == 0 && self.model.retained.contains_key(&topic) {
            return Record::RetainedCleared { topic };
        }
        let payload = vec![b'r'; self.dice.below(200)].into();
        let received_at_ms = self.dice.next() % 1_000;
        Record::Retained(Box::new(Message {
            topic,
            payload,
            received_at_ms,
            qos: 1,
            retain: true,
            ..Message::default()
        }))
    }

    fn publish(&mut self) -> Record {
        let id = self.next_message;
        self.next_message.0 += 1;
        let mut receivers = Vec::new();
        let arrived = self.some_session();
        for (number, session) in &self.model.sessions {
            if session.queue.len() + session.outgoing.len() >= WAITING_MAX || self.dice.below(2) == 0 {
                continue;
            }
            let connected = session.detached_at_ms.is_none() && session.queue.is_empty();
            let packet_id = if connected { free_packet_id(session) } else { 0 };
            receivers.push(Receiver { session: *number, packet_id, qos: qos_of(*number, id), retain: false });
        }
        let packet_id = u16::try_from(1 + self.dice.below(50)).unwrap();
        let arrives = self.dice.below(3) == 0 && !arrived.incoming.contains(&packet_id);
        let arrived = arrives.then_some((arrived.session, packet_id));
        if receivers.is_empty() {
            let Some((session, packet_id)) = arrived else { return self.about_a_session() };
            return Record::Arrived { session, packet_id };
        }
        let subscription_ids =
            (0..u32::try_from(receivers.len()).unwrap()).step_by(2).map(|n| (n, 7)).collect();
        let groups = vec![(0, "$share/g/t/#".into())];
        let message = message_of(id);
        Record::Published(Box::new(Published { id, message, receivers, subscription_ids, groups, arrived }))
    }

    fn some_session(&mut self) -> Session {
        let at = self.dice.below(self.model.sessions.len());
        self.model.sessions.values().nth(at).cloned().expect("there are some")
    }

    fn about_a_session(&mut self) -> Record {
        for _ in 0..20 {
            let session = self.some_session();
            let what = self.dice.below(10);
            if let Some(record) = self.about(&session, what) {
                return record;
            }
        }
        self.begin()
    }

    fn about(&mut self, one: &Session, what: usize) -> Option<Record> {
        let session = one.session;
        let sent = (!one.outgoing.is_empty()).then(|| one.outgoing[self.dice.below(one.outgoing.len())]);
        match what {
            0 => one.detached_at_ms.is_some().then(|| self.attach(session, one.client_id.clone())),
            1 => one.detached_at_ms.is_none().then(|| Record::Detached {
                session,
                at_ms: 900,
                expiry_seconds: u32::MAX,
                keeps_will: self.dice.below(2) == 0,
            }),
            2 => one.will.is_some().then_some(Record::WillGone { session }),
            3 => {
                let filter: Box<str> = format!("t/{}/#", self.dice.below(5)).into();
                let options = u8::try_from(self.dice.below(3)).unwrap();
                let subscription = Subscription { filter, options, identifier: 9 };
                Some(Record::Subscribed { session, subscription })
            }
            4 => one
                .subscriptions
                .first()
                .map(|known| Record::Unsubscribed { session, filter: known.filter.clone() }),
            5 => {
                let mut after = one.clone();
                let mut messages = Vec::new();
                for id in one.queue.iter().take(3) {
                    let packet_id = free_packet_id(&after);
                    after.outgoing.push(dunlin_persist::record::Outgoing { packet_id, message: Some(*id) });
                    messages.push((*id, packet_id));
                }
                (!messages.is_empty()).then_some(Record::Sent { session, messages })
            }
            6 => match sent {
                Some(sent) => sent.message.map(|message| Record::Done { session, messages: vec![message] }),
                None => one.queue.first().map(|message| Record::Done { session, messages: vec![*message] }),
            },
            7 => sent.and_then(|sent| {
                sent.message.map(|message| Record::Received { session, message, packet_id: sent.packet_id })
            }),
            8 => sent
                .filter(|sent| sent.message.is_none())
                .map(|sent| Record::Completed { session, packet_id: sent.packet_id }),
            _ => one.incoming.first().map(|packet_id| Record::Released { session, packet_id: *packet_id }),
        }
    }
}

fn free_packet_id(session: &Session) -> u16 {
    let used = |packet_id: &u16| session.outgoing.iter().any(|sent| sent.packet_id == *packet_id);
    (1..=u16::MAX).find(|packet_id| !used(packet_id)).expect("a free identifier")
}
