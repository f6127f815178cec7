//! The entity index: where each entity's row is, and which ids are free.
//!
//! Derived data: rebuilt when a database is loaded. Free slots form a list threaded through the slots themselves,
//! so that a view captures the allocator together with everything else, and ids are given out in the same order
//! after a restart as without one.

use crate::backlinks::Backlinks;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::raw::prefetch;
use crate::spine::Spine;

const LEAF_BITS: u32 = 10;
const LEAF: usize = 1 << LEAF_BITS;
/// No slot: the end of the free list.
pub(crate) const NONE: u32 = u32::MAX;
/// In [`Slot::archetype`]: nobody lives here, and [`Slot::row`] is the next free slot, or [`UNLISTED`].
const VACANT: u32 = u32::MAX;
/// In [`Slot::row`] of a vacant slot: it is not in the free list.
const UNLISTED: u32 = u32::MAX - 1;

/// Where an entity's row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) archetype: u32,
    /// Chunk and row within it; see [`crate::archetype::Shape`].
    pub(crate) row: u32,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    /// Of the entity that lives here, or of the next one; 0 when the slot is used up.
    generation: u32,
    archetype: u32,
    row: u32,
}

#[derive(Debug, Clone)]
struct Leaf([Slot; LEAF]);

#[derive(Debug, Clone)]
pub(crate) struct EntityIndex {
    leaves: Spine<Leaf>,
    /// Slots ever used.
    len: u32,
    free: u32,
    live: u32,
    /// Ids of lower generations, that no entity has, may have been given out by transactions which were rolled back in an earlier
    /// life of the database.
    floor: u32,
    /// What the next life's floor has to be, and what the log says it is.
    floor_next: u32,
    floor_logged: u32,
}

/// Generations that a new floor is ahead, so that few rolled back transactions have something to log.
const FLOOR_STEP: u32 = 256;

impl Default for EntityIndex {
    fn default() -> Self {
        EntityIndex {
            leaves: Spine::default(),
            len: 0,
            free: NONE,
            live: 0,
            floor: 0,
            floor_next: 0,
            floor_logged: 0,
        }
    }
}

