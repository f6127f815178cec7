//! The command line of ecsdb.

#![forbid(unsafe_code)]

fn main() {}
