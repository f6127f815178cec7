//! What the world keeps for the transaction under way: its marks, what it takes to undo it, and buffers that the next
//! transaction uses again, so that a small one allocates nothing.

use super::marks::{ColumnPlace, Marks, Saved};
use super::undo::Step;
use crate::archetype::{Chunk, Column};
use crate::buffers::reset;
use crate::change_set::Encoder;
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::raw::{Arena, At, Block, Ops, Room, prefetch};
use crate::root::{Resource, Root};
use crate::schema::ComponentId;
use crate::stored_value::StoredValue;

#[derive(Default)]
pub(crate) struct TransactionState {
    pub(crate) marks: Marks,
    pub(crate) undo: Vec<Step>,
    /// Values from before, and rows taken out.
    pub(crate) arena: Arena,
    /// Where in the arena the values of rows taken out are; undo steps name ranges.
    pub(crate) places: Vec<At>,
    /// Resources that have a step: what they were at the beginning is kept.
    pub(crate) resources_kept: Vec<ComponentId>,
    /// Entities that existed when the transaction began, and do no more.
    pub(crate) despawned: Vec<Entity>,
    /// Slots vacated, to be given out again once this is committed.
    pub(crate) freed: Vec<u32>,
    /// The highest generation of an id that was given out and will mean nothing; 0 for none.
    pub(crate) lost_generation: u32,
    pub(crate) encoder: Encoder,
    pub(crate) scratch: [Vec<u8>; 2],
    pub(crate) rows: Vec<u32>,
    /// Marks of a row that moves to another archetype, with their columns there.
    pub(crate) on_the_way: Vec<(usize, Saved)>,
    /// What a method that returns no `Result` could not do: the commit will fail with it.
    pub(crate) failed: Option<Error>,
    /// A transaction has begun, and not ended.
    pub(crate) open: bool,
    /// An operation is under way.
    pub(crate) busy: bool,
    /// A panic ended one, and was caught: what it did is not known.
    pub(crate) interrupted: bool,
    /// A view was taken of the transaction's own state, so blocks that it has changed may be shared.
    pub(crate) viewed: bool,
}

impl TransactionState {
    /// Begins with nothing; the last transaction has [ended](TransactionState::end).
    pub(crate) fn begin(&mut self) {
        self.marks.begin();
        self.open = true;
    }

    /// Drops what is not needed once the transaction is committed or rolled back.
    pub(crate) fn end(&mut self) {
        reset(&mut self.undo);
        reset(&mut self.places);
        reset(&mut self.resources_kept);
        reset(&mut self.despawned);
        reset(&mut self.freed);
        self.lost_generation = 0;
        self.failed = None;
        (self.busy, self.interrupted) = (false, false);
        self.viewed = false;
        self.open = false;
        self.encoder.clear();
        self.marks.forget_images();
        self.arena.clear();
    }

    /// An operation begins.
    #[inline]
    pub(crate) fn enter(&mut self) {
        self.interrupted |= self.busy;
        self.busy = true;
    }

