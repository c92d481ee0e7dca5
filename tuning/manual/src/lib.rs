//! Manual pages and shell completions, made from what the programs themselves know.
//!
//! A test of each program renders its pages and compares them with the files in `tuning/package/`, so that a flag
//! cannot change without its page. Only tests depend on this package; the programs carry nothing of it.
//!
//! Reading order: `program.rs` (a page from a command line), `prose.rs` (text as roff), `shipped.rs` (the comparison).

#![forbid(unsafe_code)]

mod program;
mod prose;
mod shipped;

pub use program::{Program, bash_completion};
pub use prose::Page;
pub use shipped::check;