impl EntityIndex {
    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    /// Slots ever used: every live index is below.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot> {
        if index >= self.len {
            return None;
        }
        self.leaves.get((index >> LEAF_BITS) as usize).map(|leaf| &leaf.0[index as usize & (LEAF - 1)])
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        if index >= self.len {
            return None;
        }
        self.leaves
            .get_mut((index >> LEAF_BITS) as usize)
            .map(|leaf| &mut leaf.0[index as usize & (LEAF - 1)])
    }

    #[inline]
    pub(crate) fn get(&self, entity: Entity) -> Option<Location> {
        let slot = self.slot(entity.index())?;
        (slot.generation == entity.generation() && slot.archetype != VACANT)
            .then_some(Location { archetype: slot.archetype, row: slot.row })
    }

    /// Has an entity's slot brought into the cache while other work goes on.
    #[inline]
    pub(crate) fn prefetch(&self, index: u32) {
        if let Some(slot) = self.slot(index) {
            prefetch(slot);
        }
    }

    /// Takes a free id, or a new one. Its location must be set before anything else happens.
    pub(crate) fn allocate(&mut self) -> Result<Entity> {
        let floor = self.floor;
        if floor == u32::MAX {
            return Err(Error::Full("the generations of entity ids are used up"));
        }
        if self.free != NONE {
            let index = self.free;
            if let Some(slot) = self.slot_mut(index) {
                let generation = slot.generation.max(floor);
                self.free = std::mem::replace(&mut slot.row, UNLISTED);
                return Ok(Entity::new(index, generation));
            }
        }
        let index = self.len;
        self.extend_to(index)?;
        Ok(Entity::new(index, floor.max(1)))
    }

    /// An id of this generation was given out and will mean nothing. In this life its slot has gone on to the next generation; the next
    /// life is told by the floor (REC-7).
    pub(crate) fn lose(&mut self, generation: u32) {
        if generation >= self.floor_next {
            self.floor_next = generation.saturating_add(1 + FLOOR_STEP);
        }
    }

    /// The floor that the log does not know yet.
    pub(crate) fn unlogged_floor(&self) -> Option<u32> {
        (self.floor_next > self.floor_logged).then_some(self.floor_next)
    }

    pub(crate) fn floor_logged(&mut self) {
        self.floor_logged = self.floor_next;
    }

    /// What a snapshot says that the next life's floor has to be.
    pub(crate) fn floor_next(&self) -> u32 {
        self.floor_next
    }

    /// For loading and replay: a floor that was logged. A lower one changes nothing.
    pub(crate) fn raise_floor(&mut self, floor: u32) {
        self.floor = self.floor.max(floor);
        self.floor_next = self.floor_next.max(floor);
        self.floor_logged = self.floor_logged.max(floor);
    }

    /// Makes slot `index` and all before it exist, vacant and unlisted.
    fn extend_to(&mut self, index: u32) -> Result<()> {
        if index >= NONE - LEAF as u32 {
            return Err(Error::Full("a database has at most 2^32 entity slots"));
        }
        while self.leaves.len() <= (index >> LEAF_BITS) as usize {
            self.leaves.push(Leaf([Slot { generation: 1, archetype: VACANT, row: UNLISTED }; LEAF]));
        }
        self.len = self.len.max(index + 1);
        Ok(())
    }

    /// Puts an entity, newly allocated or moved, at a location.
    pub(crate) fn place(&mut self, entity: Entity, location: Location) {
        let mut arrived = false;
        if let Some(slot) = self.slot_mut(entity.index()) {
            arrived = slot.archetype == VACANT;
            *slot =
                Slot { generation: entity.generation(), archetype: location.archetype, row: location.row };
        }
        self.live += u32::from(arrived);
    }

    /// Ends a life. The slot is not given out again before [`EntityIndex::list_free`].
    pub(crate) fn vacate(&mut self, entity: Entity) {
        if let Some(slot) = self.slot_mut(entity.index()) {
            let generation = entity.generation().wrapping_add(1);
            *slot = Slot { generation, archetype: VACANT, row: UNLISTED };
            self.live -= 1;
        }
    }

    /// Puts a vacated slot at the head of the free list, unless it is in it or its generations are used up.
    pub(crate) fn list_free(&mut self, index: u32) {
        let head = self.free;
        if let Some(slot) = self.slot_mut(index)
            && slot.archetype == VACANT
            && slot.row == UNLISTED
            && slot.generation != 0
        {
            slot.row = head;
            self.free = index;
        }
    }

    fn list_linked(&mut self, index: u32, links: &mut Backlinks) {
        let head = self.free;
        self.list_free(index);
        if self.free != head {
            links.link(index, head);
            links.link(NONE, index);
        }
    }

    /// For replay: takes the id `entity`, whatever the order of the free list. O(1) in the order of the log.
    pub(crate) fn claim(&mut self, entity: Entity, links: &mut Backlinks) -> Result<()> {
        const MALFORMED: Error =
            Error::Malformed { offset: 0, what: "an entity id is used twice, or is no id" };
        if entity.generation() == 0 {
            return Err(MALFORMED);
        }
        let index = entity.index();
        if index >= self.len {
            let first = self.len;
            self.extend_to(index)?;
            // Slots skipped on the way are free. There may be any number: a transaction that spawns and despawns leaves no word of that in the
            // log, and the next spawn takes the slot that was given up last.
            (first..index).for_each(|skipped| self.list_linked(skipped, links));
            return Ok(());
        }
        if self.slot(index).is_some_and(|slot| slot.archetype != VACANT) {
            return Err(MALFORMED);
        }
        self.unlist(index, links);
        Ok(())
    }

    fn unlist(&mut self, index: u32, links: &mut Backlinks) {
        let next = match self.slot(index) {
            Some(slot) if slot.archetype == VACANT && slot.row != UNLISTED => slot.row,
            _ => return,
        };
        if index == self.free {
            self.free = next;
            links.link(NONE, next);
        } else if let Some(before) = links.before(self, index) {
            if let Some(slot) = self.slot_mut(before) {
                slot.row = next;
            }
            links.link(before, next);
        }
        if let Some(slot) = self.slot_mut(index) {
            slot.row = UNLISTED;
        }
    }

    /// The highest generation that an id has had in a slot whose use is not the same in `other`; 0 without any. O(slots that they
    /// do not share).
    pub(crate) fn highest_generation_not_in(&self, other: &EntityIndex) -> u32 {
        let mut highest = 0;
        for (number, leaf) in self.leaves.iter().enumerate() {
            if other.leaves.get(number).is_some_and(|other| std::ptr::eq(other, leaf)) {
                continue;
            }
            for (i, slot) in leaf.0.iter().enumerate() {
                let other = other.slot(((number << LEAF_BITS) + i) as u32);
                let vacant = slot.archetype == VACANT;
                if other.is_some_and(|other| {
                    (other.generation, other.archetype == VACANT) == (slot.generation, vacant)
                }) {
                    continue;
                }
                // The next use of a vacant slot has not been given out; 0 is what comes after the last.
                highest = highest.max(slot.generation.wrapping_sub(u32::from(vacant)));
            }
        }
        highest
    }

    /// The free list from its head, as (slot, next generation).
    pub(crate) fn free_list(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = self.free;
        std::iter::from_fn(move || {
            let slot = self.slot(at)?;
            let item = (at, slot.generation);
            at = slot.row;
            Some(item)
        })
    }

    /// For loading: as many slots as there were, all vacant and unlisted.
    pub(crate) fn with_len(len: u32) -> Result<Self> {
        let mut index = EntityIndex::default();
        if len > 0 {
            index.extend_to(len - 1)?;
        }
        Ok(index)
    }

    /// For loading: places stored entities. False when a slot is taken or not there. O(entities); those that follow each other in the index cost less.
    pub(crate) fn load(&mut self, entities: impl Iterator<Item = (Entity, Location)>) -> bool {
        let mut at = (NONE, None::<&mut Leaf>);
        for (entity, Location { archetype, row }) in entities {
            let number = entity.index() >> LEAF_BITS;
            if at.0 != number {
                at = (number, self.leaves.get_mut(number as usize));
            }
            let slot = at.1.as_mut().map(|leaf| &mut leaf.0[entity.index() as usize & (LEAF - 1)]);
            match slot {
                Some(slot)
                    if slot.archetype == VACANT && entity.generation() != 0 && entity.index() < self.len =>
                {
                    *slot = Slot { generation: entity.generation(), archetype, row };
                    self.live += 1;
                }
                _ => return false,
            }
        }
        true
    }

    /// For loading: restores the free list, given from its head. False when a slot is taken or not there.
    pub(crate) fn load_free_list(&mut self, list: &[(u32, u32)]) -> bool {
        list.iter().rev().all(|&(index, generation)| {
            let head = self.free;
            match self.slot_mut(index) {
                Some(slot) if slot.archetype == VACANT && slot.row == UNLISTED => {
                    slot.generation = generation;
                    slot.row = head;
                    self.free = index;
                    true
                }
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Location = Location { archetype: 0, row: 0 };

    #[test]
    fn a_slot_is_reused_with_a_new_generation_and_the_old_id_stays_dead() {
        let mut index = EntityIndex::default();
        let a = index.allocate().unwrap();
        index.place(a, HERE);
        index.vacate(a);
        index.list_free(a.index());
        let b = index.allocate().unwrap();
        index.place(b, HERE);
        assert_eq!((a.index(), b.index()), (0, 0));
        assert_eq!((a.generation(), b.generation()), (1, 2));
        assert_eq!((index.get(a), index.get(b), index.live()), (None, Some(HERE), 1));
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_never_given_out_again() {
        let mut index = EntityIndex::default();
        assert!(index.extend_to(0).is_ok() && index.load_free_list(&[(0, u32::MAX)]));
        let last = index.allocate().unwrap();
        assert_eq!(last.generation(), u32::MAX);
        index.place(last, HERE);
        index.vacate(last);
        index.list_free(0);
        assert_eq!(index.allocate().unwrap(), Entity::new(1, 1));
    }

    #[test]
    fn the_free_list_survives_saving_and_claims_out_of_order() {
        let mut index = EntityIndex::default();
        let ids: Vec<_> = (0..600)
            .map(|_| {
                let id = index.allocate().unwrap();
                index.place(id, HERE);
                id
            })
            .collect();
        for id in [5, 300, 599, 7] {
            index.vacate(ids[id]);
            index.list_free(id as u32);
        }
        let list: Vec<_> = index.free_list().collect();
        assert_eq!(list, [(7, 2), (599, 2), (300, 2), (5, 2)]);
        let mut loaded = EntityIndex::with_len(600).unwrap();
        assert!(loaded.load_free_list(&list));
        assert!(!loaded.clone().load_free_list(&list), "a slot cannot be listed twice");
        loaded.claim(Entity::new(300, 2), &mut Backlinks::default()).unwrap();
        assert!(loaded.free_list().eq([(7, 2), (599, 2), (5, 2)]));
    }

    #[test]
    fn slots_are_taken_out_of_a_long_free_list_in_any_order() {
        let mut index = EntityIndex::with_len(5_000).unwrap();
        (0..5_000).for_each(|slot| index.list_free(slot));
        let mut expected: Vec<u32> = (0..5_000).rev().collect();
        let mut links = Backlinks::default();
        for i in 0..4_000u32 {
            let slot = i * 2_897 % 5_000;
            index.claim(Entity::new(slot, 1), &mut links).unwrap();
            expected.retain(|&listed| listed != slot);
            index.place(Entity::new(slot, 1), HERE);
            assert!(index.claim(Entity::new(slot, 1), &mut links).is_err());
            if i % 500 == 0 {
                let skipped = index.len();
                index.claim(Entity::new(skipped + 2, 1), &mut links).unwrap();
                expected.insert(0, skipped);
                expected.insert(0, skipped + 1);
            }
        }
        assert!(index.free_list().map(|(slot, _)| slot).eq(expected));
    }
}
