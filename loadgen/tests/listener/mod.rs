//! A listener on the loopback device that answers CONNECT and SUBSCRIBE, closes after DISCONNECT, and does nothing else.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use dunlin_wire::packet::{ConnAck, ReasonCodes, ReasonProperties, SubAck};
use dunlin_wire::{Limits, Packet, ReasonCode, Version, decode_one};

/// Listens; tells its address, who comes, and which filters are asked for. `proxied`: expects a PROXY header of version 2
/// and tells the client that it names.
pub(crate) fn listen(address: &str, proxied: bool) -> (SocketAddr, Receiver<SocketAddr>, Receiver<String>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell_peer, peers) = channel();
    let (tell_filter, filters) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (tell_peer, tell_filter) = (tell_peer.clone(), tell_filter.clone());
            std::thread::spawn(move || {
                let mut peer = stream.peer_addr().unwrap();
                if proxied {
                    peer.set_ip(named_client(&mut stream));
                }
                tell_peer.send(peer).ok();
                answer(stream, &tell_filter);
            });
        }
    });
    (address, peers, filters)
}

/// The client in a PROXY header for IPv4.
fn named_client(stream: &mut TcpStream) -> IpAddr {
    let mut header = [0; 28];
    stream.read_exact(&mut header).unwrap();
    assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0C");
    let client: [u8; 4] = header[16..20].try_into().unwrap();
    IpAddr::from(client)
}

fn answer(mut stream: TcpStream, tell: &Sender<String>) {
    let mut pending = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        pending.extend_from_slice(&chunk[..count]);
        while let Some((packet, used)) = decode_one(&pending, Version::V311, &Limits::SERVER).unwrap() {
            let mut bytes = Vec::new();
            let reply = match packet {
                Packet::Connect(_) => Packet::ConnAck(ConnAck::default()),
                Packet::Subscribe(subscribe) => {
                    // Nobody listens any more when the test is over.
                    subscribe.filters().for_each(|asked| drop(tell.send(asked.filter.to_owned())));
                    Packet::SubAck(SubAck {
                        packet_id: subscribe.packet_id,
                        properties: ReasonProperties::NONE,
                        codes: ReasonCodes::from_slice(&[ReasonCode::Success]),
                    })
                }
                Packet::Disconnect(_) => return,
                other => panic!("the generator sent {other:?}"),
            };
            reply.encode(Version::V311, &mut bytes).unwrap();
            pending.drain(..used);
            stream.write_all(&bytes).ok();
        }
    }
}
