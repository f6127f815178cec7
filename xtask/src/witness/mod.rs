//! What `kill` and `powercut` share: a history in which the state at each LSN is known, a process that writes it, and the judge of what
//! is found afterwards.

mod child;
mod history;
mod judge;
mod lines;

pub(crate) use child::{Args as ChildArgs, run as child};
pub(crate) use history::History;
pub(crate) use judge::{Claims, judge};
pub(crate) use lines::parse;
