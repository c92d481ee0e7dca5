//! The output of one tick: what goes to which connection, joined so that each connection gets one send.
//!
//! Adjacent ranges of the arena extend the last piece of their connection: one delivery costs a lookup and an addition. Only
//! a connection with pieces that do not touch pays for a copy (small) or a vectored send (large).

use std::io::IoSlice;
use std::ops::Range;

use super::ring::{Outgoing, Pieces};
use crate::ids::ConnId;
use crate::message::Message;

/// The output of one tick. One per shard, reused.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    list: Vec<Output>,
    pieces: Vec<Piece>,
    payloads: Vec<Message>,
    joined: Vec<u8>,
}

/// What one connection gets in this tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) conn: ConnId,
    /// Bytes in all; 0 when it was taken back.
    pub(super) bytes: u32,
    first: Piece,
    /// Index of the last piece, when there are more than one.
    last: Option<u32>,
    whole: Whole,
}

/// Where the bytes of an output are when they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    /// The first piece is all.
    First,
    /// Copied together, from here to here.
    Joined { start: u32, end: u32 },
    /// In pieces; so many.
    Vectored { count: u32 },
}

/// A run of bytes: of the arena, or a whole payload.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u32,
    end: u32,
    /// The piece is payload number `start`, of `end` bytes.
    is_payload: bool,
    next: Option<u32>,
}

impl Outputs {
    /// Nothing is to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All outputs, in the order in which their connections first came.
    pub(super) fn list(&self) -> &[Output] {
        &self.list
    }

    /// Begins the output of a connection; returns its index.
    pub(super) fn begin(&mut self, conn: ConnId, head: Range<u32>) -> usize {
        let first = Piece { start: head.start, end: head.end, is_payload: false, next: None };
        self.list.push(Output { conn, bytes: head.end - head.start, first, last: None, whole: Whole::First });
        self.list.len() - 1
    }

    /// Adds a range of the arena to an output. Constant time.
    pub(super) fn extend(&mut self, index: usize, head: Range<u32>) {
        let output = &mut self.list[index];
        output.bytes += head.end - head.start;
        let last = match output.last {
            Some(last) => &mut self.pieces[last as usize],
            None => &mut output.first,
        };
        if last.end == head.start && !last.is_payload {
            last.end = head.end;
        } else if head.start < head.end {
            self.append(index, Piece { start: head.start, end: head.end, is_payload: false, next: None });
        }
    }

    /// Adds a payload, sent from the message itself.
    pub(super) fn extend_payload(&mut self, index: usize, payload: Message) {
        let bytes = u32::try_from(payload.payload().len()).expect("a packet is at most 268,435,460 bytes");
        let number = u32::try_from(self.payloads.len()).expect("fewer payloads than bytes of the arena");
        self.payloads.push(payload);
        self.list[index].bytes += bytes;
        self.append(index, Piece { start: number, end: bytes, is_payload: true, next: None });
    }

    /// Takes back what a connection would get: it is closed before the tick ends.
    pub(super) fn take_back(&mut self, index: usize) {
        self.list[index].bytes = 0;
    }

    /// Makes each output sendable: joins or counts the pieces of those that have several. Once, before
    /// [`Outputs::slices`]. Returns the bytes that were copied and the outputs that stay in pieces.
    pub(super) fn settle(&mut self, arena: &[u8]) -> (u64, u64) {
        let (mut copied, mut vectored) = (0, 0);
        for index in 0..self.list.len() {
            let output = self.list[index];
            if output.last.is_none() || output.bytes == 0 {
                continue;
            }
            self.list[index].whole = if output.bytes <= JOIN_BYTES_MAX || self.count(&output) > VECTOR_MAX {
                copied += u64::from(output.bytes);
                self.join(arena, &output)
            } else {
                vectored += 1;
                Whole::Vectored { count: self.count(&output) }
            };
        }
        (copied, vectored)
    }

