//! What the edge believes of the kernel, tried on the kernel that runs the tests. Each belief is a trap that a ring can fall
//! into; where the edge relies on a behaviour, a change of it fails here first.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use super::*;

fn ring(buffer_count: u16, completion_entries: u32) -> Ring {
    let shape = RingShape { buffer_count, completion_entries, buffer_bytes: 64, ..RingShape::PROBE };
    Ring::new(&shape, 0).unwrap()
}

/// A stream whose one end is in a slot of the ring and whose other end is ours.
fn pair(ring: &Ring, slot: u32) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    put(ring, slot, theirs.as_raw_fd());
    ours
}

fn put(ring: &Ring, slot: u32, descriptor: RawFd) {
    assert_eq!(ring.io.submitter().register_files_update(slot, &[descriptor]).unwrap(), 1);
}

/// A TCP connection over loopback: the end in the slot is the server's.
fn tcp(ring: &Ring, slot: u32) -> std::net::TcpStream {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    put(ring, slot, theirs.as_raw_fd());
    ours
}

/// Everything that completes without waiting.
fn completions(ring: &mut Ring) -> Vec<Completion> {
    let mut all = Vec::new();
    ring.submit();
    ring.take(&mut all);
    while ring.has_hint() {
        ring.submit();
        if ring.take(&mut all) == 0 {
            break;
        }
    }
    all
}

/// Waits until so many have completed.
fn wait_for(ring: &mut Ring, count: usize) -> Vec<Completion> {
    let mut all = completions(ring);
    while all.len() < count {
        ring.wait(Some(Duration::from_secs(10)));
        let before = all.len();
        all.extend(completions(ring));
        assert!(all.len() > before, "only {all:?} of {count}");
    }
    all
}

fn received(ring: &mut Ring, completion: &Completion) -> Vec<u8> {
    let lent = ring.buffers().lent(completion.flags, completion.result).unwrap();
    let bytes = ring.buffers().bytes(&lent).to_vec();
    ring.buffers().give_back(lent);
    bytes
}

fn outgoing(slot: u32, bytes: &[u8]) -> (usize, Outgoing<'_>) {
    (0, Outgoing { slot, generation: 7, bytes: Pieces::One(bytes) })
}

#[test]
fn a_send_that_is_taken_whole_is_silent_and_one_that_is_not_reports_its_part() {
    let mut rings = [ring(2, 32)];
    let mut reader = pair(&rings[0], 0);
    let small = b"whole".to_vec();
    send_all(&mut rings, [outgoing(0, &small)].into_iter());
    assert!(completions(&mut rings[0]).is_empty(), "success is silent");
    let mut got = [0; 5];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"whole");
    let large = vec![1; 4 << 20];
    send_all(&mut rings, [outgoing(0, &large)].into_iter());
    let reported = completions(&mut rings[0]);
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(reported[0].tag, Tag::new(Kind::Send, 0, 7));
    let part = usize::try_from(reported[0].result).unwrap();
    assert!(part > 0 && part < large.len(), "{part}");
    let mut got = vec![0; part];
    reader.read_exact(&mut got).unwrap();
    reader.set_nonblocking(true).unwrap();
    assert!(reader.read(&mut [0]).is_err(), "exactly the part that was reported is there");
    // With no room at all, nothing is sent and that is said too.
    send_all(&mut rings, [outgoing(0, &large)].into_iter());
    send_all(&mut rings, [outgoing(0, &small)].into_iter());
    let reported = completions(&mut rings[0]);
    assert_eq!(reported.last().unwrap().result, -libc::EAGAIN, "{reported:?}");
}

#[test]
fn a_vectored_send_reports_its_part_too() {
    let mut rings = [ring(2, 32)];
    let mut reader = pair(&rings[0], 0);
    let (head, body) = (b"head".as_slice(), vec![2; 4 << 20]);
    let pieces = [IoSlice::new(head), IoSlice::new(&body)];
    let send = Outgoing { slot: 0, generation: 7, bytes: Pieces::Many(&pieces) };
    send_all(&mut rings, std::iter::once((0, send)));
    let reported = completions(&mut rings[0]);
    let part = usize::try_from(reported[0].result).unwrap();
    assert!(part > head.len() && part < body.len());
    let mut got = vec![0; part];
    reader.read_exact(&mut got).unwrap();
    assert!(got.starts_with(b"head\x02"));
}

#[test]
fn without_waitall_a_part_would_pass_for_the_whole() {
    // Why `send_all` asks for MSG_WAITALL although it does not wait.
    let mut ring = ring(2, 32);
    let _reader = pair(&ring, 0);
    let large = vec![1; 4 << 20];
    let length = u32::try_from(large.len()).unwrap();
    let entry = opcode::Send::new(Fixed(0), large.as_ptr(), length).flags(libc::MSG_DONTWAIT).build();
    ring.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(Tag::new(Kind::Send, 0, 7).pack()));
    assert!(completions(&mut ring).is_empty(), "the kernel reports the part now: WAITALL may go");
}

