//! Whether what is followed is still what was seen: for a log and for a live view.

use ecsdb::Lsn;
use ecsdb_recovery::History;

use crate::place::Look;

/// A database that is looked at again and again, while another one, or an earlier state of it, may take its place.
#[derive(Default)]
pub(super) struct Followed {
    database: Option<u128>,
    /// The last look found an end before what was seen.
    ends_before: bool,
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Same,
    /// It ends before what was seen, and may have been looked at while it was written: the next look has to say the same.
    Earlier,
    /// Another database, or an earlier state.
    Another,
}

impl Followed {
    /// Compares what is there with what was seen up to `last`; before anything was, with nothing. Another one is that each time, until somebody
    /// [has gone over](Followed::goes_over) to it: who looks may fail, or see files that were not written to their end.
    pub(super) fn find(&mut self, look: &Look<'_>, history: &History<'_>, last: Option<Lsn>) -> Found {
        let is_end = history.lost().is_none();
        let ends_before = last.is_some_and(|last| is_end && end(look, history) < last);
        let there = look.manifest.database;
        if last.is_none() {
            self.database = None;
        }
        let is_another = *self.database.get_or_insert(there) != there;
        let is_so = std::mem::replace(&mut self.ends_before, ends_before);
        match ends_before {
            _ if is_another => Found::Another,
            true if is_so => Found::Another,
            true => Found::Earlier,
            false => Found::Same,
        }
    }

    /// What is there was seen, and is what is followed from now on.
    pub(super) fn goes_over(&mut self, look: &Look<'_>) {
        *self = Followed { database: Some(look.manifest.database), ends_before: false };
    }
}

/// The last transaction that is there, in the log or in a snapshot.
pub(super) fn end(look: &Look<'_>, history: &History<'_>) -> Lsn {
    let logged = history.range().map_or(Lsn::ZERO, |(_, (last, _))| last);
    logged.max(look.manifest.snapshots.last().map_or(Lsn::ZERO, |newest| Lsn(newest.lsn)))
}

#[cfg(test)]
mod tests {
    use ecsdb::Database;

    use super::*;
    use crate::place::Place;

    #[test]
    fn an_earlier_end_is_believed_the_second_time_and_another_database_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let db = Database::create_new(dir.path().join(name)).unwrap();
            for _ in 0..3 {
                db.write(|tx| Ok(tx.spawn(()))).unwrap();
            }
            db.close().unwrap();
            Place::of(dir.path().join(name)).settle().unwrap()
        };
        let (one, other) = (make("one"), make("other"));
        let followed = std::cell::RefCell::new(Followed::default());
        let find = |settled: &crate::place::Settled, last: Option<u64>| {
            let mut followed = followed.borrow_mut();
            settled.look(|look| Ok(followed.find(look, &look.history()?, last.map(Lsn)))).unwrap()
        };
        let go_over = |settled: &crate::place::Settled| {
            settled
                .look(|look| {
                    followed.borrow_mut().goes_over(look);
                    Ok(())
                })
                .unwrap();
        };
        use Found::{Another, Earlier, Same};
        assert_eq!([find(&one, None), find(&one, Some(3)), find(&one, Some(2))], [Same; 3]);
        assert_eq!([find(&one, Some(4)), find(&one, Some(3)), find(&one, Some(4))], [Earlier, Same, Earlier]);
        assert_eq!([find(&one, Some(4)), find(&one, Some(4))], [Another; 2], "nobody has gone over to it");
        assert_eq!([find(&other, Some(3)), find(&other, Some(3))], [Another; 2]);
        assert_eq!(find(&one, Some(3)), Same, "it was put back");
        go_over(&other);
        assert_eq!([find(&other, Some(3)), find(&one, Some(3))], [Same, Another]);
        go_over(&one);
        assert_eq!([find(&one, Some(3)), find(&one, Some(4))], [Same, Earlier]);
        assert_eq!(find(&other, None), Same, "nothing was shown of the first one");
        assert_eq!([find(&other, Some(3)), find(&one, Some(3))], [Same, Another]);
    }
}
