//! Sparkplug-B edge nodes: births, data and the death certificate, as far as a load lab needs them.
//!
//! A payload is a Protocol Buffers message with timestamp (1), metrics (2), seq (3) and body (5). Metrics have a name and
//! an alias in births, and the alias alone in data. The body, at the end, is the stamp that verification needs.

use super::postmark::Place;
use crate::plan::{Scope, Sparkplug};
use crate::stamp::STAMP_BYTES;

/// What an edge node counts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Node {
    /// The sequence number of the next message, 0 to 255.
    sequence: u8,
    /// Whose turn it is to report.
    device: u16,
}

impl Node {
    const fn next_sequence(&mut self) -> u8 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }
}

/// A topic of a node, or of one of its devices.
pub(crate) fn topic(plan: &Sparkplug, kind: &str, device: Option<u16>, scope: &mut Scope<'_>) -> String {
    let mut out = Vec::new();
    write_topic(plan, kind, device, scope, &mut out);
    String::from_utf8(out).expect("every part of a template is UTF-8")
}

fn write_topic(plan: &Sparkplug, kind: &str, device: Option<u16>, scope: &mut Scope<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"spBv1.0/");
    plan.group_id.render(scope, out);
    out.push(b'/');
    out.extend_from_slice(kind.as_bytes());
    out.push(b'/');
    plan.edge_node.render(scope, out);
    if let Some(device) = device {
        out.extend_from_slice(format!("/device-{device}").as_bytes());
    }
}

/// The payload of NDEATH: which birth it belongs to.
pub(crate) fn death(birth: u64, out: &mut Vec<u8>) -> Place {
    out.clear();
    birth_death_sequence(birth, out);
    finish(out)
}