#[test]
fn the_memory_of_a_send_is_ours_again_when_the_call_returns() {
    let mut rings = [ring(2, 32)];
    let mut readers: Vec<_> = (0..4).map(|slot| tcp(&rings[0], slot)).collect();
    let mut arena = vec![b'a'; 1_000];
    send_all(&mut rings, (0..4).map(|slot| outgoing(slot, &arena)));
    arena.fill(b'z');
    for reader in &mut readers {
        let mut got = vec![0; 1_000];
        reader.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == b'a'));
    }
}

#[test]
fn more_sends_than_submission_entries_all_leave() {
    let mut rings = [ring(2, 32)];
    let mut reader = pair(&rings[0], 0);
    let texts: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 10]).collect();
    let pieces: Vec<_> = texts.iter().map(|text| [IoSlice::new(text), IoSlice::new(b"!")]).collect();
    let sends = pieces.iter().map(|both| (0, Outgoing { slot: 0, generation: 7, bytes: Pieces::Many(both) }));
    send_all(&mut rings, sends);
    assert!(completions(&mut rings[0]).is_empty());
    let mut got = vec![0; 1_100];
    reader.read_exact(&mut got).unwrap();
    let expected: Vec<u8> = texts.iter().flat_map(|text| [text.as_slice(), b"!"].concat()).collect();
    assert_eq!(got, expected);
}

#[test]
fn a_waiting_send_goes_on_when_there_is_room() {
    let mut rings = [ring(2, 32)];
    let mut reader = pair(&rings[0], 0);
    let filler = vec![0; 4 << 20];
    send_all(&mut rings, [outgoing(0, &filler)].into_iter());
    let filled = usize::try_from(completions(&mut rings[0])[0].result).unwrap();
    rings[0].send_later(0, 7, b"--later".to_vec(), 2);
    assert!(completions(&mut rings[0]).is_empty(), "there is no room");
    let mut got = vec![0; filled];
    reader.read_exact(&mut got).unwrap();
    let done = wait_for(&mut rings[0], 1);
    assert_eq!((done[0].tag.kind, done[0].result), (Kind::SendLater, 5));
    assert_eq!(rings[0].take_waiting(&done[0]).unwrap(), b"--later");
    let mut got = [0; 5];
    reader.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"later");
}

#[test]
fn a_receive_ends_when_buffers_run_out_and_goes_on_when_they_are_back() {
    let mut ring = ring(2, 32);
    let mut writer = pair(&ring, 0);
    writer.write_all(&[b'x'; 64 * 3]).unwrap();
    ring.receive_many(0, 7);
    let all = wait_for(&mut ring, 3);
    assert_eq!(all.iter().map(|c| c.result).collect::<Vec<_>>(), [64, 64, -libc::ENOBUFS]);
    assert!(all[0].more() && all[1].more() && !all[2].more());
    // On an empty buffer ring a receive ends at once even where there is nothing to receive: arming it again before
    // buffers are back would spin.
    let _silent = pair(&ring, 1);
    ring.receive_many(1, 7);
    let at_once = completions(&mut ring);
    assert_eq!(at_once.len(), 1, "{at_once:?}: an empty buffer ring waits for data now");
    assert_eq!(at_once[0].result, -libc::ENOBUFS);
    for completion in &all[..2] {
        assert_eq!(received(&mut ring, completion).len(), 64);
    }
    ring.receive_many(0, 7);
    let rest = wait_for(&mut ring, 1);
    assert_eq!(received(&mut ring, &rest[0]).len(), 64);
    assert!(rest[0].more());
}

#[test]
fn a_cancelled_operation_completes_under_its_own_tag() {
    let mut ring = ring(2, 32);
    let mut writer = pair(&ring, 0);
    ring.receive_many(0, 7);
    writer.write_all(b"before").unwrap();
    let first = wait_for(&mut ring, 1);
    assert_eq!(received(&mut ring, &first[0]), b"before");
    ring.cancel(Tag::new(Kind::ReceiveMany, 0, 7));
    let all = wait_for(&mut ring, 1);
    assert_eq!((all[0].tag, all[0].result), (Tag::new(Kind::ReceiveMany, 0, 7), -libc::ECANCELED));
    assert!(!all[0].more());
    // Cancelling what is not there completes, with a kind that nobody listens to.
    ring.cancel(Tag::new(Kind::Poll, 0, 7));
    let none = wait_for(&mut ring, 1);
    assert_eq!((none[0].tag.kind, none[0].result), (Kind::Cancel, -libc::ENOENT));
}

