//! A stored value that its type refuses closes its component, not the database: in a snapshot and in the log.

use std::sync::atomic::{AtomicBool, Ordering};

use ecsdb::WorldError;
use ecsdb::prelude::*;
use rkyv::bytecheck::Verify;
use rkyv::rancor::{Fallible, Source};

use crate::components::Position;

/// What the type accepts changes with the program's mood, as it may with a new version of a library.
static STRICT: AtomicBool = AtomicBool::new(false);

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "test.fussy", archived)]
#[rkyv(bytecheck(verify))]
struct Fussy(u8);

#[derive(Debug, thiserror::Error)]
#[error("seven is not liked any more")]
struct Seven;

// SAFETY: nothing is said of the bytes that was not true before.
unsafe impl<C: Fallible<Error: Source> + ?Sized> Verify<C> for ArchivedFussy {
    fn verify(&self, _: &mut C) -> Result<(), C::Error> {
        if STRICT.load(Ordering::Relaxed) && self.0 == 7 {
            return Err(Source::new(Seven));
        }
        Ok(())
    }
}

#[test]
fn a_value_that_its_type_refuses_closes_its_component_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // In the log, in the snapshot; and in the log behind a snapshot, by which the type is known.
    for snapshot in ["none", "all", "before"] {
        let path = dir.path().join(snapshot);
        let position = Position { x: 3.0, y: 4.0 };
        let db = Database::open(&path).unwrap();
        if snapshot == "before" {
            db.write(|tx| Ok(tx.spawn((Fussy(1), position)))).unwrap();
            db.snapshot().unwrap().wait().unwrap();
        }
        let ids = db.write(|tx| Ok(tx.spawn_batch((5..9).map(|n| (Fussy(n), position))))).unwrap();
        let digest = db.view().unwrap().digest().unwrap();
        if snapshot == "all" {
            db.snapshot().unwrap().wait().unwrap();
        }
        db.close().unwrap();

        STRICT.store(true, Ordering::Relaxed);
        let db = Database::open(&path).unwrap();
        let report = db.recovery_report().unwrap();
        assert!(
            matches!(&report.closed[..], [closed] if closed.component == "test.fussy" && closed.why.contains("seven"))
        );
        assert_eq!(report.data_loss, ecsdb::DataLoss::None);
        let view = db.view().unwrap();
        assert_eq!(view.digest().unwrap(), digest, "the bytes are kept");
        assert_eq!(view.get::<Position>(ids[2]).unwrap(), &position);
        let closed = |e: WorldError| assert!(matches!(e, WorldError::Unreadable { .. }), "{e}");
        closed(view.get::<Fussy>(ids[0]).map(drop).unwrap_err());
        closed(view.query::<&Fussy>().map(drop).unwrap_err());
        let refused = db.write(|tx| Ok(tx.insert(ids[0], Fussy(1))?)).unwrap_err();
        assert!(refused.to_string().contains("is closed"), "{refused}");
        // The others go on, and what is closed goes along with its entity.
        db.write(|tx| Ok(tx.get_mut::<Position>(ids[2])?.x = 9.0)).unwrap();
        db.write(|tx| Ok(tx.despawn(ids[3])?)).unwrap();
        db.snapshot().unwrap().wait().unwrap();
        db.close().unwrap();

        STRICT.store(false, Ordering::Relaxed);
        let db = Database::open(&path).unwrap();
        let view = db.view().unwrap();
        let others = usize::from(snapshot == "before");
        assert_eq!((view.len() - others, view.get::<Fussy>(ids[2]).unwrap()), (3, &Fussy(7)));
        assert_eq!(view.get::<Position>(ids[2]).unwrap().x, 9.0);
    }
}
