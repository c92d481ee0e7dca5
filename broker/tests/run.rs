//! The running program: its start page, its answers to signals, its log and its end, over real sockets.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests write configuration files and wait on threads of their own"
)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

/// A broker that was started for one test; killed if the test leaves it running, and its data removed.
struct Broker {
    child: Child,
    data: PathBuf,
    page: Vec<String>,
    log: Receiver<String>,
}

impl Broker {
    /// Starts the program in a clean environment and waits for its start page.
    fn start(args: &[&str]) -> Self {
        let (mut child, data) = spawn(args);
        let lines = lines_of(child.stdout.take().expect("piped"));
        let log = lines_of(child.stderr.take().expect("piped"));
        let mut page = Vec::new();
        while page.last().is_none_or(|line| line != "ready") {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => page.push(line),
                Err(_) => panic!("no start page: {page:?}, log: {:?}", log.try_iter().collect::<Vec<_>>()),
            }
        }
        Self { child, data, page, log }
    }

    /// The addresses of the lines `listening on mqtt://…`.
    fn addresses(&self) -> Vec<SocketAddr> {
        let urls = self.page.iter().filter_map(|line| line.strip_prefix("listening on mqtt://"));
        urls.map(|address| address.parse().expect("an address")).collect()
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &command]).status().expect("a shell");
        assert!(sent.success(), "{command}");
    }

    /// The next line of the log that holds `text`.
    fn logged(&self, text: &str) -> String {
        loop {
            let line =
                self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the log never said: {text}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Stops it with this signal; how it ended.
    fn stop(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.child.wait().expect("the program ends")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _may_have_ended = self.child.kill();
        let _reaped = self.child.wait();
        let _may_not_be_there = std::fs::remove_dir_all(&self.data);
    }
}

/// Starts the program with a data directory of its own, which a service manager would give it the same way.
fn spawn(args: &[&str]) -> (Child, PathBuf) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("data-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.env_clear().env("STATE_DIRECTORY", &data).env("DUNLIN_STORAGE__SEGMENT_SIZE", "4MB");
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    (command.spawn().expect("the program starts"), data)
}

/// The lines of a stream as they come.
fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = unbounded();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// A configuration file with this text, in the test's own folder.
fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("the test folder is writable");
    path
}

/// A 5.0 client: just enough packets, by hand, so that the test trusts nobody's codec.
struct Client {
    stream: TcpStream,
    /// Messages that came before a SUBACK, which they may [MQTT5 §3.8.4].
    early: VecDeque<Vec<u8>>,
}

impl Client {
    /// Connects with Clean Start; returns the client and the CONNACK's bytes after its fixed header.
    fn connect(address: SocketAddr, client_id: &str) -> (Self, Vec<u8>) {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self { stream, early: VecDeque::new() };
        let mut body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00".to_vec();
        body.push(u8::try_from(client_id.len()).expect("a short id"));
        body.extend_from_slice(client_id.as_bytes());
        client.send(0x10, &body);
        let (first, connack) = client.packet();
        assert_eq!(first, 0x20, "CONNACK");
        (client, connack)
    }

    /// Sends a packet of at most 127 bytes.
    fn send(&mut self, first: u8, body: &[u8]) {
        let length = u8::try_from(body.len()).expect("a short packet");
        self.stream.write_all(&[&[first, length], body].concat()).expect("the broker reads");
    }

    /// The next packet: first byte and what follows the Remaining Length.
    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("a packet");
        let first = byte[0];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            self.stream.read_exact(&mut byte).expect("a length");
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        (first, body)
    }

    fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 1, 0, 0, u8::try_from(filter.len()).expect("a short filter")];
        body.extend_from_slice(filter.as_bytes());
        body.push(0);
        self.send(0x82, &body);
        loop {
            match self.packet() {
                (0x90, suback) => return *suback.last().expect("a reason code"),
                (first, body) => {
                    assert_eq!(first & 0xf0, 0x30, "PUBLISH or SUBACK");
                    self.early.push_back(body);
                }
            }
        }
    }

    /// Topic and payload of the next packet, which must be a PUBLISH of QoS 0 without properties.
    fn message(&mut self) -> (String, String) {
        let body = self.early.pop_front().unwrap_or_else(|| {
            let (first, body) = self.packet();
            assert_eq!(first & 0xf0, 0x30, "PUBLISH");
            body
        });
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let (topic, rest) = body[2..].split_at(length);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        (text(topic), text(&rest[1..]))
    }
}

