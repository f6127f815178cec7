//! Walking the matching chunks, shared or to be written.

use arrayvec::ArrayVec;
use triomphe::Arc;

use super::{Found, Place, Query, Slot, Slots};
use crate::archetype::{Archetype, Chunk, ids_of};
use crate::raw::prefetch;
use crate::root::Root;
use crate::schema::Schema;
use crate::shells::unshared;
use crate::spine;
use crate::transaction::TransactionState;
use crate::world::World;

/// The results of a query, entity by entity; [`QueryIter::chunks`] gives them as slices.
///
/// The order is that of the chunks in memory: the same from one call to the next while nothing is spawned,
/// despawned, inserted or removed, and otherwise unspecified.
pub struct QueryIter<'a, Q: Query> {
    chunks: Chunks<'a, Q>,
    rows: Option<Q::Rows<'a>>,
}

/// The results of a query, chunk by chunk: slices of equal length, for loops that the compiler vectorises.
pub struct Chunks<'a, Q: Query> {
    walk: Walk<'a>,
    /// Where the archetype at hand has each term's column.
    found: Found,
    /// Slices looked up ahead, the next one last, each with its rows.
    ready: ArrayVec<(Q::Slices<'a>, usize), BATCH_MAX>,
    /// How many are looked up at a time.
    batch: usize,
}

/// Chunks looked up at a time at most. Each lookup follows a chain of pointers that are seldom in the cache; the
/// processor follows many chains at once when nothing else stands between them, and none while it works on a
/// chunk's rows (`docs/architecture.md` has the measurement).
const BATCH_MAX: usize = 8;

pub(crate) enum Walk<'a> {
    Read(ReadWalk<'a>),
    Write(WriteWalk<'a>),
    /// Of a query that failed: nothing.
    Nothing,
}

pub(crate) struct ReadWalk<'a> {
    root: &'a Root,
    archetypes: spine::Iter<'a, Archetype>,
    /// The archetypes that match, for a query that knows.
    known: Option<std::slice::Iter<'a, (u32, Found)>>,
    chunks: Option<spine::Iter<'a, Chunk>>,
}

pub(crate) struct WriteWalk<'a> {
    schema: &'a Schema,
    archetypes: spine::IterMut<'a, Archetype>,
    /// Number of the next archetype.
    next: u32,
    known: Option<std::slice::Iter<'a, (u32, Found)>>,
    /// Archetype, its chunks, and the number of the next one.
    chunks: Option<(u32, spine::IterMut<'a, Chunk>, usize)>,
    state: &'a mut TransactionState,
    lsn: u64,
}

impl<'a> ReadWalk<'a> {
    pub(crate) fn new(root: &'a Root, known: Option<std::slice::Iter<'a, (u32, Found)>>) -> Self {
        ReadWalk { root, archetypes: root.archetypes.iter(), known, chunks: None }
    }
}

impl<'a> WriteWalk<'a> {
    fn new(
        root: &'a mut Root,
        state: &'a mut TransactionState,
        known: Option<std::slice::Iter<'a, (u32, Found)>>,
    ) -> Self {
        let lsn = root.lsn + 1;
        let Root { schema, archetypes, .. } = root;
        WriteWalk { schema, archetypes: archetypes.iter_mut(), next: 0, known, chunks: None, state, lsn }
    }
}

impl<'a, Q: Query> QueryIter<'a, Q> {
    pub(crate) fn new(walk: Walk<'a>) -> Self {
        let chunks = Chunks { walk, found: Found::new(), ready: ArrayVec::new(), batch: 1 };
        QueryIter { chunks, rows: None }
    }

    /// Over the world of the transaction under way, whose component types are registered.
    pub(crate) fn of_transaction(
        world: &'a mut World,
        known: Option<std::slice::Iter<'a, (u32, Found)>>,
    ) -> Self {
        let World { root, tx, .. } = world;
        QueryIter::new(match Q::WRITES {
            true => Walk::Write(WriteWalk::new(Arc::make_mut(root), tx, known)),
            false => Walk::Read(ReadWalk::new(root, known)),
        })
    }

    /// The results chunk by chunk; first the rows that are left of the chunk at hand, if some of it were given already.
    pub fn chunks(mut self) -> Chunks<'a, Q> {
        if let Some(rows) = self.rows.take() {
            let left = rows.size_hint().0;
            if left > 0 {
                // There is room: the chunk at hand was taken from there.
                self.chunks.ready.push((Q::rest(rows), left));
            }
        }
        self.chunks
    }
}

