//! What coordinator and agent say to each other: JSON, each message after its length in four bytes.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde::{Deserialize, Serialize};

use super::parcel::Parcel;

/// Version of the conversation. Both sides must have the same.
pub(super) const VERSION: u32 = 2;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// Both: the first message, with a challenge.
    Hello {
        version: u32,
        /// Version of the program, which must be the same as well: the command line is shared.
        program: String,
        challenge: String,
    },
    /// Both: the answer to the other's challenge.
    Proof { proof: String },
    /// Agent: why it ends the conversation.
    Refused { why: String },
    /// Coordinator: what time is it?
    Ping { asked: i64 },
    /// Agent: the answer, at once.
    Pong { asked: i64, seen: i64 },
    /// Coordinator: run this command line (without the program's name).
    Run {
        arguments: Vec<String>,
        /// The scenario file that one of the arguments names, if it is one of the coordinator's.
        parcel: Option<Parcel>,
        /// When, in nanoseconds since 1970 by the agent's clock.
        start_ns: i64,
    },
    /// Agent: the process has started, this much later than it should have.
    Started { late_ns: i64 },
    /// Agent: a line of the process's standard error.
    Line { text: String },
    /// Agent: the process has ended; `None`: by a signal.
    Done { code: Option<i32>, output: String },
    /// Coordinator: end the process.
    Stop,
}

/// One side of a conversation.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    pending: Vec<u8>,
    bytes_max: usize,
}

impl Line {
    /// A conversation over a connection. Until [`Line::trust`] messages must be short.
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, pending: Vec::new(), bytes_max: STRANGER_BYTES_MAX })
    }

    /// The other side has proved itself: results may come.
    pub(super) const fn trust(&mut self) {
        self.bytes_max = MESSAGE_BYTES_MAX;
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the connection fails or takes nothing for [`WRITE_PATIENCE`].
    pub(super) fn say(&mut self, message: &Message) -> io::Result<()> {
        let body = serde_json::to_vec(message).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut frame = length.to_be_bytes().to_vec();
        frame.extend_from_slice(&body);
        self.stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        self.stream.write_all(&frame)
    }

    /// The next message, or `None` if none has come within `patience`.
    ///
    /// # Errors
    /// When the connection has failed or ended, or the other side breaks the form.
    pub(super) fn hear(&mut self, patience: std::time::Duration) -> io::Result<Option<Message>> {
        self.stream.set_read_timeout(Some(patience.max(std::time::Duration::from_millis(1))))?;
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side has gone")),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a whole message off what has come. Only what has come takes memory, whatever length was announced.
    fn take(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.pending.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > self.bytes_max {
            let text = format!("a message of {length} bytes, where at most {} are taken", self.bytes_max);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let Some(body) = self.pending.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("not a message of ours: {error}"))
        })?;
        self.pending.drain(..4 + length);
        Ok(Some(message))
    }
}

/// Messages before the other side has proved itself.
const STRANGER_BYTES_MAX: usize = 4 * 1024;
/// Results have histograms and a second-by-second record in them.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How long a write may make no progress.
const WRITE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    fn pair() -> (Line, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let raw = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Line::new(listener.accept().unwrap().0).unwrap(), raw)
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let (mut line, mut raw) = pair();
        let body = serde_json::to_vec(&Message::Ping { asked: 7 }).unwrap();
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(&body);
        let twice = [frame.clone(), frame].concat();
        raw.write_all(&twice[..9]).unwrap();
        assert_eq!(line.hear(Duration::from_millis(20)).unwrap(), None);
        raw.write_all(&twice[9..]).unwrap();
        for _ in 0..2 {
            assert_eq!(line.hear(Duration::from_secs(5)).unwrap(), Some(Message::Ping { asked: 7 }));
        }
    }

    #[test]
    fn a_stranger_can_announce_no_more_than_a_greeting() {
        let (mut line, mut raw) = pair();
        raw.write_all(&5_000_u32.to_be_bytes()).unwrap();
        assert!(line.hear(Duration::from_secs(5)).unwrap_err().to_string().contains("5000"));
    }

    #[test]
    fn what_is_not_a_message_and_an_end_are_errors() {
        let (mut line, mut raw) = pair();
        raw.write_all(b"\0\0\0\x02{}").unwrap();
        assert!(line.hear(Duration::from_secs(5)).unwrap_err().to_string().contains("not a message"));
        let (mut line, raw) = pair();
        drop(raw);
        assert_eq!(line.hear(Duration::from_secs(5)).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
