//! What stands behind a valid checksum: a change set, a description. Errors are fine; panics, hangs and half transactions are not.
#![no_main]

use ecsdb_core::{Description, Lsn, World};
use ecsdb_fuzz::{Counter, Name, Position};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut world = World::new();
    let mut open = world.begin();
    open.transaction().spawn((Counter(1), Name("a".into())));
    open.transaction().spawn(Position { x: 1.0, y: 2.0 });
    open.prepare().expect("prepares").commit(Lsn(1));
    // As it is replayed: types of this program, and bytes as they are.
    let applied = world.apply(Lsn(2), bytes);
    if applied.is_ok() {
        world.view().digest().ok();
    }
    let mut bare = World::new();
    if bare.apply(Lsn(1), bytes).is_ok() {
        bare.register_linked().ok();
    }
    if let Ok(description) = Description::from_bytes(bytes) {
        let again = Description::from_bytes(&description.to_bytes()).expect("what was read is written so that it reads");
        assert_eq!(description.fingerprint(), again.fingerprint());
    }
});
