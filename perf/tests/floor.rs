//! The floor tool over real sockets: what goes in comes out where it should, and acknowledgements are answered.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]
#![expect(clippy::disallowed_methods, reason = "a test may sleep while a process starts")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::Duration;

/// A floor tool that ends with the test.
struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    fn start() -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_dunlin-perf"))
            .args(["floor", "--sockets", "64", "--listen", &address.to_string()])
            .spawn()
            .unwrap();
        let floor = Self { child, address };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return floor;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the floor tool does not accept connections");
    }

    fn open(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// A connection that has introduced itself. Frames are ten bytes with the packet id at 4.
    fn join(&self, receives: bool, qos: u8, channel: u8) -> TcpStream {
        let hello = [*b"DFLR", [u8::from(receives), qos, 4, 0], [10, 0, 0, 0], [channel, 0, 0, 0]].concat();
        let mut stream = self.open(&hello);
        expect(&mut stream, b"OKAY");
        stream
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[track_caller]
fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, bytes);
}

const FRAME_1: &[u8; 10] = b"\x32\x08ab\x00\x07wxyz";
const FRAME_2: &[u8; 10] = b"\x34\x08ab\x00\x09wxyz";

#[test]
fn bytes_reach_the_receivers_of_their_channel_only() {
    let floor = Floor::start();
    let mut first = floor.join(true, 0, 1);
    let mut second = floor.join(true, 0, 1);
    let mut other = floor.join(true, 0, 2);
    let mut to_both = floor.join(false, 0, 1);
    let mut to_other = floor.join(false, 0, 2);
    to_both.write_all(b"hello").unwrap();
    expect(&mut first, b"hello");
    expect(&mut second, b"hello");
    to_other.write_all(b"x").unwrap();
    expect(&mut other, b"x");
}

#[test]
fn more_than_a_socket_buffer_arrives_whole_at_several_receivers() {
    let floor = Floor::start();
    let mut receivers: Vec<TcpStream> = (0..3).map(|_| floor.join(true, 0, 0)).collect();
    let mut sender = floor.join(false, 0, 0);
    let sent: Vec<u8> = (0..8_000_000_u32).map(|index| (index ^ (index >> 8)).to_le_bytes()[0]).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.write_all(&sent).unwrap());
        for receiver in &mut receivers {
            scope.spawn(|| expect(receiver, &sent));
        }
    });
}

#[test]
fn frames_of_qos_1_are_acknowledged_with_their_packet_id_at_any_chunking() {
    let floor = Floor::start();
    let mut receiver = floor.join(true, 1, 0);
    let mut sender = floor.join(false, 1, 0);
    let (head, tail) = FRAME_1.split_at(5);
    sender.write_all(head).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    sender.write_all(&[tail, FRAME_1].concat()).unwrap();
    expect(&mut sender, b"\x40\x02\x00\x07\x40\x02\x00\x07");
    expect(&mut receiver, &[&FRAME_1[..], FRAME_1].concat());
    // A PUBACK wants no answer: what comes next is the next frame.
    receiver.write_all(b"\x40\x02\x00\x07").unwrap();
    sender.write_all(FRAME_1).unwrap();
    expect(&mut receiver, FRAME_1);
}

#[test]
fn frames_of_qos_2_take_both_steps_on_both_sides() {
    let floor = Floor::start();
    let mut receiver = floor.join(true, 2, 0);
    let mut sender = floor.join(false, 2, 0);
    sender.write_all(FRAME_2).unwrap();
    expect(&mut sender, b"\x50\x02\x00\x09");
    sender.write_all(b"\x62\x02\x00\x09").unwrap();
    expect(&mut sender, b"\x70\x02\x00\x09");
    expect(&mut receiver, FRAME_2);
    receiver.write_all(b"\x50\x02\x00\x09").unwrap();
    expect(&mut receiver, b"\x62\x02\x00\x09");
}

#[test]
fn who_does_not_introduce_himself_is_closed() {
    let floor = Floor::start();
    let mut stream = floor.open(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02ab");
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    floor.join(true, 0, 0);
}
