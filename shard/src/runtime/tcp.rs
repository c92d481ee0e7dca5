//! The receiving side of TCP connections.
//!
//! Each connection has a reader that is *wanted* and one that is *armed* in its ring; [`Edge::settle_reader`] brings the second
//! to the first, one step at a time, because an armed operation must end before another may take its place: two at once
//! could swap bytes.
//!
//! | reader | for | cost |
//! |---|---|---|
//! | once | the first bytes, if there are several shards | nothing to cancel when they send the connection home |
//! | poll | quiet connections | about 260 B of kernel memory; a receive per wake |
//! | many | new and busy connections | about 860 B of kernel memory; one completion per segment or end |

use super::connection::{Conn, Life, Reader};
use super::contain::{Contained, Core, Handled};
use super::edge::Edge;
use super::ring::Completion;
use super::tag::{Kind, Tag};
use crate::action::Actions;
use crate::event::Event;
use crate::ids::ConnId;
use crate::time::{Mono, NS_PER_MS, Now};

impl Reader {
    /// The operation that this reader is in a ring, if it is one.
    pub(super) fn kind(self) -> Option<Kind> {
        match self {
            Self::Off => None,
            Self::Once => Some(Kind::ReceiveOnce),
            Self::Poll => Some(Kind::Poll),
            Self::Many => Some(Kind::ReceiveMany),
        }
    }
}

impl Edge {
    /// Says how a connection should receive from now on.
    pub(super) fn want(&mut self, conn: ConnId, reader: Reader) {
        if let Some(state) = self.conns.of(conn) {
            state.wanted = reader;
            self.settle_reader(conn);
        }
    }

    /// Stops reading, or goes on.
    pub(super) fn pause(&mut self, conn: ConnId, paused: bool) {
        let Some(state) = self.conns.of(conn) else { return };
        state.paused = paused;
        if state.life == Life::Open {
            self.want(conn, if paused { Reader::Off } else { Reader::Poll });
        }
    }

    /// Does the next step from the armed reader to the wanted one, if there is one to do now.
    pub(super) fn settle_reader(&mut self, conn: ConnId) {
        let (ring, slot) = self.conns.place(conn.slot);
        let Some(state) = self.conns.of(conn) else { return };
        let ring = &mut self.rings[ring];
        if let Some(kind) = state.armed.kind() {
            if state.armed != state.wanted && !state.cancelling {
                state.cancelling = true;
                ring.cancel(Tag::new(kind, slot, conn.generation));
            }
            return;
        }
        if state.receiving_now {
            return;
        }
        if state.life == Life::Leaving {
            self.proceed_leaving(conn);
            return;
        }
        match state.wanted {
            Reader::Off => return,
            Reader::Once => ring.receive_once(slot, conn.generation),
            Reader::Poll => ring.poll_many(slot, conn.generation),
            Reader::Many => ring.receive_many(slot, conn.generation),
        }
        state.armed = state.wanted;
        state.cancelling = false;
    }

    /// A poll says that there is data, or the end.
    pub(super) fn polled(&mut self, completion: &Completion) {
        let conn = self.name_of(completion);
        let epoch = self.epoch;
        let Some(state) = self.conns.of(conn) else {
            self.metrics.completions_stale += 1;
            return;
        };
        if !completion.more() {
            state.armed = Reader::Off;
            state.cancelling = false;
        }
        if completion.result > 0 && state.wanted != Reader::Off {
            if state.receiving_now {
                state.again = true;
            } else {
                state.receiving_now = true;
                self.rings[completion.ring].receive_now(completion.tag.slot, conn.generation);
            }
            if count_wake(state, epoch) >= BUSY_WAKES && state.wanted == Reader::Poll {
                self.metrics.receive_promoted += 1;
                self.watch_busy(conn);
                return;
            }
        }
        self.settle_reader(conn);
    }

    /// Arms a receive that stays, until the connection has been silent for a while.
    pub(super) fn watch_busy(&mut self, conn: ConnId) {
        if let Some(state) = self.conns.of(conn) {
            state.active = true;
            self.busy.push_back(conn);
            self.want(conn, Reader::Many);
        }
    }

