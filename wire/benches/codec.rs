//! Nanoseconds per packet for what a broker does most. A plain program: `cargo bench -p dunlin-wire`.
//!
//! Each line is the least of several rounds, so that a busy machine shows little. Expected, on a core of
//! about 3 GHz: decoding a PUBLISH of 3.1.1 about 20 ns, of 5.0 with five properties about 100 ns;
//! writing the head of a forwarded one about 10 ns; an acknowledgement about 10 ns either way.

use std::hint::black_box;
use std::time::{Duration, Instant};

use dunlin_wire::packet::{Ack, PublishProperties};
use dunlin_wire::{
    Limits, Packet, PacketId, PacketType, PublishHead, QoS, ReasonCode, Version, decode_one, decoder, encoder,
};

/// A topic as devices use them.
const TOPIC: &str = "devices/0123456789/sensors/temperature";
/// Packets in a round.
const PACKETS: u32 = 100_000;

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn main() {
    let v3 = publish_bytes(Version::V311, &[]);
    let v5 = publish_bytes(Version::V5, &[]);
    let properties = five_properties();
    let v5_full = publish_bytes(Version::V5, &properties);
    let ack = [0x40, 2, 0x12, 0x34];
    let limits = Limits::SERVER;
    let decode = |bytes: &[u8], version| {
        measure(|| {
            let packet = decode_one(black_box(bytes), version, &limits);
            black_box(packet.is_ok())
        })
    };
    println!("decode PUBLISH 3.1.1                 {:6.1} ns", decode(&v3, Version::V311));
    println!("decode PUBLISH 5.0                   {:6.1} ns", decode(&v5, Version::V5));
    println!("decode PUBLISH 5.0, five properties  {:6.1} ns", decode(&v5_full, Version::V5));
    println!("decode PUBACK 3.1.1                  {:6.1} ns", decode(&ack, Version::V311));
    let body = &v3[3..];
    let direct = measure(|| {
        let publish = decoder::publish(Version::V311, 0x32, black_box(body), &limits);
        black_box(publish.is_ok())
    });
    println!("decode PUBLISH 3.1.1, body only      {direct:6.1} ns");
    let mut out = Vec::with_capacity(4_096);
    for (name, version, forwarded) in [
        ("head of PUBLISH 3.1.1", Version::V311, &[][..]),
        ("head of PUBLISH 5.0", Version::V5, &[]),
        ("head of PUBLISH 5.0, five properties", Version::V5, &properties),
    ] {
        let head = head(forwarded);
        let time = measure(|| {
            out.clear();
            let written = encoder::publish(&mut out, version, black_box(&head));
            black_box(written.is_ok())
        });
        println!("{name:36} {time:6.1} ns");
    }
    let ack = Packet::PubAck(Ack::success(PacketId::FIRST));
    let time = measure(|| {
        out.clear();
        black_box(black_box(&ack).encode(Version::V5, &mut out).is_ok())
    });
    println!("encode PUBACK 5.0                    {time:6.1} ns");
    let time = measure(|| {
        out.clear();
        encoder::ack(
            &mut out,
            Version::V5,
            PacketType::PubAck,
            black_box(PacketId::FIRST),
            ReasonCode::Success,
        );
        black_box(out.is_empty())
    });
    println!("short PUBACK                         {time:6.1} ns");
    let parsed = PublishProperties::parse(&properties, &limits).expect("written by us");
    let time = measure(|| {
        out.clear();
        black_box(&parsed).write_forwardable(&mut out);
        black_box(out.is_empty())
    });
    println!("write_forwardable, five properties   {time:6.1} ns");
}

/// A forwarded PUBLISH of QoS 1 with 128 B of payload.
fn head(forwarded: &[u8]) -> PublishHead<'_> {
    PublishHead {
        qos: QoS::AtLeastOnce,
        topic: TOPIC,
        packet_id: Some(PacketId::FIRST),
        forwarded,
        payload_len: 128,
        ..PublishHead::default()
    }
}

/// The whole packet.
fn publish_bytes(version: Version, forwarded: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encoder::publish(&mut bytes, version, &head(forwarded)).expect("a valid head");
    bytes.extend_from_slice(&[7; 128]);
    bytes
}

/// Content type, response topic, correlation data and two user properties, in wire form.
fn five_properties() -> Vec<u8> {
    let pairs = [("site", "berlin-7"), ("trace", "4bf92f3577b34da6")];
    let properties = PublishProperties {
        content_type: Some("application/json"),
        response_topic: Some("devices/0123456789/answers"),
        correlation_data: Some(&[1, 2, 3, 4, 5, 6, 7, 8]),
        user_properties: dunlin_wire::packet::UserProperties::from_pairs(&pairs),
        ..PublishProperties::default()
    };
    let mut wire = Vec::new();
    properties.write_forwardable(&mut wire);
    wire
}

/// Nanoseconds of one call, the least of all rounds.
fn measure(mut call: impl FnMut() -> bool) -> f64 {
    // `cargo test` runs benches too, without this argument: then once is enough.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { 20 } else { 1 };
    let mut least = Duration::MAX;
    for _ in 0..rounds {
        let start = now();
        for _ in 0..PACKETS {
            black_box(call());
        }
        least = least.min(now().duration_since(start));
    }
    least.as_secs_f64() * 1e9 / f64::from(PACKETS)
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
    Instant::now()
}
