//! Tests of the whole house, in one binary: see `it/`. `golden/` holds databases written by released versions.
