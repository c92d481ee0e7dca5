//! Settings of a host that runs an MQTT broker: what each should be, why, and how to undo it.
//!
//! Pure logic over values, with one edge ([`host`]) that reads and writes files below a root. It prints nothing and knows
//! no command line; `dunlin tune` does both.
//!
//! Reading order: [`setting`] and [`rule`] are the words, [`catalogue`] the shipped settings and profiles (data in
//! `tuning/profiles/`), [`places`] where a setting is on a host, [`survey`] the comparison, [`apply`] and [`revert`] the
//! changes, [`state`] what is remembered for the way back, [`page`] what people and programs are shown.
#![forbid(unsafe_code)]

pub mod apply;
pub mod catalogue;
pub mod cpus;
pub mod ethtool;
pub mod facts;
pub mod host;
pub mod limits;
pub mod owned;
pub mod page;
pub mod places;
pub mod revert;
pub mod rule;
pub mod setting;
pub mod shipped;
pub mod state;
pub mod survey;
pub mod tuned;
