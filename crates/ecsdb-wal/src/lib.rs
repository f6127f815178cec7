//! The write-ahead log: ordered opaque records, segments, group commit, rotation, replay.

#![forbid(unsafe_code)]