#[test]
fn a_start_says_where_it_listens_and_a_stop_is_clean() {
    let broker =
        Broker::start(&["--listen", "mqtt://127.0.0.1:0", "mqtt://[::1]:0", "--shards", "2", "--cores", "0"]);
    assert_eq!(broker.page[0], format!("dunlin {}", env!("CARGO_PKG_VERSION")));
    assert!(broker.page.contains(&"2 shards on core 0".to_owned()), "{:?}", broker.page);
    assert!(
        broker.page.iter().any(|line| line.starts_with("no authentication is configured: only loopback"))
    );
    let commit =
        format!("durability commit: what is acknowledged is on the disk, in {}", broker.data.display());
    assert!(broker.page.contains(&commit) && broker.page.contains(&"the data directory is new".to_owned()));
    let addresses = broker.addresses();
    assert_eq!(addresses.len(), 2);
    assert!(
        addresses[0].is_ipv4()
            && addresses[1].is_ipv6()
            && addresses.iter().all(|address| address.port() != 0)
    );
    let clients: Vec<Client> = addresses.into_iter().map(|address| Client::connect(address, "c").0).collect();
    let mut last = clients.into_iter().next_back().expect("two clients");
    let status = broker.stop("TERM");
    assert_eq!(status.code(), Some(0));
    let (first, body) = last.packet();
    assert_eq!((first, body.first()), (0xe0, Some(&0x8b)), "DISCONNECT, Server shutting down");
}

#[test]
fn an_interrupt_stops_as_well() {
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0"]);
    assert_eq!(broker.stop("INT").code(), Some(0));
}

#[test]
fn anonymous_access_for_other_hosts_is_said_aloud() {
    let broker = Broker::start(&["--listen", "mqtt://0.0.0.0:0", "--allow-anonymous", "--memory-only"]);
    assert!(broker.page.iter().any(|line| line.contains("everybody who reaches the listeners may connect")));
    let memory = "durability memory: sessions and messages end with the process, as asked";
    assert!(broker.page.iter().any(|line| line == memory), "{:?}", broker.page);
}

#[test]
fn an_address_that_is_taken_is_refused_with_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let output = spawn(&["--memory-only", "--listen", &format!("mqtt://{address}")])
        .0
        .wait_with_output()
        .expect("it ends");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(&format!("cannot listen on {address}: it is in use")), "{text}");
    assert!(text.contains(&format!("`ss -ltnp 'sport = :{}'`", address.port())), "{text}");
}