impl<'a, Q: Query> Iterator for QueryIter<'a, Q> {
    type Item = Q::Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Q::Item<'a>> {
        loop {
            if let Some(rows) = &mut self.rows
                && let Some(item) = rows.next()
            {
                return Some(item);
            }
            self.rows = Some(Q::rows(self.chunks.next()?));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let here = self.rows.as_ref().map_or(0, |rows| rows.size_hint().0);
        let rows = here + self.chunks.rows_left();
        (rows, Some(rows))
    }

    /// Chunk by chunk, so that `for_each` and its kin have a plain inner loop.
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        let mut value = match self.rows {
            Some(rows) => rows.fold(init, &mut f),
            None => init,
        };
        for slices in self.chunks {
            value = Q::rows(slices).fold(value, &mut f);
        }
        value
    }
}

/// Whether an entity matches depends on its components alone, so that the number of results is known. O(archetypes).
impl<Q: Query> ExactSizeIterator for QueryIter<'_, Q> {}

impl<'a, Q: Query> Iterator for Chunks<'a, Q> {
    type Item = Q::Slices<'a>;

    #[inline]
    fn next(&mut self) -> Option<Q::Slices<'a>> {
        if self.ready.is_empty() {
            self.look_up();
        }
        self.ready.pop().map(|(slices, _)| slices)
    }
}

impl<'a, Q: Query> Chunks<'a, Q> {
    #[inline(never)]
    fn look_up(&mut self) {
        for _ in 0..self.batch {
            match self.advance() {
                Some(slices) => self.ready.push(slices),
                None => break,
            }
        }
        self.ready.reverse();
        // Few at first, since what is looked up to be written is also kept as it was: a caller that wants one
        // entity should not pay for many chunks.
        self.batch = (self.batch * 2).min(BATCH_MAX);
    }

    /// The slices of the next chunk that has rows, and how many.
    fn advance(&mut self) -> Option<(Q::Slices<'a>, usize)> {
        let Chunks { walk, found, .. } = self;
        let mut slots = Slots::new();
        loop {
            let ids = match walk {
                Walk::Read(walk) => {
                    let chunk = walk.next_chunk::<Q>(found)?;
                    slots.clear();
                    for place in &*found {
                        if let Place::Read(column) = *place {
                            slots.push((column, Slot::Shared(&chunk.columns[column].block)));
                        }
                    }
                    chunk.ids()
                }
                Walk::Write(write) => {
                    let (archetype, index, chunk) = write.next_chunk::<Q>(found)?;
                    if chunk.len() == 0 {
                        continue;
                    }
                    let chunk = Arc::make_mut(chunk);
                    let (state, lsn) = (&mut *write.state, write.lsn);
                    let kept = found.iter().try_for_each(|place| match *place {
                        Place::Write(column) => {
                            state.image(&mut chunk.columns[column], archetype, index, column, lsn)
                        }
                        _ => Ok(()),
                    });
                    if let Err(e) = kept {
                        // What could not be put back must not be handed out: the commit fails.
                        write.state.fail(e);
                        *walk = Walk::Nothing;
                        return None;
                    }
                    slots.clear();
                    take_columns(chunk, found, &mut slots)
                }
                Walk::Nothing => return None,
            };
            if ids.is_empty() {
                continue;
            }
            // A column of another type than the query's cannot be: the schema maps each type to one component.
            if let Some(slices) = Q::slices(&mut found.iter(), &mut slots, ids) {
                return Some((slices, ids.len()));
            }
        }
    }

    /// Rows that are still to come. O(archetypes).
    fn rows_left(&self) -> usize {
        let ready: usize = self.ready.iter().map(|(_, rows)| rows).sum();
        let rows = |chunks: spine::Iter<'_, Chunk>| chunks.map(Chunk::len).sum::<usize>();
        ready
            + match &self.walk {
                Walk::Read(walk) => {
                    let rest = match &walk.known {
                        Some(known) => {
                            known.clone().map(|(id, _)| walk.root.archetype(*id).len).sum::<usize>()
                        }
                        None => count::<Q>(&walk.root.schema, walk.archetypes.clone()),
                    };
                    rest + walk.chunks.clone().map_or(0, rows)
                }
                Walk::Write(walk) => {
                    walk.rows_left::<Q>()
                        + walk.chunks.as_ref().map_or(0, |(_, chunks, _)| rows(chunks.rest()))
                }
                Walk::Nothing => 0,
            }
    }
}

