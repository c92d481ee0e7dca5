//! The floor tool: what this machine asks for the socket pattern of a broker, without any MQTT.
//!
//! Same ring as a shard's edge (direct descriptors, multishot receive into provided buffers, one send per
//! connection per tick), same bytes on the wire; but routes are agreed upon once per connection
//! (`greeting.rs`), and from then on bytes are forwarded as they came (`switch.rs`). At QoS 1 and 2 it answers
//! with the acknowledgements that a broker would send, copying two bytes of packet id. Whatever a broker needs
//! beyond the floor's processor time is its own doing.

mod greeting;
mod switch;

pub(crate) use switch::serve;
