//! After any crash a log says what it said at some moment between what was stored and what was appended: a prefix, never a mixture.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod stand;

use std::collections::BTreeMap;

use dunlin_persist::fault::{Crash, FaultDisk};
use dunlin_persist::record::Session;
use dunlin_persist::{MessageId, Record, SessionNo};
use stand::{Stand, attached, done, published, queue};

/// Who waits for what.
type Holders = BTreeMap<u64, Vec<u64>>;

/// A core of sorts: publishes, acknowledges, cleans; and remembers what held after each record.
struct Core {
    holders: Holders,
    /// What held when so many records had been appended.
    history: Vec<Holders>,
    next_session: u64,
    next_message: u64,
    dice: Dice,
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

impl Core {
    fn act(&mut self, stand: &mut Stand) {
        match self.dice.below(10) {
            0 if self.holders.len() < 5 => {
                let session = self.next_session;
                self.next_session += 1;
                self.holders.insert(session, Vec::new());
                self.say(stand, &attached(session, &format!("client-{session}")));
            }
            1 if self.holders.len() > 2 && self.dice.below(20) == 0 => {
                let (session, _) = self.holders.pop_first().unwrap();
                self.say(stand, &Record::SessionEnded { session: SessionNo(session) });
            }
            2..=5 => {
                let sessions: Vec<_> =
                    self.holders.keys().copied().filter(|_| self.dice.below(3) > 0).collect();
                if sessions.is_empty() {
                    return;
                }
                let id = self.next_message;
                self.next_message += 1;
                for session in &sessions {
                    self.holders.get_mut(session).unwrap().push(id);
                }
                let length = usize::try_from(self.dice.below(3_000)).unwrap();
                self.say(stand, &published(id, &payload(id, length), &sessions));
            }
            _ => {
                let Some((session, ids)) = self.holders.iter_mut().find(|(_, ids)| ids.len() > 3) else {
                    return;
                };
                let (session, id) = (*session, ids.remove(0));
                self.say(stand, &done(session, &[id]));
            }
        }
    }

    fn say(&mut self, stand: &mut Stand, record: &Record) {
        stand.append(record);
        self.history.push(self.holders.clone());
    }

    fn clean(&mut self, stand: &mut Stand) {
        while let Some(record) = stand.store.next_reclaimable() {
            match record {
                Record::Published(mut published) => {
                    let id = published.id.0;
                    published.receivers.retain(|receiver| {
                        self.holders.get(&receiver.session.0).is_some_and(|ids| ids.contains(&id))
                    });
                    if !published.receivers.is_empty() {
                        self.say(stand, &Record::Published(published));
                    }
                }
                Record::Attached(attached) => self.say_session(stand, attached.session),
                Record::Detached { session, .. } => self.say_session(stand, session),
                Record::Session(image) => self.say_session(stand, image.session),
                other => panic!("{other:?} is not offered"),
            }
        }
    }

    fn say_session(&mut self, stand: &mut Stand, session: SessionNo) {
        let Some(ids) = self.holders.get(&session.0) else { return };
        let image = Session {
            session,
            client_id: format!("client-{}", session.0).into(),
            expiry_seconds: u32::MAX,
            queue: ids.iter().map(|id| MessageId(*id)).collect(),
            ..Session::default()
        };
        self.say(stand, &Record::Session(Box::new(image)));
    }

    /// Checks what a boot found, and goes on from there.
    fn resume(&mut self, stand: &mut Stand, stored: u64, crash: Crash) {
        assert_eq!(stand.report.damaged, [], "{crash:?}: a crash is no damage");
        let found: Holders =
            stand.sessions.iter().map(|session| (session.session.0, queue(session))).collect();
        let from = usize::try_from(stored).unwrap();
        let upto = self.history.len() - 1;
        let from = if crash == Crash::Killed { upto } else { from };
        assert!(
            self.history[from..=upto].contains(&found),
            "{crash:?}: found {found:?}, which never held from {from} to {upto}: {:?}",
            &self.history[from..=upto]
        );
        for (session, ids) in &found {
            for (id, bytes) in ids.iter().zip(stand.payloads(*session, ids)) {
                assert_eq!(bytes, payload(*id, bytes.len()));
            }
        }
        self.history = vec![found.clone()];
        self.holders = found;
    }
}

fn payload(id: u64, length: usize) -> Vec<u8> {
    id.to_le_bytes().iter().copied().cycle().take(length).collect()
}

fn run(seed: u64, crashes: u64) -> (u64, u64) {
    let mut stand = Stand::new(FaultDisk::new(seed));
    let mut core = Core {
        holders: Holders::new(),
        history: vec![Holders::new()],
        next_session: 1,
        next_message: 1,
        dice: Dice(seed),
    };
    let mut torn = 0;
    let mut cleaned = 0;
    for _ in 0..crashes {
        for _ in 0..core.dice.below(400) {
            core.act(&mut stand);
            match core.dice.below(8) {
                0 => stand.store.commit(),
                1 => drop(stand.store.disk_step()),
                2 => stand.poll(),
                3 => core.clean(&mut stand),
                4 => stand.settle(),
                _ => {}
            }
        }
        let stored = stand.stored;
        cleaned += stand.store.metrics().cleaned_segments;
        let crash = match core.dice.below(4) {
            0 => Crash::Killed,
            1 => Crash::PowerCut,
            _ => Crash::Torn { seed: core.dice.below(1 << 40) },
        };
        let disk = stand.disk.crash(crash);
        drop(stand);
        stand = Stand::new(disk);
        torn += u64::try_from(stand.report.torn.len()).unwrap();
        core.resume(&mut stand, stored, crash);
    }
    (torn, cleaned)
}

#[test]
fn any_crash_leaves_a_prefix_that_holds_all_that_was_stored() {
    let (mut torn, mut cleaned) = (0, 0);
    for seed in 0..15 {
        let (some_torn, some_cleaned) = run(seed, 10);
        torn += some_torn;
        cleaned += some_cleaned;
    }
    assert!(torn > 5, "the crashes tore: {torn}");
    assert!(cleaned > 50, "the logs were long enough to be cleaned: {cleaned}");
}
