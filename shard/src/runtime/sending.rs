//! The sending side of TCP connections.
//!
//! At the end of a tick each connection with output gets one send that does not wait, straight from the arena of the tick. All
//! sends of a tick go to the kernel together, and only those that failed or were cut short come back: a socket that takes
//! everything costs no completion. What a socket did not take is copied to the connection and sent when there is room; until
//! then, later output queues behind it. The core hears of every byte that a socket took, and stops before too many wait.

use super::connection::Life;
use super::contain::{Contained, Core, Handled};
use super::edge::Edge;
use super::output::{Output, Outputs};
use super::ring::{Completion, send_all};
use super::tag::Kind;
use super::tcp::tell;
use crate::action::Actions;
use crate::event::Event;
use crate::ids::ConnId;
use crate::time::Now;

/// Lets the output of the tick leave, gathers what has completed meanwhile, and tells the core what the sockets took. Clears
/// the arena of the tick; what the core then wants belongs to the next.
pub(super) fn flush<C: Core>(edge: &mut Edge, core: &mut Contained<C>, actions: &mut Actions, now: Now) {
    if edge.outputs.is_empty() {
        for ring in &mut edge.rings {
            ring.submit();
        }
        edge.gather();
        actions.clear();
        return;
    }
    let mut outputs = send_outputs(edge, &actions.arena);
    actions.clear();
    // First all, then each: what the core says about one connection may add output to another.
    for output in outputs.list() {
        if let Some(state) = edge.conns.of(output.conn) {
            state.output = 0;
        }
    }
    for output in outputs.list() {
        report(edge, core, actions, now, output);
    }
    outputs.clear();
    edge.outputs_spare = outputs;
}

/// A waiting send has come to an end: with some bytes gone, or failed.
pub(super) fn sent_later<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    completion: &Completion,
) {
    let bytes = edge.rings[completion.ring].take_waiting(completion);
    let conn = edge.name_of(completion);
    let Some(state) = edge.conns.of(conn) else { return };
    let passing = matches!(-completion.result, libc::EAGAIN | libc::EINTR);
    let (Some(bytes), true) = (bytes, completion.result > 0 || passing) else {
        edge.metrics.sends_failed += 1;
        fail(edge, core, actions, now, conn);
        return;
    };
    let sent = u32::try_from(completion.result).unwrap_or(0);
    edge.metrics.bytes_out += u64::from(sent);
    let rare = state.rare();
    rare.sent += sent as usize;
    let next = if rare.sent < bytes.len() {
        Some((bytes, rare.sent))
    } else {
        rare.sent = 0;
        let backlog = std::mem::take(&mut rare.backlog);
        (!backlog.is_empty()).then_some((backlog, 0))
    };
    match next {
        Some((bytes, skip)) => {
            edge.rings[completion.ring].send_later(completion.tag.slot, conn.generation, bytes, skip);
        }
        None if rare.leaving.is_some() => rare.sending = false,
        None => state.rare = None,
    }
    took(edge, core, actions, now, conn, sent);
}

/// Sends everything. When this returns, the kernel has taken from the arena all that it will, and what it did not take has
/// been copied.
fn send_outputs(edge: &mut Edge, arena: &[u8]) -> Outputs {
    let spare = std::mem::take(&mut edge.outputs_spare);
    let mut outputs = std::mem::replace(&mut edge.outputs, spare);
    let (copied, vectored) = outputs.settle(arena);
    edge.metrics.bytes_joined += copied;
    edge.metrics.sends_vectored += vectored;
    let slices = outputs.slices(arena);
    let conns = &edge.conns;
    let mut count = 0;
    let sends = outputs.outgoing(arena, &slices).map(|mut send| {
        let (ring, slot) = conns.place(send.slot);
        send.slot = slot;
        count += 1;
        (ring, send)
    });
    let from = edge.ready.len();
    send_all(&mut edge.rings, sends);
    edge.metrics.sends += count;
    drop(slices);
    edge.gather();
    // Failures that found the completion queue full must be seen before the arena goes.
    for ring in &mut edge.rings {
        while ring.is_overflown() && ring.failure().is_none() {
            ring.submit();
            if ring.take(&mut edge.ready) == 0 {
                break;
            }
        }
    }
    note_failures(edge, &outputs, arena, from);
    outputs
}

/// Takes the completions of sends out of those that came since `from`.
fn note_failures(edge: &mut Edge, outputs: &Outputs, arena: &[u8], from: usize) {
    let mut kept = from;
    for index in from..edge.ready.len() {
        let completion = edge.ready[index];
        if completion.tag.kind == Kind::Send {
            note_failure(edge, outputs, arena, &completion);
        } else {
            edge.ready[kept] = completion;
            kept += 1;
        }
    }
    edge.ready.truncate(kept);
}

/// What a socket did not take goes to its connection and waits there for room.
fn note_failure(edge: &mut Edge, outputs: &Outputs, arena: &[u8], completion: &Completion) {
    let conn = edge.name_of(completion);
    let Some(state) = edge.conns.of(conn) else { return };
    let Some(index) = state.output.checked_sub(1) else { return };
    let sent = match completion.result {
        sent if sent >= 0 => sent.unsigned_abs(),
        error if -error == libc::EAGAIN => 0,
        _ => {
            edge.metrics.sends_failed += 1;
            state.rare().failed = true;
            return;
        }
    };
    edge.metrics.sends_short += 1;
    let mut rest = Vec::new();
    outputs.rest(index as usize, sent as usize, arena, &mut rest);
    let rare = state.rare();
    rare.unsent = u32::try_from(rest.len()).unwrap_or(u32::MAX);
    rare.sending = true;
    edge.rings[completion.ring].send_later(completion.tag.slot, conn.generation, rest, 0);
}

/// Tells the core what became of one connection's output.
fn report<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    output: &Output,
) {
    let Some(state) = edge.conns.of(output.conn) else { return };
    let (failed, unsent) = match &mut state.rare {
        Some(rare) => (rare.failed, std::mem::take(&mut rare.unsent)),
        None => (false, 0),
    };
    if failed {
        fail(edge, core, actions, now, output.conn);
        return;
    }
    let sent = output.bytes.saturating_sub(unsent);
    edge.metrics.bytes_out += u64::from(sent);
    took(edge, core, actions, now, output.conn, sent);
}

/// A socket took bytes of a connection, which may be what it waited for.
fn took<C: Core>(
    edge: &mut Edge,
    core: &mut Contained<C>,
    actions: &mut Actions,
    now: Now,
    conn: ConnId,
    bytes: u32,
) {
    let Some(state) = edge.conns.of(conn) else { return };
    match state.life {
        Life::Open if bytes > 0 => {
            if tell(edge, core, actions, now, Event::Sent { conn, bytes }) == Handled::Panicked {
                edge.tear_down(conn);
            }
        }
        Life::Closing if !state.is_backlogged() => edge.end_politely(conn),
        Life::Leaving => edge.settle_reader(conn),
        Life::Free | Life::Unknown | Life::Open | Life::Closing => {}
    }
}

/// A send failed: the connection is over.
fn fail<C: Core>(edge: &mut Edge, core: &mut Contained<C>, actions: &mut Actions, now: Now, conn: ConnId) {
    let known = edge.conns.of(conn).is_some_and(|state| state.life == Life::Open);
    edge.tear_down(conn);
    if known {
        let _handled = tell(edge, core, actions, now, Event::Closed { conn });
    }
}
