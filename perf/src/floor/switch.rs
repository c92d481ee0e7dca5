//! Forwards bytes from senders to the receivers of their channel.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use dunlin_ring::{Bytes, Completion, Errno, Ring, RingConfig, SlotId};

use super::greeting::{ANSWER, GREETING_BYTES, Greeting};

/// Serves until the process is ended.
///
/// # Errors
/// When the address is taken or the kernel refuses the ring.
pub(crate) fn serve(address: SocketAddr, sockets: u32) -> io::Result<()> {
    let mut ring = Ring::new(RingConfig {
        requests: 4096,
        completions: 32_768,
        sockets,
        buffers: 1024,
        buffer_bytes: 8192,
    })?;
    ring.listen(LISTENER, address, BACKLOG);
    let mut switch = Switch::new(sockets);
    loop {
        ring.wait(None)?;
        ring.reap();
        while let Some(completion) = ring.poll_completion() {
            switch.handle(completion, &mut ring)?;
        }
        switch.flush(&mut ring);
    }
}

/// All connections and channels.
struct Switch {
    peers: Vec<Peer>,
    channels: Vec<Channel>,
    dirty_peers: Vec<SlotId>,
    dirty_channels: Vec<u32>,
    spare: Vec<Vec<u8>>,
}

/// One connection.
#[derive(Default)]
struct Peer {
    greeting: Option<Greeting>,
    /// Bytes of a greeting or frame that is not whole yet.
    carry: Vec<u8>,
    output: Vec<u8>,
    /// Fan-out batches that came while a send was in flight.
    #[expect(clippy::rc_buffer, reason = "the batch is gathered as a Vec; sharing it must not copy it")]
    waiting: VecDeque<Rc<Vec<u8>>>,
    sending: bool,
    dirty: bool,
}

/// The receivers of a channel, and what came for them in this tick if there are several.
#[derive(Default)]
struct Channel {
    receivers: Vec<SlotId>,
    batch: Vec<u8>,
}

impl Switch {
    fn new(sockets: u32) -> Self {
        Self {
            peers: std::iter::repeat_with(Peer::default).take(sockets as usize).collect(),
            channels: Vec::new(),
            dirty_peers: Vec::new(),
            dirty_channels: Vec::new(),
            spare: Vec::new(),
        }
    }

    fn handle(&mut self, completion: Completion, ring: &mut Ring) -> io::Result<()> {
        match completion {
            Completion::Opened { result, .. } => result.map_err(os_error)?,
            Completion::Accepted { slot } => ring.receive(slot, true),
            // Out of sockets: the ring goes on accepting when some are closed.
            Completion::AcceptFailed { .. } => {}
            Completion::Received { slot, loan } => {
                if !self.on_bytes(slot, ring.view(&loan)) {
                    ring.close(slot);
                }
                ring.recycle(loan);
            }
            Completion::Ended { slot, .. } => ring.close(slot),
            Completion::Sent { slot, result, bytes } => self.on_sent(slot, result, bytes, ring),
            Completion::Closed { slot } => self.forget(slot),
        }
        Ok(())
    }

    /// Takes in bytes; false if the connection can't be served.
    fn on_bytes(&mut self, slot: SlotId, bytes: &[u8]) -> bool {
        match self.peers[slot.index()].greeting {
            Some(greeting) if greeting.qos == 0 => {
                if !greeting.receives {
                    self.forward(greeting.channel, bytes);
                }
                true
            }
            Some(greeting) => self.on_frames(slot, greeting, bytes),
            None => self.on_greeting(slot, bytes),
        }
    }