fn count<'s, Q: Query>(schema: &Schema, archetypes: impl Iterator<Item = &'s Archetype>) -> usize {
    let mut found = Found::new();
    let matching = archetypes.filter(|archetype| {
        found.clear();
        Q::find(schema, &archetype.shape, &mut found)
    });
    matching.map(|archetype| archetype.len).sum()
}

impl<'a> ReadWalk<'a> {
    #[inline]
    fn next_chunk<Q: Query>(&mut self, found: &mut Found) -> Option<&'a Chunk> {
        loop {
            if let Some(chunks) = &mut self.chunks
                && let Some(chunk) = chunks.next()
            {
                prefetch_ahead(found, |n| chunks.ahead(n));
                return Some(chunk);
            }
            self.chunks = match &mut self.known {
                Some(known) => {
                    let (archetype, places) = known.next()?;
                    found.clone_from(places);
                    Some(self.root.archetype(*archetype).chunks.iter())
                }
                None => {
                    let archetype = self.archetypes.next()?;
                    found.clear();
                    Q::find(&self.root.schema, &archetype.shape, found).then(|| archetype.chunks.iter())
                }
            };
        }
    }
}

impl<'a> WriteWalk<'a> {
    #[inline]
    fn next_chunk<Q: Query>(&mut self, found: &mut Found) -> Option<(u32, usize, &'a mut Arc<Chunk>)> {
        loop {
            if let Some((archetype, chunks, next)) = &mut self.chunks
                && let Some(chunk) = chunks.next()
            {
                prefetch_ahead(found, |n| chunks.ahead(n));
                *next += 1;
                return Some((*archetype, *next - 1, chunk));
            }
            self.chunks = match &mut self.known {
                Some(known) => {
                    let (wanted, places) = known.next()?;
                    found.clone_from(places);
                    let archetype = self.archetypes.nth((*wanted - self.next) as usize)?;
                    self.next = *wanted + 1;
                    Some((*wanted, Arc::make_mut(archetype).chunks.iter_mut(), 0))
                }
                None => {
                    let archetype = self.archetypes.next()?;
                    self.next += 1;
                    found.clear();
                    Q::find(self.schema, &archetype.shape, found)
                        .then(|| (self.next - 1, Arc::make_mut(archetype).chunks.iter_mut(), 0))
                }
            };
        }
    }

    /// Rows of the archetypes that are still to come.
    fn rows_left<Q: Query>(&self) -> usize {
        match &self.known {
            Some(known) => {
                let mut known = known.clone().map(|(id, _)| *id).peekable();
                let left = (self.next..).zip(self.archetypes.rest());
                left.filter(|(id, _)| known.next_if_eq(id).is_some())
                    .map(|(_, archetype)| archetype.len)
                    .sum()
            }
            None => count::<Q>(self.schema, self.archetypes.rest()),
        }
    }
}

/// The columns that a query asks for, each once, and the ids.
pub(super) fn take_columns<'a>(
    chunk: &'a mut Chunk,
    found: &Found,
    slots: &mut Slots<'a>,
) -> &'a [crate::entity::Entity] {
    let Chunk { columns, entities, .. } = chunk;
    let writes = |i: usize| found.contains(&Place::Write(i));
    let asked =
        |i: usize| found.iter().any(|place| matches!(place, Place::Read(c) | Place::Write(c) if *c == i));
    let last = found.iter().filter_map(|place| match place {
        Place::Read(column) | Place::Write(column) => Some(*column),
        Place::Absent | Place::Present => None,
    });
    let last = last.max().map_or(0, |last| last + 1);
    for (i, column) in columns[..last].iter_mut().enumerate().filter(|(i, _)| asked(*i)) {
        let slot =
            if writes(i) { Slot::Unique(unshared(&mut column.block)) } else { Slot::Shared(&column.block) };
        slots.push((i, slot));
    }
    ids_of(&entities.block)
}

/// Has what the walk will follow on its way before it is needed, one pointer of the chain after the other.
#[inline]
fn prefetch_ahead<'c>(found: &[Place], ahead: impl Fn(usize) -> Option<&'c Chunk>) {
    if let Some(chunk) = ahead(11) {
        prefetch(chunk);
    }
    if let Some(chunk) = ahead(7) {
        prefetch(&*chunk.columns);
    }
    if let Some(chunk) = ahead(3) {
        prefetch(&*chunk.entities.block);
        for at in found {
            if let Place::Read(column) | Place::Write(column) = at {
                prefetch(&*chunk.columns[*column].block);
            }
        }
    }
}
