//! Packets as the client needs them: a narrow view of the codecs.

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V31,
    V311,
    V5,
}
/// Quality of Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QoS {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

/// The four acknowledgements of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    PubAck = 0x40,
    PubRec = 0x50,
    PubRel = 0x62,
    PubComp = 0x70,
}

/// A packet from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbound<'a> {
    ConnAck { code: u8, receive_max: u16 },
    Publish { topic: &'a [u8], payload: &'a [u8], qos: QoS, id: u16 },
    Ack { kind: AckKind, id: u16, reason: u8 },
    SubAck { codes: &'a [u8] },
    UnsubAck,
    PingResp,
    Disconnect { reason: u8 },
}

use crate::client::Fault;

fn varint(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut value = 0;
    for index in 0..4 {
        let Some(byte) = bytes.get(index) else { return Ok(None) };
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    Err(Fault::Malformed("remaining length"))
}

pub(crate) fn decode(version: Version, bytes: &[u8]) -> Result<Option<(Inbound<'_>, usize)>, Fault> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, used)) = varint(rest)? else { return Ok(None) };
    let Some(body) = rest.get(used..used + length) else { return Ok(None) };
    let v5 = version == Version::V5;
    let short = Fault::Malformed("short packet");
    let id_at = |at: usize| body.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]])).ok_or(short);
    let skip_props = |at: usize| -> Result<usize, Fault> {
        if !v5 {
            return Ok(at);
        }
        let (n, u) = varint(body.get(at..).ok_or(short)?)?.ok_or(short)?;
        Ok(at + n + u)
    };
    let inbound = match first >> 4 {
        2 => {
            Inbound::ConnAck { code: *body.get(1).ok_or(short)?, receive_max: if v5 { 20 } else { u16::MAX } }
        }
        3 => {
            let qos = match first >> 1 & 3 {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                2 => QoS::ExactlyOnce,
                _ => return Err(Fault::Malformed("qos")),
            };
            let n = usize::from(id_at(0)?);
            let topic = body.get(2..2 + n).ok_or(short)?;
            let mut at = 2 + n;
            let id = if qos == QoS::AtMostOnce {
                0
            } else {
                at += 2;
                id_at(at - 2)?
            };
            let at = skip_props(at)?;
            Inbound::Publish { topic, payload: body.get(at..).ok_or(short)?, qos, id }
        }
        4 => Inbound::Ack { kind: AckKind::PubAck, id: id_at(0)?, reason: body.get(2).copied().unwrap_or(0) },
        5 => Inbound::Ack { kind: AckKind::PubRec, id: id_at(0)?, reason: body.get(2).copied().unwrap_or(0) },
        6 => Inbound::Ack { kind: AckKind::PubRel, id: id_at(0)?, reason: body.get(2).copied().unwrap_or(0) },
        7 => {
            Inbound::Ack { kind: AckKind::PubComp, id: id_at(0)?, reason: body.get(2).copied().unwrap_or(0) }
        }
        9 => Inbound::SubAck { codes: body.get(skip_props(2)?..).ok_or(short)? },
        11 => Inbound::UnsubAck,
        13 => Inbound::PingResp,
        14 => Inbound::Disconnect { reason: body.first().copied().unwrap_or(0) },
        _ => return Err(Fault::Malformed("packet type")),
    };
    Ok(Some((inbound, 1 + used + length)))
}

fn put_varint(mut n: usize, out: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(n & 0x7F).unwrap_or(0);
        n >>= 7;
        out.push(if n > 0 { byte | 0x80 } else { byte });
        if n == 0 {
            return;
        }
    }
}
fn put_str(s: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(s.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(s.as_bytes());
}
fn put_packet(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    put_varint(body.len(), out);
    out.extend_from_slice(body);
}

pub(crate) fn write_connect(version: Version, client_id: &str, keep_alive_seconds: u16, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    let (name, level) = match version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    put_str(name, &mut body);
    body.push(level);
    body.push(2);
    body.extend_from_slice(&keep_alive_seconds.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    put_str(client_id, &mut body);
    put_packet(0x10, &body, out);
}
pub(crate) fn write_subscribe(version: Version, id: u16, filters: &[String], qos: QoS, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    body.extend_from_slice(&id.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    for f in filters {
        put_str(f, &mut body);
        body.push(qos as u8);
    }
    put_packet(0x82, &body, out);
}
pub(crate) fn write_unsubscribe(version: Version, id: u16, filters: &[String], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    body.extend_from_slice(&id.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    for f in filters {
        put_str(f, &mut body);
    }
    put_packet(0xA2, &body, out);
}
pub(crate) fn write_publish(
    version: Version,
    topic: &str,
    payload: &[u8],
    qos: QoS,
    id: u16,
    out: &mut Vec<u8>,
) {
    out.push(0x30 | (qos as u8) << 1);
    let v5 = usize::from(version == Version::V5);
    put_varint(2 + topic.len() + payload.len() + if qos == QoS::AtMostOnce { 0 } else { 2 } + v5, out);
    put_str(topic, out);
    if qos != QoS::AtMostOnce {
        out.extend_from_slice(&id.to_be_bytes());
    }
    if v5 == 1 {
        out.push(0);
    }
    out.extend_from_slice(payload);
}
pub(crate) fn write_ack(_version: Version, kind: AckKind, id: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind as u8, 2]);
    out.extend_from_slice(&id.to_be_bytes());
}
pub(crate) fn write_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xC0, 0]);
}
pub(crate) fn qos_number(qos: QoS) -> u8 {
    qos as u8
}