    /// Parks busy connections that have been silent since the last look. Once per [`super::EdgeConfig::quiet_ms`], in steps:
    /// thousands may fall silent together.
    pub(super) fn sweep(&mut self) {
        let Some(due) = self.sweep_due() else { return };
        if self.now < due {
            return;
        }
        let left = if self.sweep_left == 0 { self.busy.len() } else { self.sweep_left };
        let step = left.min(SWEEP_COUNT_PER_TICK);
        self.sweep_left = left - step;
        if self.sweep_left == 0 {
            self.swept_at = self.now;
        }
        for _ in 0..step {
            let Some(conn) = self.busy.pop_front() else { break };
            let Some(state) = self.conns.of(conn) else { continue };
            if state.wanted != Reader::Many {
                continue;
            }
            if std::mem::take(&mut state.active) {
                self.busy.push_back(conn);
            } else {
                self.metrics.receive_parked += 1;
                self.want(conn, Reader::Poll);
            }
        }
        if self.sweep_left == 0 {
            self.busy.shrink_to(2 * self.busy.len());
        }
    }

    /// When the next sweep is due; never, when no connection is busy.
    pub(super) fn sweep_due(&self) -> Option<Mono> {
        (!self.busy.is_empty()).then(|| Mono(self.swept_at.0 + self.quiet_ns()))
    }

    /// The connection that a completion is about.
    pub(super) fn name_of(&self, completion: &Completion) -> ConnId {
        let slot = self.conns.index(completion.ring, completion.tag.slot);
        ConnId { slot, generation: completion.tag.generation }
    }

    /// The peer has ended the connection, or the network has. Returns whether the core must be told.
    pub(super) fn ended(&mut self, conn: ConnId) -> bool {
        let Some(state) = self.conns.of(conn) else { return false };
        state.ended = true;
        let known = state.life == Life::Open;
        if known && state.output != 0 {
            // What was said in this tick still has a chance: the peer may only have closed its sending side.
            self.close(conn, true);
        } else {
            self.tear_down(conn);
        }
        known
    }

    /// The length of a period of silence.
    pub(super) fn quiet_ns(&self) -> u64 {
        (self.config.quiet_ms * NS_PER_MS).max(1)
    }
}

/// Gives the core what a receive brought. A panic of the core, or the end of the stream, ends the connection.
pub(super) fn received<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    completion: &Completion,
) {
    let conn = edge.name_of(completion);
    let lent = edge.rings[completion.ring].buffers().lent(completion.flags, completion.result);
    let mut handled = Handled::Whole;
    if let Some(life) = note_receive(edge, conn, completion) {
        if let Some(lent) = &lent {
            let bytes = edge.rings[completion.ring].buffers().bytes(lent);
            edge.metrics.bytes_in += bytes.len() as u64;
            if life == Life::Open && !bytes.is_empty() {
                handled = core.handle(Event::Bytes { conn, bytes }, now, actions);
            } else if let Some(state) = edge.conns.of(conn) {
                keep_aside(state, bytes);
            }
        }
    } else {
        edge.metrics.completions_stale += 1;
    }
    if let Some(lent) = lent {
        edge.rings[completion.ring].buffers().give_back(lent);
    }
    edge.absorb(actions);
    if handled == Handled::Panicked {
        edge.metrics.panics_contained += 1;
        edge.tear_down(conn);
        return;
    }
    if is_end(completion.result) {
        if edge.ended(conn) {
            // A panic changes nothing: the socket is closed, or closes when its last bytes have left.
            let _handled = tell(edge, core, actions, now, Event::Closed { conn });
        }
        return;
    }
    after_receive(edge, conn, completion);
}

/// Tells the core something that is not bytes of a connection, and takes over what it wants.
pub(super) fn tell<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    event: Event<'_>,
) -> Handled {
    let handled = core.handle(event, now, actions);
    if handled == Handled::Panicked {
        edge.metrics.panics_contained += 1;
    }
    edge.absorb(actions);
    handled
}

/// Notes what a receive's completion says about the reader; `None` for another use of the slot.
fn note_receive(edge: &mut Edge, conn: ConnId, completion: &Completion) -> Option<Life> {
    let state = edge.conns.of(conn)?;
    let kind = completion.tag.kind;
    if kind == Kind::ReceiveNow {
        state.receiving_now = false;
    } else if Some(kind) == state.armed.kind() && !completion.more() {
        state.armed = Reader::Off;
        state.cancelling = false;
    }
    state.active = true;
    Some(state.life)
}

