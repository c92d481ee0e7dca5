//! Scenario files: groups of clients, and the stages they go through.
//!
//! A [`Plan`] is read from TOML, checked as a whole, and never changed afterwards; whoever runs it finds templates
//! compiled, files loaded and defaults filled in.
//!
//! Reading order: `schema.rs` (plans and groups), `traffic.rs` (what they subscribe to and publish), `stage.rs`,
//! `verify.rs`; then `quantity.rs` and `template.rs`, of which the values are made.

mod audience;
mod command;
mod data;
mod document;
mod error;
mod explain;
mod field;
#[cfg(test)]
mod guide;
mod jwt;
mod library;
mod limits;
mod load;
mod parameters;
mod quantity;
mod schema;
mod source;
mod stage;
mod template;
mod traffic;
mod validate;
mod verify;

pub(crate) use command::{PlanArgs, explain_command, scenarios_command};
pub(crate) use data::Row;
pub(crate) use error::PlanError;
pub(crate) use load::load;
#[cfg(test)]
pub(crate) use quantity::Rate;
pub(crate) use schema::{Arrivals, Behaviour, Group, Leave, Malformation, Plan};
pub(crate) use source::Source;
pub(crate) use stage::{Factor, Fall, Stage, Until};
pub(crate) use template::{STAMP_MARK, STAMP_TEXT_BYTES, Scope, Template, Variable};
pub(crate) use traffic::{Expect, Pacing, Payload, Publish, Sparkplug, Subscription};
pub(crate) use verify::{Check, Verify};

/// Bytes of a payload of a group's first client, the stamp among them.
fn sample_length(plan: &Plan, group: &Group, payload: &Payload) -> usize {
    let row = group.data.as_ref().and_then(|name| plan.data.get(name)).and_then(|data| data.row(0));
    let mut dice = crate::dice::Dice::new(1);
    let client_id = audience::render(plan, group, &group.client_id, 0, 0, 0);
    payload.length(&mut Scope {
        index: 0,
        n: 0,
        seq: 0,
        group: &group.name,
        client_id: &client_id,
        run: 1,
        time_ms: 1_700_000_000_000,
        row,
        jwt: "",
        dice: &mut dice,
    })
}