/// NBIRTH of a node (`device` is `None`), the `life`th, or DBIRTH of a device: all metrics by name. Topic and payload are
/// written over what is in `topic` and `out`.
pub(crate) fn birth(
    plan: &Sparkplug,
    node: &mut Node,
    (device, life): (Option<u16>, u64),
    scope: &mut Scope<'_>,
    topic: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Place {
    let kind = if device.is_none() { "NBIRTH" } else { "DBIRTH" };
    write_topic(plan, kind, device, scope, topic);
    out.clear();
    put_number(TIMESTAMP, scope.time_ms, out);
    if device.is_none() {
        birth_death_sequence(life, out);
    }
    // With devices behind it a node has no metrics of its own.
    if device.is_some() || plan.devices == 0 {
        for metric in 0..plan.metrics {
            put_metric(metric, true, scope, out);
        }
    }
    put_number(SEQ, u64::from(node.next_sequence()), out);
    finish(out)
}

/// NDATA of a node or DDATA of its next device: some metrics by alias.
pub(crate) fn data(
    plan: &Sparkplug,
    node: &mut Node,
    scope: &mut Scope<'_>,
    topic: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Place {
    let device = (plan.devices > 0).then(|| {
        let device = node.device;
        node.device = (device + 1) % plan.devices;
        device
    });
    write_topic(plan, if device.is_none() { "NDATA" } else { "DDATA" }, device, scope, topic);
    out.clear();
    put_number(TIMESTAMP, scope.time_ms, out);
    let metrics = plan.metrics.max(1);
    let first = u16::try_from(scope.dice.below(u32::from(metrics))).unwrap_or(0);
    for step in 0..plan.changing.min(metrics) {
        put_metric((first + step) % metrics, false, scope, out);
    }
    put_number(SEQ, u64::from(node.next_sequence()), out);
    finish(out)
}

/// Appends the body, with room for the stamp.
fn finish(out: &mut Vec<u8>) -> Place {
    out.push(BODY << 3 | LENGTH_DELIMITED);
    put_varint(STAMP_BYTES as u64, out);
    out.resize(out.len() + STAMP_BYTES, 0);
    Place::End
}

fn birth_death_sequence(value: u64, out: &mut Vec<u8>) {
    let mut metric = Vec::new();
    put_bytes(METRIC_NAME, b"bdSeq", &mut metric);
    put_number(METRIC_DATATYPE, DATATYPE_INT64, &mut metric);
    put_number(METRIC_LONG, value % 256, &mut metric);
    put_bytes(METRICS, &metric, out);
}

fn put_metric(number: u16, by_name: bool, scope: &mut Scope<'_>, out: &mut Vec<u8>) {
    let mut metric = Vec::with_capacity(40);
    if by_name {
        put_bytes(METRIC_NAME, format!("Metrics/Value {number}").as_bytes(), &mut metric);
    }
    put_number(METRIC_ALIAS, u64::from(number), &mut metric);
    put_number(METRIC_TIMESTAMP, scope.time_ms, &mut metric);
    put_number(METRIC_DATATYPE, DATATYPE_DOUBLE, &mut metric);
    let value = f64::from(scope.dice.below(1_000_000)) / 1_000.0;
    metric.push(METRIC_DOUBLE << 3 | FIXED_64);
    metric.extend_from_slice(&value.to_le_bytes());
    put_bytes(METRICS, &metric, out);
}

fn put_number(field: u8, value: u64, out: &mut Vec<u8>) {
    out.push(field << 3);
    put_varint(value, out);
}

fn put_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | LENGTH_DELIMITED);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

const LENGTH_DELIMITED: u8 = 2;
const FIXED_64: u8 = 1;
// Fields of a Sparkplug payload.
const TIMESTAMP: u8 = 1;
const METRICS: u8 = 2;
const SEQ: u8 = 3;
const BODY: u8 = 5;
// Fields of a metric.
const METRIC_NAME: u8 = 1;
const METRIC_ALIAS: u8 = 2;
const METRIC_TIMESTAMP: u8 = 3;
const METRIC_DATATYPE: u8 = 4;
const METRIC_LONG: u8 = 11;
const METRIC_DOUBLE: u8 = 13;
// Data types of Sparkplug.
const DATATYPE_INT64: u64 = 4;
const DATATYPE_DOUBLE: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::plan::Rate;

    /// Fields of a message and where each ends; the payload of a length-delimited one.
    fn fields(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some((tag, rest)) = bytes.split_first() {
            bytes = rest;
            let mut varint = || {
                let mut value = 0_u64;
                for shift in (0..).step_by(7) {
                    let (byte, rest) = bytes.split_first().unwrap();
                    bytes = rest;
                    value |= u64::from(byte & 0x7F) << shift;
                    if byte & 0x80 == 0 {
                        break;
                    }
                }
                value
            };
            let length = match tag & 7 {
                0 => {
                    found.push((tag >> 3, varint().to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => usize::try_from(varint()).unwrap(),
                other => panic!("wire type {other}"),
            };
            let (value, rest) = bytes.split_at(length);
            bytes = rest;
            found.push((tag >> 3, value.to_vec()));
        }
        found
    }

    #[test]
    fn births_and_data_are_whole_messages_with_a_rising_sequence() {
        let plan = Sparkplug {
            group_id: "plant".parse().unwrap(),
            edge_node: "node-{index}".parse().unwrap(),
            devices: 2,
            metrics: 5,
            changing: 2,
            qos: dunlin_wire::QoS::AtMostOnce,
            rate: Some(Rate::ONE),
            per_client: None,
            arrivals: crate::plan::Arrivals::Constant,
        };
        let mut dice = Dice::new(1);
        let mut scope = Scope {
            index: 3,
            n: 0,
            seq: 0,
            group: "",
            client_id: "",
            run: 0,
            time_ms: 1_700_000_000_000,
            row: None,
            jwt: "",
            dice: &mut dice,
        };
        let (mut node, mut topic, mut out) = (Node::default(), Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for device in [None, Some(0), Some(1)] {
            birth(&plan, &mut node, (device, 1), &mut scope, &mut topic, &mut out);
            seen.push((String::from_utf8(topic.clone()).unwrap(), fields(&out)));
        }
        for _ in 0..3 {
            data(&plan, &mut node, &mut scope, &mut topic, &mut out);
            seen.push((String::from_utf8(topic.clone()).unwrap(), fields(&out)));
        }
        let topics: Vec<&str> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(
            topics,
            [
                "spBv1.0/plant/NBIRTH/node-3",
                "spBv1.0/plant/DBIRTH/node-3/device-0",
                "spBv1.0/plant/DBIRTH/node-3/device-1",
                "spBv1.0/plant/DDATA/node-3/device-0",
                "spBv1.0/plant/DDATA/node-3/device-1",
                "spBv1.0/plant/DDATA/node-3/device-0",
            ]
        );
        for ((_, fields), sequence) in seen.iter().zip(0_u64..) {
            let seq = &fields.iter().find(|(field, _)| *field == SEQ).unwrap().1;
            assert_eq!(seq, &sequence.to_le_bytes());
            assert_eq!(fields.last().unwrap().0, BODY);
            assert_eq!(fields.last().unwrap().1.len(), STAMP_BYTES);
        }
        let metrics = |index: usize| seen[index].1.iter().filter(|(field, _)| *field == METRICS).count();
        assert_eq!([metrics(0), metrics(1), metrics(3)], [1, 5, 2]);
    }
}
