//! Tests that need the whole house, in one binary.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests spoil files behind the back of the engine, and fail by panicking"
)]

use ecsdb_tests::components;

mod applied_meanwhile;
mod archive_end;
mod archive_refuses;
mod archive_waits;
mod away;
mod away_at_random;
mod bad_files;
mod bad_sectors;
mod beside_another_life;
mod blamed;
mod bounds;
mod calls;
mod clocks;
mod closed_meanwhile;
mod copied_meanwhile;
mod covered;
mod crash_lifecycle;
mod crash_points;
mod crash_scheduler;
mod cut_short;
mod damage;
mod damage_at_random;
mod facade;
mod full_disk;
mod golden;
mod held;
mod holes;
mod in_both;
mod kept;
mod lifecycle;
mod listed;
mod liveness;
mod lives;
mod lives_at_random;
mod locks;
mod manifests;
mod model;
mod not_given;
mod not_given_once;
mod odd_numbers;
mod one_at_a_time;
mod out_of_reach;
mod own_files;
mod owned;
mod past;
mod places;
mod put_back;
mod reconfigure;
mod regressions;
mod rotten;
mod rotten_base;
mod rules;
mod salvage;
mod sigkill;
mod testing;
mod two_lives;
mod undone;
mod unlisted;
mod unread;
mod unreadable;
mod waiting;
mod wakers;
mod wanted;
mod watch;