    /// The pieces of all vectored outputs, one after the other, in the order of the outputs.
    pub(super) fn slices<'a>(&'a self, arena: &'a [u8]) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::new();
        for output in self.list.iter().filter(|output| matches!(output.whole, Whole::Vectored { .. })) {
            slices.extend(self.pieces_of(output).map(|piece| IoSlice::new(self.bytes_of(&piece, arena))));
        }
        slices
    }

    /// What to send, by the slots of [`ConnId`]. `slices` is what [`Outputs::slices`] returned.
    pub(super) fn outgoing<'a>(
        &'a self,
        arena: &'a [u8],
        slices: &'a [IoSlice<'a>],
    ) -> impl Iterator<Item = Outgoing<'a>> {
        let mut vectored = slices;
        self.list.iter().filter_map(move |output| {
            let mine = match output.whole {
                Whole::Vectored { count } => {
                    let (mine, rest) = vectored.split_at(count as usize);
                    vectored = rest;
                    mine
                }
                Whole::First | Whole::Joined { .. } => &[],
            };
            if output.bytes == 0 {
                return None;
            }
            let bytes = match output.whole {
                Whole::First => Pieces::One(self.bytes_of(&output.first, arena)),
                Whole::Joined { start, end } => Pieces::One(&self.joined[start as usize..end as usize]),
                Whole::Vectored { .. } => Pieces::Many(mine),
            };
            Some(Outgoing { slot: output.conn.slot, generation: output.conn.generation, bytes })
        })
    }

    /// Copies what follows the first `skip` bytes of an output.
    pub(super) fn rest(&self, index: usize, skip: usize, arena: &[u8], into: &mut Vec<u8>) {
        let mut skip = skip;
        for piece in self.pieces_of(&self.list[index]) {
            let bytes = self.bytes_of(&piece, arena);
            into.extend_from_slice(bytes.get(skip..).unwrap_or_default());
            skip = skip.saturating_sub(bytes.len());
        }
    }

    /// Forgets the tick, keeps the memory (but no more of it than a usual tick needs).
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.pieces.clear();
        self.payloads.clear();
        self.joined.clear();
        self.joined.shrink_to(JOINED_KEEP_BYTES);
    }

    fn append(&mut self, index: usize, piece: Piece) {
        let new = u32::try_from(self.pieces.len()).expect("fewer pieces than bytes of the arena");
        self.pieces.push(piece);
        let output = &mut self.list[index];
        match output.last.replace(new) {
            Some(last) => self.pieces[last as usize].next = Some(new),
            None => output.first.next = Some(new),
        }
    }

    fn join(&mut self, arena: &[u8], output: &Output) -> Whole {
        let start = position(self.joined.len());
        let mut piece = Some(output.first);
        while let Some(this) = piece {
            let bytes = if this.is_payload {
                self.payloads[this.start as usize].payload()
            } else {
                &arena[this.start as usize..this.end as usize]
            };
            self.joined.extend_from_slice(bytes);
            piece = this.next.map(|next| self.pieces[next as usize]);
        }
        Whole::Joined { start, end: position(self.joined.len()) }
    }

    fn count(&self, output: &Output) -> u32 {
        position(self.pieces_of(output).count())
    }

    fn pieces_of(&self, output: &Output) -> impl Iterator<Item = Piece> {
        std::iter::successors(Some(output.first), |piece| piece.next.map(|next| self.pieces[next as usize]))
    }

    fn bytes_of<'a>(&'a self, piece: &Piece, arena: &'a [u8]) -> &'a [u8] {
        if piece.is_payload {
            self.payloads[piece.start as usize].payload()
        } else {
            &arena[piece.start as usize..piece.end as usize]
        }
    }
}

fn position(length: usize) -> u32 {
    u32::try_from(length).expect("an output is bounded by the arena and the payloads of one tick")
}

/// Up to this many bytes, pieces are copied together: about 0.3 µs, less than a vectored send costs more than a plain one.
const JOIN_BYTES_MAX: u32 = 8 << 10;

/// The kernel takes at most so many pieces in one send (UIO_MAXIOV).
const VECTOR_MAX: u32 = 1_024;