/// Decides what receives next.
fn after_receive(edge: &mut Edge, conn: ConnId, completion: &Completion) {
    let buffer_bytes = edge.rings[completion.ring].buffers().bytes_each();
    let full = u32::try_from(completion.result).is_ok_and(|bytes| bytes >= buffer_bytes);
    let exhausted = completion.result == -libc::ENOBUFS;
    edge.metrics.buffers_exhausted += u64::from(exhausted);
    let epoch = edge.epoch;
    let Some(state) = edge.conns.of(conn) else { return };
    let kind = completion.tag.kind;
    if kind == Kind::ReceiveNow {
        let again = std::mem::take(&mut state.again) || full || exhausted || completion.nonempty();
        if again && state.wanted != Reader::Off {
            state.receiving_now = true;
            edge.rings[completion.ring].receive_now(completion.tag.slot, conn.generation);
        }
    } else if kind == Kind::ReceiveOnce && completion.result > 0 && state.wanted == Reader::Once {
        edge.watch_busy(conn);
        return;
    } else if kind == Kind::ReceiveMany {
        if count_wake(state, epoch) == DELAY_ACKS_WAKES && may_delay_acks(state) {
            edge.metrics.acks_delayed += 1;
            edge.rings[completion.ring].delay_acks(completion.tag.slot, conn.generation);
        }
        edge.metrics.receive_rearmed += u64::from(!completion.more() && state.wanted == Reader::Many);
    }
    edge.settle_reader(conn);
}

/// Keeps bytes of a connection that the core does not know yet, or no longer knows because it is on its way home. Such bytes
/// are few: what came before the name is known, which the kernel tells while it takes the question, and what the peer sent
/// during one hop.
fn keep_aside(state: &mut Conn, bytes: &[u8]) {
    match state.life {
        Life::Unknown => state.rare().backlog.extend_from_slice(bytes),
        Life::Leaving => {
            // Nothing is received any more when the news has left: see `Edge::proceed_leaving`.
            if let Some(arrival) = state.rare().leaving.as_mut().and_then(|leaving| leaving.arrival.as_mut())
            {
                arrival.unread.extend_from_slice(bytes);
            }
        }
        Life::Free | Life::Open | Life::Closing => {}
    }
}

/// Whether a receive's result is the end of the stream or a lost connection.
fn is_end(result: i32) -> bool {
    match -result {
        libc::EAGAIN | libc::ECANCELED | libc::EINTR | libc::ENOBUFS => false,
        error => error >= 0,
    }
}

/// Counts that data came, and tells how often it did in this period.
fn count_wake(state: &mut Conn, epoch: u8) -> u8 {
    if state.epoch != epoch {
        state.epoch = epoch;
        state.wakes = 0;
    }
    state.wakes = state.wakes.saturating_add(1);
    state.wakes
}

/// Whether to let TCP acknowledge every second segment of a busy connection, and notes that it was done.
///
/// A client that sends often and gets no answers (QoS 0) otherwise costs one bare TCP acknowledgement per message, which is half
/// of what a message costs a shard in a fan-in. The kernel goes back to acknowledging each segment whenever a delayed one has
/// waited for its 40 ms. That is as it should be for clients that send less often, and for those with Nagle's algorithm, which
/// send nothing while they wait; so that both lose next to nothing, each time makes the next half as likely.
fn may_delay_acks(state: &mut Conn) -> bool {
    let rarely = (1_u8 << state.ack_delays.min(7)) - 1;
    let may = state.epoch & rarely == 0;
    state.ack_delays = state.ack_delays.saturating_add(u8::from(may));
    may
}

/// A quiet connection that wakes so often within [`super::EdgeConfig::quiet_ms`] is busy.
const BUSY_WAKES: u8 = 3;

/// A connection whose data comes so often within [`super::EdgeConfig::quiet_ms`] may send faster than TCP's delayed
/// acknowledgements wait (40 ms), so that they save some.
const DELAY_ACKS_WAKES: u8 = 32;

/// Busy connections looked at for silence in one tick: about a tenth of a millisecond if all of them are parked.
const SWEEP_COUNT_PER_TICK: usize = 128;
