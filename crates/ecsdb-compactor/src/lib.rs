//! When and how snapshots and logs are merged, archived and deleted.

#![forbid(unsafe_code)]
