//! Queries that remember which archetypes match.

use std::marker::PhantomData;

use triomphe::Arc;

use super::{Found, Query, QueryIter, ReadQuery, ReadWalk, Walk};
use crate::archetype::Shape;
use crate::error::Result;
use crate::root::Root;
use crate::schema::Schema;
use crate::transaction::Transaction;
use crate::view::View;

/// A query that remembers which archetypes match, for worlds with many of them and few entities in each. It may be used with any
/// world, transaction and view: what it knows is checked each time, and looked up anew where it does not hold.
///
/// ```
/// use ecsdb_core::{Component, Lsn, Prepared, World};
///
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "hp", plain)]
/// #[repr(C)]
/// struct Hp(u32);
///
/// let mut wounded = Prepared::<&mut Hp>::new();
/// let mut world = World::new();
/// for lsn in 1..4 {
///     let mut open = world.begin();
///     let tx = open.transaction();
///     tx.spawn(Hp(10));
///     wounded.query(tx).for_each(|hp| hp.0 -= 1);
///     open.prepare()?.commit(Lsn(lsn));
/// }
/// # Ok::<(), ecsdb_core::Error>(())
/// ```
pub struct Prepared<Q> {
    /// Archetypes that match, and where they have each term; by number.
    matching: Vec<(u32, Found)>,
    /// Archetypes looked at so far, and what the last of them and the schema were: an archetype and what stands before it in the
    /// same world never change.
    looked_at: usize,
    last: Option<Arc<Shape>>,
    schema: Option<Arc<Schema>>,
    _query: PhantomData<fn() -> Q>,
}

impl<Q: Query> Default for Prepared<Q> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q> std::fmt::Debug for Prepared<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prepared({} of {} archetypes match)", self.matching.len(), self.looked_at)
    }
}

impl<Q: Query> Prepared<Q> {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        let () = Q::VALID;
        Prepared { matching: Vec::new(), looked_at: 0, last: None, schema: None, _query: PhantomData }
    }

    /// As [`Transaction::query`].
    pub fn query<'a>(&'a mut self, tx: &'a mut Transaction<'_>) -> QueryIter<'a, Q> {
        if let Err(e) = Q::register(tx.world) {
            tx.world.tx.fail(e);
            return QueryIter::new(Walk::Nothing);
        }
        self.look_at(&tx.world.root);
        QueryIter::of_transaction(tx.world, Some(self.matching.iter()))
    }

    /// As [`View::query`].
    ///
    /// # Errors
    /// As of [`View::query`].
    pub fn view<'a>(&'a mut self, view: &'a View) -> Result<QueryIter<'a, Q>>
    where
        Q: ReadQuery,
    {
        let root = view.root();
        Q::check(&root.schema)?;
        self.look_at(root);
        Ok(QueryIter::new(Walk::Read(ReadWalk::new(root, Some(self.matching.iter())))))
    }

    /// Looks at the archetypes that it does not know. O(1) where there are none.
    fn look_at(&mut self, root: &Root) {
        let same_schema = self.schema.as_ref().is_some_and(|schema| Arc::ptr_eq(schema, &root.schema));
        let same_last = match (self.looked_at.checked_sub(1), &self.last) {
            (Some(last), Some(shape)) => {
                root.archetypes.get(last).is_some_and(|archetype| Arc::ptr_eq(&archetype.shape, shape))
            }
            _ => true,
        };
        if !same_schema || !same_last {
            self.matching.clear();
            self.looked_at = 0;
            self.schema = Some(root.schema.clone());
        } else if self.looked_at == root.archetypes.len() {
            return;
        }
        let mut found = Found::new();
        for id in self.looked_at..root.archetypes.len() {
            let Some(archetype) = root.archetypes.get(id) else { break };
            found.clear();
            if Q::find(&root.schema, &archetype.shape, &mut found) {
                self.matching.push((id as u32, found.clone()));
            }
            self.last = Some(archetype.shape.clone());
        }
        self.looked_at = root.archetypes.len();
    }
}
