//! The deterministic simulator: several shard cores, client models and a faulty network in one thread and virtual time.
//!
//! A seed draws a [`plan::Plan`], the [`world::World`] plays it, [`run::run`] judges it. The same seed gives the same trace.
//! Failing seeds are kept in `seeds/regressions.txt` and run in every test.

#![forbid(unsafe_code)]

pub mod canary;
mod client;
mod invariants;
pub mod log;
pub mod plan;
pub mod rng;
pub mod run;
pub mod storage_plan;
mod workload;
pub mod world;
