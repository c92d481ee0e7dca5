//! The figures of the running second for Prometheus, over HTTP on a thread of its own.
//!
//! The thread that drives connections hands a snapshot over through a channel and never waits; the thread here renders
//! it when somebody asks. One request at a time is enough for a scraper.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::record::{Snapshot, Watch};
use crate::report::ratio;

/// Serves a run's figures.
pub(crate) struct Prometheus {
    snapshots: SyncSender<Box<Snapshot>>,
    #[cfg(test)]
    address: SocketAddr,
}

impl Prometheus {
    /// Listens and starts the thread; it ends with the program.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub(crate) fn serve(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        #[cfg(test)]
        let address = listener.local_addr()?;
        let (snapshots, received) = sync_channel(SNAPSHOTS_WAITING_MAX);
        thread::Builder::new().name("prometheus".to_owned()).spawn(move || answer(&listener, &received))?;
        Ok(Self {
            snapshots,
            #[cfg(test)]
            address,
        })
    }
}

impl Watch for Prometheus {
    fn see(&mut self, now: &Snapshot) {
        // Full only while a slow scraper is being answered: it then gets the next one.
        drop(self.snapshots.try_send(Box::new(now.clone())));
    }
}

/// Takes snapshots and answers requests until the run is over.
fn answer(listener: &TcpListener, snapshots: &Receiver<Box<Snapshot>>) {
    let mut latest = Box::<Snapshot>::default();
    loop {
        match snapshots.recv_timeout(POLL) {
            Ok(snapshot) => latest = snapshot,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(newer) = snapshots.try_iter().last() {
            latest = newer;
        }
        while let Ok((stream, _)) = listener.accept() {
            // Whatever a client does wrong costs it its connection and nobody else anything.
            drop(converse(&stream, &latest));
        }
    }
}

/// One request, one answer, and the end.
fn converse(stream: &TcpStream, latest: &Snapshot) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut reader = BufReader::new(stream.take(REQUEST_BYTES_MAX));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_ascii_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    // The rest of the head is read, so that closing does not reset the connection under the answer.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = path.split('?').next().unwrap_or("");
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => ("200 OK", exposition(latest)),
        ("GET" | "HEAD", _) => ("404 Not Found", "the figures are under /metrics\n".to_owned()),
        _ => ("400 Bad Request", "only GET is understood\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

/// The text format of Prometheus, version 0.0.4.
fn exposition(now: &Snapshot) -> String {
    let mut text = String::new();
    let seconds = |nanoseconds| ratio(nanoseconds, 1_000_000_000);
    family(
        &mut text,
        "run_seconds",
        "gauge",
        "Time since the run began.",
        &[(String::new(), seconds(now.at_ns))],
    );
    let stage = [(format!("{{stage=\"{}\"}}", label(&now.stage)), 1.0)];
    family(&mut text, "stage", "gauge", "The stage that is under way.", &stage);
    let open = [(String::new(), ratio(now.open, 1))];
    family(&mut text, "connections_open", "gauge", "Connections that are up.", &open);
    for (name, count) in now.total.rows() {
        let help = format!("What the counter {name} of the outcome says.");
        family(&mut text, &format!("{name}_total"), "counter", &help, &[(String::new(), ratio(count, 1))]);
    }
    let violations: Vec<Sample> = now
        .violations
        .iter()
        .map(|(kind, count)| (format!("{{kind=\"{}\"}}", label(kind)), ratio(*count, 1)))
        .collect();
    family(
        &mut text,
        "violations_total",
        "counter",
        "What the oracle has found wrong, by kind.",
        &violations,
    );
    let reasons: Vec<Sample> = now
        .failures
        .by_reason()
        .map(|(reason, count)| (format!("{{reason=\"{}\"}}", label(reason)), ratio(count, 1)))
        .collect();
    family(&mut text, "failures_by_reason_total", "counter", "Failures by reason.", &reasons);
    let mut times = Vec::new();
    for now in &now.legs {
        let summary = &now.summary;
        for (quantile, value) in [
            ("0.5", summary.p50_ns),
            ("0.9", summary.p90_ns),
            ("0.99", summary.p99_ns),
            ("0.999", summary.p99_9_ns),
            ("1", summary.max_ns),
        ] {
            times.push((format!("{{leg=\"{}\",quantile=\"{quantile}\"}}", now.leg.name()), seconds(value)));
        }
    }
    let help = "Corrected times of the last second, by leg and quantile.";
    family(&mut text, "last_second_time_seconds", "gauge", help, &times);
    text
}

/// Labels and value of a sample.
type Sample = (String, f64);

/// A family of samples; left out when it has none.
fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    let mut push =
        |line: std::fmt::Arguments<'_>| text.write_fmt(line).expect("writing to a String can't fail");
    push(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
    for (labels, value) in samples {
        push(format_args!("{PREFIX}{name}{labels} {value}\n"));
    }
}

/// A label's value with what would end it escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

const PREFIX: &str = "dunlin_loadgen_";
/// Snapshots in the channel at most.
const SNAPSHOTS_WAITING_MAX: usize = 4;
/// The longest that a scraper waits to be noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a client may take to ask and to read.
const CLIENT_PATIENCE: Duration = Duration::from_millis(500);
/// Bytes of a request that are read at most.
const REQUEST_BYTES_MAX: u64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SECOND_NS;
    use crate::record::{Counters, Leg, LegNow, Times};

    fn snapshot() -> Snapshot {
        let mut times = Times::default();
        times.record(2_000_000);
        let mut failures = crate::record::FailureCounts::default();
        failures.note("a \"quoted\" \\ reason\nin two lines", "x");
        Snapshot {
            at_ns: 3 * SECOND_NS,
            stage: "steady \"x\"".to_owned(),
            open: 12,
            total: Counters { sent: 99, ..Counters::default() },
            violations: vec![("lost", 1)],
            failures,
            legs: vec![LegNow { leg: Leg::Deliver, summary: times.summary().unwrap() }],
            ..Snapshot::default()
        }
    }

    /// Name, labels, value.
    type Parsed = (String, Vec<(String, String)>, f64);

    /// A small parser of the text format; panics on what a scraper would refuse.
    fn parse(text: &str) -> Vec<Parsed> {
        assert!(text.ends_with('\n'));
        let mut typed = Vec::new();
        let mut samples = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["gauge", "counter"].contains(&kind) && !typed.contains(&name.to_owned()));
                assert!(kind != "counter" || name.ends_with("_total"));
                typed.push(name.to_owned());
            } else if !line.starts_with("# HELP ") {
                let (name, labels, rest) = match line.find('{') {
                    Some(at) => {
                        let (labels, rest) = parse_labels(&line[at + 1..]);
                        (&line[..at], labels, rest)
                    }
                    None => {
                        let at = line.find(' ').unwrap();
                        (&line[..at], Vec::new(), &line[at..])
                    }
                };
                assert!(typed.contains(&name.to_owned()), "{line} has no type");
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
                samples.push((name.to_owned(), labels, rest.trim().parse().unwrap()));
            }
        }
        samples
    }

    fn parse_labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
        let mut labels = Vec::new();
        loop {
            let (name, after) = rest.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().expect("a label's value ends") {
                    (_, '\\') => match chars.next().unwrap().1 {
                        'n' => value.push('\n'),
                        c @ ('"' | '\\') => value.push(c),
                        c => panic!("unknown escape {c}"),
                    },
                    (at, '"') => break at,
                    (_, c) => value.push(c),
                }
            };
            labels.push((name.to_owned(), value));
            rest = &after[end + 1..];
            match rest.chars().next().unwrap() {
                ',' => rest = &rest[1..],
                '}' => return (labels, &rest[1..]),
                c => panic!("unexpected {c}"),
            }
        }
    }

    #[test]
    fn the_text_is_what_prometheus_parses() {
        let samples = parse(&exposition(&snapshot()));
        let find = |name: &str| samples.iter().find(|sample| sample.0 == format!("{PREFIX}{name}")).unwrap();
        assert!((find("sent_total").2 - 99.0).abs() < f64::EPSILON);
        assert_eq!(find("stage").1[0].1, "steady \"x\"");
        assert_eq!(find("failures_by_reason_total").1[0].1, "a \"quoted\" \\ reason\nin two lines");
        assert!((find("last_second_time_seconds").2 - 0.002).abs() < 0.000_01);
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn it_serves_the_latest_and_survives_bad_requests() {
        let mut served = Prometheus::serve(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = served.address;
        served.see(&Snapshot::default());
        served.see(&snapshot());
        assert!(ask(address, b"\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 400"));
        assert!(ask(address, b"GET /secret HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
        drop(TcpStream::connect(address).unwrap());
        TcpStream::connect(address).unwrap().write_all(&[0xff; 40_000]).unwrap();
        let answer = ask(address, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("version=0.0.4"));
        assert!(parse(body).iter().any(|sample| sample.0.ends_with("connections_open") && sample.2 > 11.0));
        assert!(ask(address, b"HEAD /metrics HTTP/1.0\r\n\r\n").ends_with("\r\n\r\n"));
    }
}
