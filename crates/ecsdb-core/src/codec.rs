//! The bytes of a change set: numbers, ids and runs of ids. `docs/format/changes.md` is the specification.

use crate::entity::Entity;
use crate::error::{Error, Result};

/// The operations of a change set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    DefineComponent = 1,
    Spawn = 2,
    SpawnRun = 3,
    Despawn = 4,
    Insert = 5,
    Remove = 6,
    Write = 7,
    WriteRun = 8,
    PutResource = 9,
    RemoveResource = 10,
    Retire = 11,
}

impl Op {
    pub(crate) fn from_byte(byte: u8) -> Option<Op> {
        Some(match byte {
            1 => Op::DefineComponent,
            2 => Op::Spawn,
            3 => Op::SpawnRun,
            4 => Op::Despawn,
            5 => Op::Insert,
            6 => Op::Remove,
            7 => Op::Write,
            8 => Op::WriteRun,
            9 => Op::PutResource,
            10 => Op::RemoveResource,
            11 => Op::Retire,
            _ => return None,
        })
    }
}

/// Ids in one run operation: bounds what a few bytes can make a reader do.
pub(crate) const RUN_IDS_MAX: usize = 1 << 16;

/// LEB128: seven bits a byte, least significant first.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(crate) fn put_entity(out: &mut Vec<u8>, entity: Entity) {
    put_varint(out, u64::from(entity.index()));
    put_varint(out, u64::from(entity.generation()));
}

/// Consecutive indices of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdRun {
    pub(crate) start: u32,
    pub(crate) len: u32,
    pub(crate) generation: u32,
}

/// Writes ids as runs: their number, then for each the distance of its start from the end of the one before
/// (zigzag), its length and its generation. At most [`RUN_IDS_MAX`] ids.
pub(crate) fn put_ids(out: &mut Vec<u8>, ids: impl Iterator<Item = Entity> + Clone) {
    let mut runs = 0;
    each_run(ids.clone(), |_| runs += 1);
    put_varint(out, runs);
    let mut end = 0i64;
    each_run(ids, |run| {
        let distance = i64::from(run.start) - end;
        put_varint(out, ((distance << 1) ^ (distance >> 63)) as u64);
        put_varint(out, u64::from(run.len));
        put_varint(out, u64::from(run.generation));
        end = i64::from(run.start) + i64::from(run.len);
    });
}

fn each_run(ids: impl Iterator<Item = Entity>, mut each: impl FnMut(IdRun)) {
    let mut current: Option<IdRun> = None;
    for id in ids {
        match &mut current {
            Some(run)
                if id.index() == run.start.wrapping_add(run.len) && id.generation() == run.generation =>
            {
                run.len += 1;
            }
            other => {
                let next = IdRun { start: id.index(), len: 1, generation: id.generation() };
                if let Some(run) = other.replace(next) {
                    each(run);
                }
            }
        }
    }
    if let Some(run) = current {
        each(run);
    }
}

/// Reads what the functions above write; never beyond the end, never allocating from what it reads.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(crate) fn malformed<T>(&self, what: &'static str) -> Result<T> {
        Err(Error::Malformed { offset: self.at, what })
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8> {
        match self.bytes.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => self.malformed("the bytes end too early"),
        }
    }

    #[inline]
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        match self.at.checked_add(n).and_then(|end| self.bytes.get(self.at..end)) {
            Some(bytes) => {
                self.at += n;
                Ok(bytes)
            }
            None => self.malformed("the bytes end too early"),
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.malformed("a number has more than 64 bits")
    }

    #[inline]
    pub(crate) fn varint_u32(&mut self) -> Result<u32> {
        match u32::try_from(self.varint()?) {
            Ok(value) => Ok(value),
            Err(_) => self.malformed("a number has more than 32 bits"),
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    #[inline]
    pub(crate) fn entity(&mut self) -> Result<Entity> {
        let index = self.varint_u32()?;
        Ok(Entity::new(index, self.varint_u32()?))
    }

    /// Reads runs of ids into `runs` (replacing what was there) and returns how many ids they are.
    pub(crate) fn ids(&mut self, runs: &mut Vec<IdRun>) -> Result<usize> {
        runs.clear();
        let n = self.varint()?;
        let (mut end, mut total) = (0i64, 0usize);
        for _ in 0..n {
            let zigzag = self.varint()?;
            let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            let start = end.checked_add(distance).and_then(|start| u32::try_from(start).ok());
            let (len, generation) = (self.varint_u32()?, self.varint_u32()?);
            total = total.saturating_add(len as usize);
            let Some(start) = start.filter(|s| len > 0 && s.checked_add(len - 1).is_some()) else {
                return self.malformed("a run of ids is out of bounds");
            };
            if total > RUN_IDS_MAX {
                return self.malformed("a run operation has more than 65,536 ids");
            }
            end = i64::from(start) + i64::from(len);
            runs.push(IdRun { start, len, generation });
        }
        Ok(total)
    }
}

impl IdRun {
    pub(crate) fn entity(self, i: u32) -> Entity {
        Entity::new(self.start + i, self.generation)
    }

    pub(crate) fn ids(self) -> impl Iterator<Item = Entity> {
        (0..self.len).map(move |i| self.entity(i))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(value: u64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint().unwrap(), value);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn ids_read_back(ids in proptest::collection::vec((0u32..50, 1u32..3), 0..40), far: u32) {
            let ids: Vec<_> = ids.iter().map(|&(i, g)| Entity::new(i, g)).chain([Entity::new(far, 1)]).collect();
            let mut out = Vec::new();
            put_ids(&mut out, ids.iter().copied());
            let mut runs = Vec::new();
            prop_assert_eq!(Reader::new(&out).ids(&mut runs).unwrap(), ids.len());
            prop_assert!(runs.iter().flat_map(|run| run.ids()).eq(ids));
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::new(&bytes);
            let mut runs = Vec::new();
            while reader.ids(&mut runs).is_ok() && !reader.is_empty() {}
        }
    }

    #[test]
    fn a_chunk_of_ids_in_order_takes_a_few_bytes() {
        let mut out = Vec::new();
        put_ids(&mut out, (1000..3048).map(|i| Entity::new(i, 1)));
        assert_eq!(out.len(), 6);
    }
}