    fn on_greeting(&mut self, slot: SlotId, bytes: &[u8]) -> bool {
        let peer = &mut self.peers[slot.index()];
        peer.carry.extend_from_slice(bytes);
        let Some((head, rest)) = peer.carry.split_first_chunk::<GREETING_BYTES>() else { return true };
        let Some(greeting) = Greeting::read(head) else { return false };
        let rest = rest.to_vec();
        peer.carry = Vec::new();
        peer.greeting = Some(greeting);
        let index = greeting.channel as usize;
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, Channel::default);
        }
        if greeting.receives {
            self.channels[index].receivers.push(slot);
        }
        self.output(slot).extend_from_slice(ANSWER);
        rest.is_empty() || self.on_bytes(slot, &rest)
    }

    /// Cuts the stream into frames and acknowledgements (four bytes each) and answers as a broker would.
    fn on_frames(&mut self, slot: SlotId, greeting: Greeting, bytes: &[u8]) -> bool {
        let mut carry = std::mem::take(&mut self.peers[slot.index()].carry);
        let joined = !carry.is_empty();
        if joined {
            carry.extend_from_slice(bytes);
        }
        let mut rest: &[u8] = if joined { &carry } else { bytes };
        while let Some(first) = rest.first() {
            let is_frame = first >> 4 == PUBLISH;
            let length = if is_frame { greeting.frame_bytes } else { ACK_BYTES };
            let Some((packet, after)) = rest.split_at_checked(length.max(1)) else { break };
            rest = after;
            if is_frame {
                self.forward(greeting.channel, packet);
            }
            self.answer(slot, greeting, packet, is_frame);
        }
        let left = rest.to_vec();
        self.peers[slot.index()].carry = left;
        true
    }

    fn answer(&mut self, slot: SlotId, greeting: Greeting, packet: &[u8], is_frame: bool) {
        let (kind, id_offset) = match packet[0] {
            _ if is_frame && greeting.qos == 1 => (PUBACK, greeting.id_offset),
            _ if is_frame => (PUBREC, greeting.id_offset),
            PUBREC => (PUBREL, ACK_ID_OFFSET),
            PUBREL => (PUBCOMP, ACK_ID_OFFSET),
            _ => return,
        };
        if let Some([high, low]) = packet.get(id_offset..).and_then(<[u8]>::first_chunk::<2>) {
            self.output(slot).extend_from_slice(&[kind, 2, *high, *low]);
        }
    }

    fn forward(&mut self, channel: u32, bytes: &[u8]) {
        let Some(route) = self.channels.get_mut(channel as usize) else { return };
        match route.receivers.as_slice() {
            [] => {}
            [only] => {
                let only = *only;
                self.output(only).extend_from_slice(bytes);
            }
            _ => {
                if route.batch.is_empty() {
                    self.dirty_channels.push(channel);
                }
                route.batch.extend_from_slice(bytes);
            }
        }
    }

    fn output(&mut self, slot: SlotId) -> &mut Vec<u8> {
        let peer = &mut self.peers[slot.index()];
        if !peer.dirty {
            peer.dirty = true;
            self.dirty_peers.push(slot);
        }
        if peer.output.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            peer.output = spare;
        }
        &mut peer.output
    }

    /// Ends the tick: one send per connection that has something to send.
    fn flush(&mut self, ring: &mut Ring) {
        for channel in self.dirty_channels.drain(..) {
            let route = &mut self.channels[channel as usize];
            let batch = Rc::new(std::mem::take(&mut route.batch));
            for slot in &route.receivers {
                let peer = &mut self.peers[slot.index()];
                if peer.sending || !peer.output.is_empty() {
                    peer.waiting.push_back(batch.clone());
                } else {
                    peer.sending = true;
                    ring.send(*slot, Bytes::Shared(batch.clone()), 0);
                }
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty_peers);
        for slot in dirty.drain(..) {
            self.peers[slot.index()].dirty = false;
            self.send_next(slot, ring);
        }
        self.dirty_peers = dirty;
    }

    fn send_next(&mut self, slot: SlotId, ring: &mut Ring) {
        let peer = &mut self.peers[slot.index()];
        if peer.sending {
            return;
        }
        if !peer.output.is_empty() {
            peer.sending = true;
            ring.send(slot, Bytes::Own(std::mem::take(&mut peer.output)), 0);
        } else if let Some(batch) = peer.waiting.pop_front() {
            peer.sending = true;
            ring.send(slot, Bytes::Shared(batch), 0);
        }
    }

    fn on_sent(&mut self, slot: SlotId, result: Result<usize, Errno>, bytes: Bytes, ring: &mut Ring) {
        let whole = result == Ok(bytes.as_slice().len());
        if let Bytes::Own(mut buffer) = bytes
            && self.spare.len() < SPARE_MAX
        {
            buffer.clear();
            self.spare.push(buffer);
        }
        self.peers[slot.index()].sending = false;
        if whole {
            self.send_next(slot, ring);
        } else {
            ring.close(slot);
        }
    }

    fn forget(&mut self, slot: SlotId) {
        let Some(peer) = self.peers.get_mut(slot.index()) else { return };
        let gone = std::mem::take(peer);
        peer.dirty = gone.dirty;
        if let Some(greeting) = gone.greeting.filter(|greeting| greeting.receives) {
            self.channels[greeting.channel as usize].receivers.retain(|receiver| *receiver != slot);
        }
    }
}

fn os_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno.0)
}

const LISTENER: SlotId = SlotId(0);
const BACKLOG: i32 = 4096;
/// Output buffers kept for reuse.
const SPARE_MAX: usize = 4096;
/// The upper half of a PUBLISH's first byte.
const PUBLISH: u8 = 3;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const ACK_BYTES: usize = 4;
const ACK_ID_OFFSET: usize = 2;
