//! Runs of entity ids, which make the ids of a whole chunk a few bytes.

use crate::codec::{Reader, put_varint};
use crate::entity::Entity;
use crate::error::Result;

/// Ids in one operation: bounds what a few bytes can make a reader do.
pub(crate) const IDS_MAX: usize = 1 << 16;

/// Consecutive indices of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRun {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) generation: u32,
}

impl IdRun {
    pub(crate) fn entity(self, i: u32) -> Entity {
        Entity::new(self.start + i, self.generation)
    }

    pub(crate) fn ids(self) -> impl Iterator<Item = Entity> {
        (0..self.len).map(move |i| self.entity(i))
    }
}

/// Writes ids as runs: their number, then for each the distance of its start from the end of the one before
/// (zigzag), its length and its generation. At most [`IDS_MAX`] ids.
pub(crate) fn put_ids(out: &mut Vec<u8>, mut ids: &[Entity], runs: &mut Vec<IdRun>) {
    runs.clear();
    while let Some(first) = ids.first() {
        let len = run_len(ids);
        runs.push(IdRun { start: first.index(), len: len as u32, generation: first.generation() });
        ids = &ids[len..];
    }
    put_varint(out, runs.len() as u64);
    let mut end = 0i64;
    for run in runs {
        let distance = i64::from(run.start) - end;
        put_varint(out, ((distance << 1) ^ (distance >> 63)) as u64);
        put_varint(out, u64::from(run.len));
        put_varint(out, u64::from(run.generation));
        end = i64::from(run.start) + i64::from(run.len);
    }
}

/// How many of the ids follow one another from the first on.
fn run_len(ids: &[Entity]) -> usize {
    // Looked at without a branch for each, so that the compiler takes several at a time.
    const AT_ONCE: usize = 32;
    let first = ids[0].to_bits();
    let follows = |i: usize, id: Entity| id.to_bits() == first.wrapping_add(i as u64);
    let mut len = 1;
    for block in ids.chunks(AT_ONCE) {
        let at = len - 1;
        let all = block.iter().enumerate().fold(true, |all, (i, id)| all & follows(at + i, *id));
        if !all {
            let more = block.iter().enumerate().take_while(|&(i, id)| follows(at + i, *id)).count();
            return (at + more).min(1 << 31);
        }
        len += block.len();
    }
    len - 1
}

/// The ids of an operation, checked when it was decoded.
#[derive(Debug, Clone)]
pub(crate) struct Ids<'a> {
    reader: Reader<'a>,
    runs: u64,
    end: i64,
    /// Ids in all runs.
    pub(crate) total: usize,
}

impl<'a> Ids<'a> {
    /// Reads past the ids, checking each run.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Ids<'a>> {
        let runs = reader.varint()?;
        let mut ids = Ids { reader: reader.clone(), runs, end: 0, total: 0 };
        let mut end = 0;
        for _ in 0..runs {
            let run = take_run(reader, &mut end)?;
            ids.total = ids.total.saturating_add(run.len as usize);
            if ids.total > IDS_MAX {
                return reader.malformed("an operation has more than 65,536 ids");
            }
        }
        Ok(ids)
    }

    /// The first id, if there is one.
    #[inline]
    pub(crate) fn first(reader: &mut Reader<'a>) -> Option<Entity> {
        let runs = reader.varint().ok()?;
        (runs > 0).then(|| take_run(reader, &mut 0).ok())?.map(|run| run.entity(0))
    }

    /// The ids one by one.
    pub(crate) fn entities(self) -> impl Iterator<Item = Entity> {
        self.flat_map(IdRun::ids)
    }
}

impl Iterator for Ids<'_> {
    type Item = IdRun;

    #[inline]
    fn next(&mut self) -> Option<IdRun> {
        self.runs = self.runs.checked_sub(1)?;
        // Checked in `decode`.
        take_run(&mut self.reader, &mut self.end).ok()
    }
}

#[inline]
fn take_run(reader: &mut Reader<'_>, end: &mut i64) -> Result<IdRun> {
    let zigzag = reader.varint()?;
    let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    let start = end.checked_add(distance).and_then(|start| u32::try_from(start).ok());
    let (len, generation) = (reader.varint_u32()?, reader.varint_u32()?);
    let Some(start) = start.filter(|s| len > 0 && generation > 0 && s.checked_add(len - 1).is_some()) else {
        return reader.malformed("a run of ids is out of bounds");
    };
    *end = i64::from(start) + i64::from(len);
    Ok(IdRun { start, len, generation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_read_back(ids in proptest::collection::vec((0u32..50, 1u32..3), 0..40), far: u32) {
            let ids: Vec<_> = ids.iter().map(|&(i, g)| Entity::new(i, g)).chain([Entity::new(far, 1)]).collect();
            let mut out = Vec::new();
            put_ids(&mut out, &ids, &mut Vec::new());
            let mut reader = Reader::new(&out);
            let read = Ids::decode(&mut reader).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert_eq!(read.total, ids.len());
            prop_assert!(read.entities().eq(ids));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::new(&bytes);
            while Ids::decode(&mut reader).is_ok_and(|ids| ids.entities().count() > 0) && !reader.is_empty() {}
        }
    }

    #[test]
    fn a_chunk_of_ids_in_order_takes_a_few_bytes() {
        let mut out = Vec::new();
        let ids: Vec<_> = (1000..3048).map(|i| Entity::new(i, 1)).collect();
        put_ids(&mut out, &ids, &mut Vec::new());
        assert_eq!(out.len(), 6);
    }
}