#[test]
fn a_reload_changes_what_new_clients_are_promised_and_names_what_waits() {
    let path = file("reload.toml", "[mqtt]\nreceive_maximum = 11\n");
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0", "--config", path.to_str().expect("text")]);
    let address = broker.addresses()[0];
    let receive_maximum = |connack: &[u8]| {
        // Property 0x21 and two bytes; no earlier property of this CONNACK holds the byte 0x21.
        let at = connack.iter().position(|byte| *byte == 0x21).expect("Receive Maximum");
        u16::from_be_bytes([connack[at + 1], connack[at + 2]])
    };
    let (_first, connack) = Client::connect(address, "a");
    assert_eq!(receive_maximum(&connack), 11);

    file("reload.toml", "[mqtt]\nreceive_maximum = 12\n[server]\nshards = 7\n");
    broker.signal("HUP");
    assert!(broker.logged("setting changed").contains("key=mqtt.receive_maximum from=11 to=12"));
    assert!(broker.logged("setting changes at the next start").contains("key=server.shards"));
    broker.logged("configuration reloaded applied=1 at_next_start=1");
    // Each shard takes the new settings from its inbox: a client may still come before that.
    let promises_12 = (0..100).any(|_| receive_maximum(&Client::connect(address, "b").1) == 12);
    assert!(promises_12);

    file("reload.toml", "[mqtt]\nreceive_maximum = 13\nmax_inflight = 0\n");
    broker.signal("HUP");
    assert!(broker.logged("configuration").contains("mqtt.max_inflight = 0 is out of range"));
    broker.logged("configuration not reloaded: nothing was changed");
    let (_third, connack) = Client::connect(address, "c");
    assert_eq!(receive_maximum(&connack), 12);
    assert_eq!(broker.stop("TERM").code(), Some(0));
}

#[test]
fn sys_topics_tell_what_the_broker_is_and_does() {
    let path = file(
        "sys.toml",
        "[sys_topics]\nsys_msg_interval = \"1s\"\nsys_heartbeat_interval = \"1s\"\n[node]\nname = \"n1\"\n",
    );
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0", "--config", path.to_str().expect("text")]);
    let (mut client, _) = Client::connect(broker.addresses()[0], "watcher");
    assert_eq!(client.subscribe("$SYS/#"), 0, "granted on this host");
    let mut wanted = vec![
        ("$SYS/brokers", "n1"),
        ("$SYS/brokers/n1/version", env!("CARGO_PKG_VERSION")),
        ("$SYS/brokers/n1/sysdescr", "Dunlin MQTT broker"),
        ("$SYS/brokers/n1/stats/live_connections/count", "1"),
        ("$SYS/brokers/n1/stats/live_connections/max", "1"),
        ("$SYS/brokers/n1/metrics/packets/connect/received", "1"),
        ("$SYS/brokers/n1/metrics/store/sync_failures", "0"),
    ];
    let mut heartbeats = vec!["$SYS/brokers/n1/uptime", "$SYS/brokers/n1/datetime"];
    while !(wanted.is_empty() && heartbeats.is_empty()) {
        let (topic, payload) = client.message();
        wanted.retain(|(name, value)| *name != topic || *value != payload);
        heartbeats.retain(|name| *name != topic);
    }
}

#[test]
fn a_dump_writes_counters_to_a_log_of_json_objects() {
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0", "--log-format", "json"]);
    let (_client, _) = Client::connect(broker.addresses()[0], "one");
    broker.signal("USR1");
    let line = broker.logged("\"event\":\"counters\"");
    let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(record["packets.connect.received"], 1);
    assert_eq!(record["level"], "info");
    let unheard = &record["messages.dropped.no_subscribers"];
    assert!(unheard.is_null(), "the broker's own reports count as lost: {unheard}");
    assert_eq!(broker.stop("TERM").code(), Some(0));
}

#[test]
fn clients_that_come_and_go_are_told_in_sys_topics() {
    let path = file(
        "events.toml",
        "[node]\nname = \"n1\"\n[sys_topics]\nsys_msg_interval = \"0s\"\nsys_heartbeat_interval = \"0s\"\n\
         [sys_topics.sys_event_messages]\nclient_subscribed = true\n",
    );
    let path = path.to_str().expect("text");
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0", "--shards", "2", "--config", path]);
    let address = broker.addresses()[0];
    let (mut watcher, _) = Client::connect(address, "watcher");
    assert_eq!(watcher.subscribe("$SYS/brokers/+/clients/#"), 0, "granted on this host");
    let own = "$SYS/brokers/n1/clients/watcher/subscribed";
    assert_eq!(watcher.message().0, own, "a watcher hears of itself");
    // Client ids with homes on both shards, and one that would be a wildcard.
    for (id, level) in [("a", "a"), ("b", "b"), ("c", "c"), ("../#", "..%2F%23")] {
        let (mut client, _) = Client::connect(address, id);
        let topic = |kind| format!("$SYS/brokers/n1/clients/{level}/{kind}");
        let (name, body) = watcher.message();
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((name, &body["clientid"]), (topic("connected"), &id.into()));
        assert_eq!((&body["ipaddress"], &body["sockport"]), (&"127.0.0.1".into(), &address.port().into()));
        assert_eq!((&body["proto_ver"], &body["keepalive"]), (&5.into(), &60.into()));
        assert_eq!(client.subscribe("t/+"), 0);
        assert_eq!(watcher.message().0, topic("subscribed"));
        client.send(0xe0, &[]);
        let (name, body) = watcher.message();
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((name, &body["reason"]), (topic("disconnected"), &"success".into()));
    }
}