    /// It has ended, with an error or without.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.busy = false;
    }

    pub(crate) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// Room for the values of a row that is about to be taken out, each so many `times`.
    ///
    /// # Errors
    /// [`Error::Full`].
    #[inline]
    pub(crate) fn room_for_row(&self, chunk: &Chunk, times: usize) -> Result<Room> {
        if self.places.len() + chunk.columns.len() * times > u32::MAX as usize {
            return Err(Error::Full("a transaction takes out at most 2^32 values of rows"));
        }
        self.arena.room_for(chunk.columns.iter().map(|column| column.block.ops()), times)
    }

    /// Keeps a column as it is before all of it is handed out to be written.
    ///
    /// # Errors
    /// [`Error::Full`]: it must not be written then.
    #[inline]
    pub(crate) fn image(
        &mut self,
        column: &mut Column,
        archetype: u32,
        chunk: usize,
        index: usize,
        lsn: u64,
    ) -> Result<()> {
        let place = ColumnPlace { archetype, chunk: chunk as u32, column: index as u32 };
        self.enter();
        let mut kept = Ok(());
        let marks = self.marks.column(column, place);
        if marks.image.is_none() && !marks.is_whole() {
            marks.keep_image(&column.block, &mut self.arena);
            self.undo.push(Step::Column { place, marks: column.marks.index });
        } else if !marks.is_whole() {
            // Rows that came after the image was taken.
            let rows = column.block.len();
            kept = (0..rows).try_for_each(|row| match self.marks.column(column, place).is_marked(row) {
                true => Ok(()),
                false => self.save(column, place, row, rows, lsn),
            });
        }
        // Private from here on: a copy, where the image is the old block.
        column.write(lsn);
        self.leave();
        kept
    }

    /// The block of a value for writing it in place: what it is before the first change is kept. This and
    /// [`TransactionState::image`] are the only ways to a value that can be changed.
    ///
    /// # Errors
    /// [`Error::Full`].
    #[inline]
    pub(crate) fn cell<'c>(
        &mut self,
        chunk: &'c mut Chunk,
        place: ColumnPlace,
        row: usize,
        rows_max: usize,
        lsn: u64,
    ) -> Result<&'c mut Block> {
        // Its id is looked at when the value is logged.
        if let Some(id) = chunk.ids().get(row) {
            prefetch(id);
        }
        // A new row is undone as a whole, and logged as a whole.
        let arrivals = self.marks.of_chunk(chunk);
        let (rows_came, new) = (arrivals.is_some(), arrivals.is_some_and(|marks| marks.new.contains(row)));
        let column = &mut chunk.columns[place.column as usize];
        if !new && !self.marks.column(column, place).is_marked(row) {
            self.save(column, place, row, rows_max, lsn)?;
            if !rows_came && self.marks.column(column, place).count_single(&column.block) {
                self.widen(column, place);
            }
        }
        Ok(column.write(lsn))
    }

    fn save(
        &mut self,
        column: &mut Column,
        place: ColumnPlace,
        row: usize,
        rows_max: usize,
        lsn: u64,
    ) -> Result<()> {
        let room = self.arena.room_for([column.block.ops()].into_iter(), 1)?;
        // Copied first, since a `clone` may panic: nothing has happened then.
        let at = column.write(lsn).save_row(row, &mut self.arena, room);
        self.saved(column, place, row, rows_max, at);
        Ok(())
    }

    /// Keeps all of a column, of which many rows were saved one by one and none came, as it was when the transaction began.
    #[cold]
    fn widen(&mut self, column: &mut Column, place: ColumnPlace) {
        let marks = self.marks.column(column, place);
        if marks.keep_image_of_beginning(&column.block, &self.arena) {
            self.undo.push(Step::Column { place, marks: column.marks.index });
        }
    }

    /// Notes what a resource was before a change.
    pub(crate) fn keep_resource(&mut self, id: ComponentId, old: Option<Resource>) {
        if !self.resources_kept.contains(&id) {
            self.resources_kept.push(id);
        }
        self.undo.push(Step::Resource { id, old });
    }

    /// Notes that the value of `row` from before is at `at`.
    pub(crate) fn saved(
        &mut self,
        column: &mut Column,
        place: ColumnPlace,
        row: usize,
        rows_max: usize,
        at: At,
    ) {
        self.marks.column(column, place).mark(row, Saved::Arena(at), rows_max);
        self.undo.push(Step::Value { place, row: row as u32, at });
    }

    /// Turns values of component `id` that were taken out, and may have to be put back, into values of `ops`' type, as those that are
    /// in place: where the new ones are, by place. Nothing has changed before [`TransactionState::adopted`].
    ///
    /// # Errors
    /// When one of them is no value of the type, which is called `name`, or [`Error::Full`].
    pub(crate) fn adopt(
        &mut self,
        root: &Root,
        id: ComponentId,
        ops: Ops,
        name: &str,
    ) -> Result<Vec<(usize, At)>> {
        let codec = |e| Error::codec(name, e);
        let mut adopted = Vec::new();
        for step in &self.undo {
            // What was taken out otherwise is of a bundle, whose types are known.
            let Step::Despawned { location, places, .. } = step else { continue };
            let Some(column) = root.archetype(location.archetype).shape.column_of(id) else { continue };
            let place = *places as usize + column;
            let (at, mut typed) = (self.places[place], Block::new(ops, 1));
            if ops.is_plain() {
                typed.push_stored(self.arena.bytes(at, ops.size()), 1).map_err(codec)?;
            } else if let Some(StoredValue(bytes)) = self.arena.held(at) {
                typed.push_stored(bytes, 1).map_err(codec)?;
                let room = self.arena.room_for([ops].into_iter(), 1)?;
                adopted.push((place, typed.take_row(0, &mut self.arena, room)));
            }
        }
        Ok(adopted)
    }

    pub(crate) fn adopted(&mut self, places: Vec<(usize, At)>) {
        places.into_iter().for_each(|(place, at)| self.places[place] = at);
    }
}