/// Memory for joined outputs that stays between ticks.
const JOINED_KEEP_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageView;
    use crate::time::WallMs;
    use dunlin_wire::types::QoS;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    fn sent(outputs: &Outputs, arena: &[u8]) -> Vec<(u32, Vec<u8>, bool)> {
        let slices = outputs.slices(arena);
        let all = outputs.outgoing(arena, &slices);
        all.map(|out| match out.bytes {
            Pieces::One(bytes) => (out.slot, bytes.to_vec(), false),
            Pieces::Many(pieces) => (out.slot, pieces.iter().flat_map(|p| p.to_vec()).collect(), true),
        })
        .collect()
    }

    fn message(payload: &[u8]) -> Message {
        MessageView {
            topic: "t",
            qos: QoS::AtMostOnce,
            retain: false,
            received_at: WallMs(0),
            expiry_seconds: None,
            publisher: "",
            properties: &[],
            payload,
        }
        .to_message()
    }

    #[test]
    fn what_touches_is_one_piece_and_is_not_copied() {
        let arena = b"aabbcc";
        let mut outputs = Outputs::default();
        for slot in [1, 2] {
            let index = outputs.begin(conn(slot), 0..2);
            outputs.extend(index, 2..4);
            outputs.extend(index, 4..6);
        }
        assert_eq!(outputs.settle(arena), (0, 0));
        assert_eq!(sent(&outputs, arena), [(1, arena.to_vec(), false), (2, arena.to_vec(), false)]);
    }

    #[test]
    fn small_pieces_apart_are_joined() {
        let arena = b"a1b1a2b2a3";
        let mut outputs = Outputs::default();
        let a = outputs.begin(conn(1), 0..2);
        let b = outputs.begin(conn(2), 2..4);
        outputs.extend(a, 4..6);
        outputs.extend(b, 6..8);
        outputs.extend(a, 8..10);
        assert_eq!(outputs.settle(arena), (10, 0));
        assert_eq!(sent(&outputs, arena), [(1, b"a1a2a3".to_vec(), false), (2, b"b1b2".to_vec(), false)]);
    }

    #[test]
    fn a_large_payload_is_sent_from_the_message() {
        let arena = b"headnext";
        let large = vec![7_u8; JOIN_BYTES_MAX as usize];
        let mut outputs = Outputs::default();
        for slot in [1, 2] {
            let index = outputs.begin(conn(slot), 0..4);
            outputs.extend_payload(index, message(&large));
            outputs.extend(index, 4..8);
        }
        let whole = [b"head".as_slice(), &large, b"next"].concat();
        assert_eq!(outputs.settle(arena), (0, 2));
        assert_eq!(sent(&outputs, arena), [(1, whole.clone(), true), (2, whole.clone(), true)]);
        let mut rest = Vec::new();
        outputs.rest(1, 6, arena, &mut rest);
        assert_eq!(rest, whole[6..]);
    }

    #[test]
    fn what_was_taken_back_is_not_sent_and_the_others_keep_their_pieces() {
        let large = vec![7_u8; JOIN_BYTES_MAX as usize];
        let mut outputs = Outputs::default();
        let gone = outputs.begin(conn(1), 0..1);
        outputs.extend_payload(gone, message(&large));
        let stays = outputs.begin(conn(2), 1..2);
        outputs.extend_payload(stays, message(&large));
        outputs.settle(b"xy");
        outputs.take_back(gone);
        assert_eq!(sent(&outputs, b"xy"), [(2, [b"y".as_slice(), &large].concat(), true)]);
    }

    #[test]
    fn too_many_pieces_are_joined_whatever_their_size() {
        let arena = vec![1_u8; 64 << 10];
        let mut outputs = Outputs::default();
        let index = outputs.begin(conn(1), 0..1);
        for piece in 1..=VECTOR_MAX {
            outputs.extend(index, piece * 20..piece * 20 + 16);
        }
        let (copied, vectored) = outputs.settle(&arena);
        assert_eq!((copied, vectored), (u64::from(VECTOR_MAX) * 16 + 1, 0));
    }
}