#[test]
fn closing_a_slot_after_cancelling_its_receive_closes_the_socket() {
    let mut ring = ring(2, 32);
    let mut peer = tcp(&ring, 0);
    ring.receive_many(0, 7);
    assert!(completions(&mut ring).is_empty());
    // The slot is used again at once; the late completion carries the old generation.
    ring.cancel(Tag::new(Kind::ReceiveMany, 0, 7));
    ring.close(0, 7);
    let late = wait_for(&mut ring, 1);
    assert_eq!(late[0].tag, Tag::new(Kind::ReceiveMany, 0, 7));
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the peer sees the end");
}

#[test]
fn discarded_input_lets_the_last_bytes_arrive() {
    let mut rings = [ring(2, 32)];
    let mut peer = tcp(&rings[0], 0);
    peer.write_all(&[b'x'; 10_000]).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    send_all(&mut rings, [outgoing(0, b"bye")].into_iter());
    rings[0].discard_input(0, 7);
    rings[0].close(0, 7);
    assert!(completions(&mut rings[0]).is_empty());
    let mut got = Vec::new();
    peer.read_to_end(&mut got).expect("FIN, not RST: unread input would have reset the connection");
    assert_eq!(got, b"bye");
}

#[test]
fn a_socket_moves_to_another_ring_and_a_full_table_refuses_it() {
    let mut source = ring(2, 32);
    let mut target = ring(2, 32);
    let mut peers: Vec<_> = (0..2).map(|slot| tcp(&source, slot)).collect();
    let keep: Vec<_> = (1..8).map(|slot| pair(&target, slot)).collect();
    let there = Tag::new(Kind::HandoffIn, 3, 42);
    source.hand_over(0, 7, target.descriptor(), there);
    source.submit();
    let came = wait_for(&mut target, 1);
    assert_eq!((came[0].tag, came[0].result), (there, 0), "the free slot");
    let gone = wait_for(&mut source, 1);
    assert_eq!((gone[0].tag, gone[0].result), (Tag::new(Kind::HandoffOut, 0, 7), 0));
    source.close(0, 7);
    source.submit();
    peers[0].write_all(b"hello").unwrap();
    target.receive_once(0, 9);
    let got = wait_for(&mut target, 1);
    assert_eq!(received(&mut target, &got[0]), b"hello");
    source.hand_over(1, 7, target.descriptor(), there);
    source.submit();
    target.wait(Some(Duration::from_millis(50)));
    assert!(completions(&mut target).is_empty());
    let refused = wait_for(&mut source, 1);
    assert_eq!(refused[0].result, -libc::ENFILE);
    drop((peers, keep));
}

#[test]
fn a_slots_peer_has_its_name() {
    let mut ring = ring(2, 32);
    let peer = tcp(&ring, 2);
    ring.ask_name(2, 7, false);
    let (_one, _end) = UnixStream::pair().unwrap();
    ring.ask_name(5, 8, false);
    let all = completions(&mut ring);
    assert_eq!(all.len(), 2, "answered while it was submitted");
    let expected = Peer::from(peer.local_addr().unwrap());
    assert_eq!(ring.name(&all[0]), (2, 7, Some(expected)));
    assert_eq!(ring.name(&all[1]), (5, 8, None), "an empty slot has no peer");
    ring.ask_name(2, 9, false);
    assert_eq!(ring.names.cells.len(), 2, "cells are used again");
}

#[test]
fn a_full_completion_queue_keeps_everything() {
    let mut ring = ring(32, 8);
    let writers: Vec<_> = (0..8).map(|slot| pair(&ring, slot)).collect();
    for slot in 0..8 {
        ring.poll_many(slot, 7);
    }
    assert!(completions(&mut ring).is_empty());
    let mut all = Vec::new();
    for _ in 0..4 {
        for mut writer in &writers {
            writer.write_all(b"x").unwrap();
        }
        ring.submit();
    }
    while ring.has_hint() || ring.has_entries() {
        ring.submit();
        if ring.take(&mut all) == 0 {
            break;
        }
    }
    for slot in 0..8 {
        assert!(all.iter().any(|completion| completion.tag.slot == slot), "{all:?}");
    }
}

#[test]
fn nothing_completes_until_its_own_thread_asks() {
    let mut ring = ring(2, 32);
    let mut writer = pair(&ring, 0);
    ring.receive_many(0, 7);
    ring.submit();
    writer.write_all(b"x").unwrap();
    let mut all = Vec::new();
    assert_eq!(ring.take(&mut all), 0, "completions are deferred");
    assert!(ring.has_hint());
    ring.submit();
    assert_eq!(ring.take(&mut all), 1);
}
