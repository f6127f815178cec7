//! Walking the matching chunks, shared or to be written.

use triomphe::Arc;

use super::Query;
use super::term::{Found, Slot};
use crate::archetype::{Archetype, Chunk, Column};
use crate::raw::prefetch;
use crate::schema::Schema;
use crate::spine;
use crate::transaction::TransactionState;

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
    walk: Option<Walk<'a>>,
    schema: Arc<Schema>,
    /// Where the archetype at hand has each term's column.
    found: Vec<Found>,
    slots: Vec<Slot<'a>>,
    /// Slices looked up ahead, the next one last.
    ready: Vec<Q::Slices<'a>>,
    /// How many are looked up at a time.
    batch: usize,
}

/// Chunks looked up at a time at most. Each lookup follows a chain of pointers that are seldom in the cache; the
/// processor follows many chains at once when nothing else stands between them, and none while it works on a
/// chunk's rows (`docs/architecture.md` has the measurement).
const BATCH_MAX: usize = 32;

pub(crate) enum Walk<'a> {
    Shared {
        archetypes: spine::Iter<'a, Archetype>,
        chunks: Option<spine::Iter<'a, Chunk>>,
    },
    Unique {
        archetypes: std::iter::Enumerate<spine::IterMut<'a, Archetype>>,
        /// Archetype, its chunks, and the number of the next one.
        chunks: Option<(u32, spine::IterMut<'a, Chunk>, usize)>,
        state: &'a mut TransactionState,
        lsn: u64,
    },
}

impl<'a, Q: Query> QueryIter<'a, Q> {
    pub(crate) fn new(walk: Option<Walk<'a>>, schema: Arc<Schema>) -> Self {
        let (found, slots, ready) = (Vec::new(), Vec::new(), Vec::new());
        let chunks = Chunks { walk, schema, found, slots, ready, batch: 1 };
        QueryIter { chunks, rows: None }
    }

    /// The results chunk by chunk. Rows of a chunk that were already given stay given.
    pub fn chunks(self) -> Chunks<'a, Q> {
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

impl<'a, Q: Query> Iterator for Chunks<'a, Q> {
    type Item = Q::Slices<'a>;

    #[inline]
    fn next(&mut self) -> Option<Q::Slices<'a>> {
        if self.ready.is_empty() {
            self.look_up();
        }
        self.ready.pop()
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

    fn advance(&mut self) -> Option<Q::Slices<'a>> {
        let Chunks { walk, schema, found, slots, .. } = self;
        loop {
            let ids = match walk.as_mut()? {
                Walk::Shared { archetypes, chunks } => {
                    let Some(chunk) = chunks.as_mut().and_then(Iterator::next) else {
                        let archetype = archetypes.next()?;
                        found.clear();
                        *chunks = Q::find(schema, &archetype.shape, found).then(|| archetype.chunks.iter());
                        continue;
                    };
                    if let Some(chunks) = chunks {
                        prefetch_ahead(found, |n| chunks.ahead(n));
                    }
                    slots.clear();
                    slots.extend(chunk.columns.iter().map(|column| Slot::Shared(&column.block)));
                    chunk.ids()
                }
                Walk::Unique { archetypes, chunks, state, lsn } => {
                    let next = match chunks {
                        Some((archetype, chunks, next)) => chunks.next().map(|chunk| {
                            prefetch_ahead(found, |n| chunks.ahead(n));
                            *next += 1;
                            (*archetype, *next - 1, chunk)
                        }),
                        None => None,
                    };
                    let Some((archetype, index, chunk)) = next else {
                        let (id, archetype) = archetypes.next()?;
                        found.clear();
                        *chunks = Q::find(schema, &archetype.shape, found)
                            .then(|| (id as u32, Arc::make_mut(archetype).chunks.iter_mut(), 0));
                        continue;
                    };
                    if chunk.len() == 0 {
                        continue;
                    }
                    let chunk = Arc::make_mut(chunk);
                    for (term, at) in Q::ACCESS.iter().zip(&*found) {
                        if let (super::Mode::Write, Found::Column(column)) = (term.mode, *at) {
                            state.image(&mut chunk.columns[column], archetype, index, column, *lsn);
                        }
                    }
                    slots.clear();
                    let writes = |i: usize| {
                        Q::ACCESS.iter().zip(&*found).any(|(term, at)| {
                            term.mode == super::Mode::Write
                                && matches!(at, Found::Column(column) if *column == i)
                        })
                    };
                    let Chunk { columns, entities, .. } = chunk;
                    slots.extend(columns.iter_mut().enumerate().map(|(i, column)| {
                        if writes(i) {
                            Slot::Unique(Arc::make_mut(&mut column.block))
                        } else {
                            let column: &Column = column;
                            Slot::Shared(&column.block)
                        }
                    }));
                    crate::archetype::ids_of(&entities.block)
                }
            };
            if ids.is_empty() {
                continue;
            }
            // A column of another type than the query's cannot be: the schema maps each type to one component.
            if let Some(slices) = Q::slices(found, slots, ids) {
                return Some(slices);
            }
        }
    }
}

/// Has what the walk will follow on its way before it is needed, one pointer of the chain after the other.
#[inline]
fn prefetch_ahead<'c>(found: &[Found], ahead: impl Fn(usize) -> Option<&'c Chunk>) {
    if let Some(chunk) = ahead(11) {
        prefetch(chunk);
    }
    if let Some(chunk) = ahead(7) {
        prefetch(&*chunk.columns);
    }
    if let Some(chunk) = ahead(3) {
        prefetch(&*chunk.entities.block);
        for at in found {
            if let Found::Column(column) = at {
                prefetch(&*chunk.columns[*column].block);
            }
        }
    }
}
