//! What `cargo xtask kill` and `powercut` share: a history in which the state at each LSN is known, a process that writes it, and the
//! judge of what is found afterwards.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "tools stand beside the engine: their own files are not its files"
)]

mod child;
mod history;
mod judge;
mod lines;

pub use child::{Args, command_line, run};
pub use history::History;
pub use judge::{Claims, judge};
pub use lines::{Line, parse};