#[test]
fn a_reload_takes_every_key_that_says_so() {
    let all = Command::new(env!("CARGO_BIN_EXE_dunlin")).env_clear().arg("--print-config").output();
    let text = String::from_utf8(all.expect("it runs").stdout).expect("text").replace(":1883", ":0");
    let path = file("reload_all.toml", &text);
    let broker = Broker::start(&["--config", path.to_str().expect("text")]);
    let (_old, before) = Client::connect(broker.addresses()[0], "before");

    let mut changed = String::new();
    let (mut live, mut section) = (Vec::new(), String::new());
    let reference = include_str!("../README.md");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else {
            changed.push_str(line);
            changed.push('\n');
            continue;
        };
        let name = format!("{section}.{key}");
        let value = value.split("  # ").next().expect("a value");
        let row = reference.lines().find(|row| row.starts_with(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the reference"));
        let to = if row.contains("| at once |") { other_value(&name, value) } else { value.to_owned() };
        if to != value {
            live.push((name, value.to_owned(), to.clone()));
        }
        changed.push_str(&format!("{key} = {to}\n"));
    }
    let promised = reference.lines().filter(|row| row.contains("| at once |")).count();
    assert_eq!(live.len(), promised, "every key that acts at once was changed");
    file("reload_all.toml", &changed);
    broker.signal("HUP");
    for (name, from, to) in &live {
        let line = broker.logged(&format!("setting changed key={name} "));
        assert!(line.ends_with(&format!("from={} to={}", logged(from), logged(to))), "{line}");
    }
    broker.logged(&format!("configuration reloaded applied={promised} at_next_start=0"));
    // The log says so; what a CONNACK says shows that the shards know.
    // Each shard takes the settings from its inbox: a client may still come before that.
    let mut connacks = (0..100).map(|_| Client::connect(broker.addresses()[0], "after").1);
    let after = connacks.find(|after| *after != before).expect("another CONNACK");
    for (what, property) in [
        ("Receive Maximum 101", &[0x21, 0, 101][..]),
        ("Maximum QoS 1", &[0x24, 1]),
        ("Retain Available 0", &[0x25, 0]),
        ("Maximum Packet Size 2 MB", &[0x27, 0, 0x20, 0, 0]),
        ("Topic Alias Maximum 65,534", &[0x22, 0xff, 0xfe]),
        ("Wildcard Subscription Available 0", &[0x28, 0]),
        ("Shared Subscription Available 0", &[0x2a, 0]),
        ("Server Keep Alive 7", &[0x13, 0, 7]),
    ] {
        assert!(after.windows(property.len()).any(|window| window == property), "{what}: {after:02x?}");
        assert!(!before.windows(property.len()).any(|window| window == property), "{what}: {before:02x?}");
    }
    assert_eq!(broker.stop("TERM").code(), Some(0));
}

/// Another value that the key takes.
fn other_value(name: &str, value: &str) -> String {
    let other = match (name, value) {
        ("mqtt.max_qos_allowed", _) => "1",
        ("mqtt.max_topic_alias" | "mqtt.max_clientid_len", _) => "65534",
        ("mqtt.max_packet_size", _) => "\"2MB\"",
        ("mqtt.server_keepalive", _) => "7",
        ("mqtt.keepalive_multiplier", _) => "2.5",
        ("server.max_conn_rate_per_address", _) => "100000",
        ("mqtt.mqueue_priorities", _) => "{ \"a/b\" = 9 }",
        ("mqtt.max_subscriptions" | "retainer.max_retained_messages", _) => "77",
        ("mqtt.max_mqueue_bytes" | "retainer.max_payload_size" | "mqtt.outbound_bytes_high", _) => "\"3MB\"",
        (_, "true") => "false",
        (_, "false") => "true",
        (_, "\"infinity\"") => "\"50s\"",
        (_, "\"info\"") => "\"debug\"",
        (_, "\"round_robin\"") => "\"sticky\"",
        (_, "\"lowest\"") => "\"highest\"",
        (_, "\"\"") => "\"reply\"",
        (_, number) if number.parse::<u64>().is_ok() => {
            return (number.parse::<u64>().expect("just read") + 1).to_string();
        }
        (_, _) => "\"20s\"",
    };
    other.to_owned()
}

/// A TOML value as a field of a log line: texts that need it are quoted.
fn logged(value: &str) -> String {
    if value.contains(['"', ' ']) { format!("{value:?}") } else { value.to_owned() }
}

#[test]
fn a_thousand_clients_are_told_goodbye_in_time() {
    // A thousand sockets beside those of the other tests are more than the usual soft limit of this process.
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, "--nofile=4096:"]).status();
    assert!(raised.expect("util-linux is there").success(), "the hard limit on open files is below 4,096");
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0", "--shards", "2"]);
    let address = broker.addresses()[0];
    let mut clients: Vec<Client> =
        (0..1_000).map(|number| Client::connect(address, &format!("c{number}")).0).collect();
    let log = broker.log.clone();
    assert_eq!(broker.stop("TERM").code(), Some(0));
    for client in &mut clients {
        let (first, body) = client.packet();
        assert_eq!((first, body.first()), (0xe0, Some(&0x8b)), "DISCONNECT, Server shutting down");
    }
    let lines: Vec<String> = log.try_iter().collect();
    assert!(lines.iter().any(|line| line.contains("stopped connections_served=1000")), "{lines:?}");
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_its_time() {
    let path = file("patient.toml", "[shutdown]\ntimeout = \"1h\"\n[mqtt]\noutbound_bytes_high = \"64MB\"\n");
    let broker = Broker::start(&["--listen", "mqtt://127.0.0.1:0", "--config", path.to_str().expect("text")]);
    let address = broker.addresses()[0];
    // What waits for this client fits into no socket's buffers, and it does not read: the stop waits for it.
    let (mut deaf, _) = Client::connect(address, "deaf");
    assert_eq!(deaf.subscribe("t"), 0);
    let (mut speaker, _) = Client::connect(address, "speaker");
    let publish = [b"\x30\x84\x80\x20\x00\x01t\x00".as_slice(), &[0; 512 << 10]].concat();
    for _ in 0..64 {
        speaker.stream.write_all(&publish).expect("the broker reads");
    }
    speaker.send(0xc0, &[]);
    assert_eq!(speaker.packet().0, 0xd0, "PINGRESP: all is published");
    broker.signal("TERM");
    broker.logged("stopping signal=SIGTERM");
    // Signals closer together than a quarter of a second count as one.
    let _elapsed = crossbeam_channel::after(Duration::from_millis(400)).recv();
    let log = broker.log.clone();
    assert_eq!(broker.stop("TERM").code(), Some(1));
    let lines: Vec<String> = log.iter().collect();
    assert!(lines.iter().any(|line| line.contains("stopped at once by a second signal")), "{lines:?}");
}

/// Longest wait for anything in these tests; a machine that is busy elsewhere needs seconds.
const PATIENCE: Duration = Duration::from_secs(20);
