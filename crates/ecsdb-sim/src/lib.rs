//! A simulated disk with faults, a virtual clock, and schedules of crashes.

#![forbid(unsafe_code)]
