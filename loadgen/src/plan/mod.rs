//! Scenario files: groups of clients, and the stages they go through.
//!
//! A [`Plan`] is read from TOML, checked as a whole, and never changed afterwards; whoever runs it finds templates
//! compiled, files loaded and defaults filled in.
//!
//! Reading order: `schema.rs` (plans and groups), `traffic.rs` (what they subscribe to and publish), `stage.rs`,
//! `verify.rs`; then `quantity.rs` and `template.rs`, of which the values are made.

mod data;
mod error;
mod field;
mod load;
mod quantity;
mod schema;
mod stage;
mod template;
mod traffic;
mod verify;

pub(crate) use data::{DataFile, Row};
pub(crate) use error::{PlanError, Problem};
pub(crate) use load::{Overrides, load};
pub(crate) use quantity::{Period, Rate, Share, Spread};
pub(crate) use schema::{
    Arrivals, Behaviour, Connect, Group, Jwt, JwtAlgorithm, Leave, Lifecycle, Malformation, Plan, Reconnect,
};
pub(crate) use stage::{Factor, Fall, Stage, Until};
pub(crate) use template::{STAMP_MARK, STAMP_TEXT_BYTES, Scope, Template, Variable};
pub(crate) use traffic::{Expect, Pacing, Payload, Publish, Sparkplug, Subscription, Will};
pub(crate) use verify::{Check, Verify};
