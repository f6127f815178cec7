//! Marks: which values may have changed since the transaction began, which rows came, and where what was there before is
//! kept. The difference that is logged at the commit is read off them.
//!
//! A mark belongs to a value of an entity and moves with its row: within the chunk when another row is taken out, and to
//! another chunk when the entity gets other components. So at the commit each mark stands where the value is.

use triomphe::Arc;

use super::rows::RowSet;
use crate::archetype::{Chunk, Column, Stamp};
use crate::buffers::Idle;
use crate::component::CodecError;
use crate::raw::{Arena, At, Block};
use crate::shells::unshared;

/// Marks of columns, and of chunks, that are kept for the next transaction.
const KEPT: usize = 1024;
/// How many of those beyond are given back by one transaction.
const AT_ONCE: usize = 16;

/// Where a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ColumnPlace {
    pub(crate) archetype: u32,
    pub(crate) chunk: u32,
    pub(crate) column: u32,
}

/// Where the value from before is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Saved {
    /// In the arena.
    Arena(At),
    /// In the image of the column that the mark stands at.
    Image(u32),
    /// Nowhere any more: it counts as changed.
    Changed,
}

/// A [`Saved`] in four bytes: the top bit tells a row of the image.
#[derive(Clone, Copy)]
struct Packed(u32);

const IMAGE: u32 = 1 << 31;
const CHANGED: u32 = u32::MAX;

impl Packed {
    fn of(saved: Saved) -> Packed {
        Packed(match saved {
            // Places beyond, of a transaction that has saved more than 16 GiB, count as changed.
            Saved::Arena(At(at)) if at & IMAGE == 0 => at,
            Saved::Image(row) => row | IMAGE,
            Saved::Arena(_) | Saved::Changed => CHANGED,
        })
    }

    fn saved(self) -> Saved {
        match self.0 {
            CHANGED => Saved::Changed,
            at if at & IMAGE == 0 => Saved::Arena(At(at)),
            row => Saved::Image(row & !IMAGE),
        }
    }
}

/// A column as it was.
pub(crate) enum Image {
    /// The old block itself; the writer goes on in a copy.
    Block(Arc<Block>),
    /// So many plain rows, in the arena: for small columns that is cheaper.
    Bytes { at: At, rows: usize },
}

/// Columns up to this many bytes are kept as bytes.
const IMAGE_BYTES_MAX: usize = 2048;
/// Once one row in so many was saved by itself, the next ones are cheaper saved as a whole.
const SINGLES_PART: usize = 16;
const SINGLES_MIN: usize = 16;

/// The marks of one column.
pub(crate) struct ColumnMarks {
    pub(crate) place: ColumnPlace,
    marked: RowSet,
    /// By row, valid where marked.
    saved: Vec<Packed>,
    pub(crate) image: Option<Image>,
    /// Rows saved one by one.
    singles: u32,
    /// All rows are marked, each saved in the image at its own place, and `marked` and `saved` do not say so.
    whole: bool,
}

/// The rows of a chunk that came since the transaction began.
pub(crate) struct ChunkMarks {
    pub(crate) archetype: u32,
    pub(crate) chunk: u32,
    /// Of entities that did not exist.
    pub(crate) new: RowSet,
    /// Of entities that had other components, or were elsewhere.
    pub(crate) moved: RowSet,
    /// By row, valid where moved: the archetype that the entity was in.
    origins: Vec<u32>,
}

/// The marks of the transaction under way. What is not needed any more is kept for the next.
#[derive(Default)]
pub(crate) struct Marks {
    /// Of the transaction; what bears another is of an earlier one.
    pub(crate) sequence: u64,
    columns: Vec<ColumnMarks>,
    columns_used: usize,
    columns_idle: Idle,
    chunks: Vec<ChunkMarks>,
    chunks_used: usize,
    chunks_idle: Idle,
}

impl Marks {
    /// Forgets everything. O(1): what is used again is emptied then, and what is not is given back a little at a time, so that no transaction pays for
    /// a larger one before it.
    pub(crate) fn begin(&mut self) {
        self.sequence += 1;
        self.columns_idle.give_back(&mut self.columns, self.columns_used, KEPT, AT_ONCE);
        self.chunks_idle.give_back(&mut self.chunks, self.chunks_used, KEPT, AT_ONCE);
        (self.columns_used, self.chunks_used) = (0, 0);
    }

    /// Lets go of the old blocks.
    pub(crate) fn forget_images(&mut self) {
        self.columns[..self.columns_used].iter_mut().for_each(|marks| marks.image = None);
    }

    /// Takes the image of a column, to be put back.
    pub(crate) fn take_image(&mut self, column: u32) -> Option<Image> {
        self.columns[..self.columns_used].get_mut(column as usize)?.image.take()
    }

    /// Copies the image of a column if a view shares it.
    pub(crate) fn make_image_private(&mut self, column: u32) {
        let marks = self.columns[..self.columns_used].get_mut(column as usize);
        if let Some(Image::Block(block)) = marks.and_then(|marks| marks.image.as_mut()) {
            // That the column itself has it, too, cannot be: the writer goes on in a copy.
            unshared(block);
        }
    }

    pub(crate) fn columns(&self) -> &[ColumnMarks] {
        &self.columns[..self.columns_used]
    }

    pub(crate) fn chunks(&self) -> &[ChunkMarks] {
        &self.chunks[..self.chunks_used]
    }

    /// The marks of a column, if it has any.
    #[inline]
    pub(crate) fn of(&self, column: &Column) -> Option<&ColumnMarks> {
        (column.marks.sequence == self.sequence).then(|| &self.columns[column.marks.index as usize])
    }

    #[inline]
    fn of_mut(&mut self, column: &Column) -> Option<&mut ColumnMarks> {
        (column.marks.sequence == self.sequence).then(|| &mut self.columns[column.marks.index as usize])
    }

    /// The marks of a column, made if need be.
    #[inline]
    pub(crate) fn column(&mut self, column: &mut Column, place: ColumnPlace) -> &mut ColumnMarks {
        if column.marks.sequence != self.sequence {
            if self.columns_used == self.columns.len() {
                self.columns.push(ColumnMarks {
                    place,
                    marked: RowSet::default(),
                    saved: Vec::new(),
                    image: None,
                    singles: 0,
                    whole: false,
                });
            }
            let marks = &mut self.columns[self.columns_used];
            marks.marked.clear();
            (marks.place, marks.image, marks.singles, marks.whole) = (place, None, 0, false);
            column.marks = Stamp { sequence: self.sequence, index: self.columns_used as u32 };
            self.columns_used += 1;
        }
        &mut self.columns[column.marks.index as usize]
    }

    /// The marks of a chunk's rows, if it has any.
    #[inline]
    pub(crate) fn of_chunk(&self, chunk: &Chunk) -> Option<&ChunkMarks> {
        (chunk.entities.marks.sequence == self.sequence)
            .then(|| &self.chunks[chunk.entities.marks.index as usize])
    }

    /// The marks of a chunk's rows, made if need be.
    #[inline]
    pub(crate) fn chunk(&mut self, chunk: &mut Chunk, archetype: u32, index: usize) -> &mut ChunkMarks {
        let stamp = &mut chunk.entities.marks;
        if stamp.sequence != self.sequence {
            if self.chunks_used == self.chunks.len() {
                self.chunks.push(ChunkMarks {
                    archetype: 0,
                    chunk: 0,
                    new: RowSet::default(),
                    moved: RowSet::default(),
                    origins: Vec::new(),
                });
            }
            let marks = &mut self.chunks[self.chunks_used];
            marks.new.clear();
            marks.moved.clear();
            (marks.archetype, marks.chunk) = (archetype, index as u32);
            *stamp = Stamp { sequence: self.sequence, index: self.chunks_used as u32 };
            self.chunks_used += 1;
        }
        &mut self.chunks[stamp.index as usize]
    }

    /// Before rows come to a chunk.
    pub(crate) fn admit(&mut self, chunk: &Chunk) {
        for column in &chunk.columns {
            if let Some(marks) = self.of_mut(column) {
                marks.list_image_rows();
            }
        }
    }

    /// What a row's going does to the marks of its chunk; `last` is the last row, which takes its place. Returns what the
    /// row's entity was when the transaction began.
    pub(crate) fn take_row(&mut self, chunk: &Chunk, row: usize, last: usize) -> Origin {
        for column in &chunk.columns {
            if let Some(marks) = self.of_mut(column) {
                marks.list_image_rows();
                if marks.marked.contains(last) {
                    marks.saved[row] = marks.saved[last];
                }
                marks.marked.swap_remove(row, last);
            }
        }
        if chunk.entities.marks.sequence != self.sequence {
            return Origin::Here;
        }
        let marks = &mut self.chunks[chunk.entities.marks.index as usize];
        let origin = marks.origin(row);
        if marks.moved.contains(last) {
            marks.origins[row] = marks.origins[last];
        }
        marks.new.swap_remove(row, last);
        marks.moved.swap_remove(row, last);
        origin
    }

    /// The mark of a value that is about to leave its chunk. One that is in an image counts as changed from here on.
    pub(crate) fn departing(&self, column: &Column, row: usize) -> Option<Saved> {
        self.of(column)?.saved(row).map(|saved| match saved {
            Saved::Image(_) => Saved::Changed,
            other => other,
        })
    }
}

/// What the entity of a row was when the transaction began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the archetype that it is in.
    Here,
    /// In that archetype.
    Archetype(u32),
    /// Nothing yet.
    New,
}

impl ChunkMarks {
    pub(crate) fn origin(&self, row: usize) -> Origin {
        if self.new.contains(row) {
            Origin::New
        } else if self.moved.contains(row) {
            Origin::Archetype(self.origins[row])
        } else {
            Origin::Here
        }
    }

    /// Marks a row that has come.
    #[inline]
    pub(crate) fn arrive(&mut self, row: usize, origin: Origin, rows_max: usize) {
        match origin {
            Origin::New => self.new.insert(row),
            Origin::Archetype(archetype) => {
                self.moved.insert(row);
                if self.origins.len() < rows_max {
                    self.origins.resize(rows_max, 0);
                }
                self.origins[row] = archetype;
            }
            Origin::Here => {}
        }
    }
}

impl ColumnMarks {
    #[inline]
    pub(crate) fn is_marked(&self, row: usize) -> bool {
        self.whole || self.marked.contains(row)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    #[inline]
    pub(crate) fn mark(&mut self, row: usize, saved: Saved, rows_max: usize) {
        if self.saved.len() < rows_max {
            self.saved.resize(rows_max, Packed(CHANGED));
        }
        self.saved[row] = Packed::of(saved);
        self.marked.insert(row);
    }

    /// Where the value of a marked row from before is.
    pub(crate) fn saved(&self, row: usize) -> Option<Saved> {
        if self.whole {
            return Some(Saved::Image(row as u32));
        }
        self.marked.contains(row).then(|| self.saved[row].saved())
    }

    /// Rows that are marked one by one, ascending.
    pub(crate) fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.marked.iter()
    }

    /// Keeps the whole column as it is; rows that are marked already stay saved where they are.
    pub(crate) fn keep_image(&mut self, block: &Arc<Block>, arena: &mut Arena) {
        let small = block.bytes().filter(|bytes| bytes.len() <= IMAGE_BYTES_MAX);
        let image = match (small, arena.room_for_bytes(IMAGE_BYTES_MAX)) {
            (Some(bytes), Ok(room)) => Image::Bytes { at: arena.push_bytes(bytes, room), rows: block.len() },
            _ => Image::Block(block.clone()),
        };
        self.image = Some(image);
        if self.marked.is_empty() {
            self.whole = true;
            return;
        }
        let rows = block.len();
        for row in 0..rows {
            if !self.marked.contains(row) {
                self.mark(row, Saved::Image(row as u32), rows);
            }
        }
    }

    /// Notes that a row was saved by itself. True when that was done so often that the column is better kept as a whole.
    #[inline]
    pub(crate) fn count_single(&mut self, block: &Block) -> bool {
        self.singles += 1;
        self.singles as usize > (block.len() / SINGLES_PART).max(SINGLES_MIN)
            && self.image.is_none()
            && block.ops().is_plain()
    }

    /// Keeps a plain column, of which some rows were saved and none came or went, as it was. False when that is not known any more.
    pub(crate) fn keep_image_of_beginning(&mut self, block: &Block, arena: &Arena) -> bool {
        self.singles = 0;
        let mut image = block.clone();
        for row in self.marked.iter() {
            let Saved::Arena(at) = self.saved[row].saved() else { return false };
            image.restore_rows(row..row + 1, at, arena);
        }
        self.image = Some(Image::Block(Arc::new(image)));
        self.marked.clear();
        self.whole = true;
        true
    }

    /// Says of each row of a whole image where it is saved, before rows come or go.
    fn list_image_rows(&mut self) {
        if !std::mem::take(&mut self.whole) {
            return;
        }
        let rows = match &self.image {
            Some(Image::Block(block)) => block.len(),
            Some(Image::Bytes { rows, .. }) => *rows,
            None => 0,
        };
        for row in 0..rows {
            self.mark(row, Saved::Image(row as u32), rows);
        }
    }

    /// A plain row of the image.
    fn image_bytes<'a>(&'a self, row: usize, size: usize, arena: &'a Arena) -> Option<&'a [u8]> {
        match self.image.as_ref()? {
            Image::Block(block) => block.row_bytes(row),
            Image::Bytes { at, rows } => arena.bytes(*at, rows * size).get(row * size..(row + 1) * size),
        }
    }

    /// The rows of a plain column that differ from its whole image; once half of them do, all the others, too, since the
    /// column is then logged as a whole.
    pub(crate) fn changed_plain_rows(&self, block: &Block, arena: &Arena, rows: &mut Vec<u32>) {
        let size = block.ops().size();
        let old = match &self.image {
            Some(Image::Block(old)) => old.bytes(),
            Some(Image::Bytes { at, rows }) => Some(arena.bytes(*at, rows * size)),
            None => None,
        };
        let (Some(new), Some(old)) = (block.bytes(), old) else { return };
        if size == 0 {
            return;
        }
        debug_assert_eq!(new.len(), old.len(), "a whole image is of the rows that there are");
        differing_rows(new, old, size, rows);
    }

    /// True when a value differs from what it was.
    ///
    /// # Errors
    /// When one of them cannot be encoded.
    #[inline]
    pub(crate) fn differs(
        &self,
        block: &Block,
        row: usize,
        saved: Saved,
        arena: &Arena,
        scratch: &mut [Vec<u8>; 2],
    ) -> Result<bool, CodecError> {
        match saved {
            Saved::Changed => Ok(true),
            Saved::Arena(at) => block.differs_from_saved(row, at, arena, scratch),
            Saved::Image(image_row) => match (&self.image, block.row_bytes(row)) {
                (_, Some(new)) => Ok(self.image_bytes(image_row as usize, new.len(), arena) != Some(new)),
                (Some(Image::Block(old)), None) => {
                    let [a, b] = scratch;
                    a.clear();
                    b.clear();
                    block.encode_row(row, a)?;
                    old.encode_row(image_row as usize, b)?;
                    Ok(a != b)
                }
                (_, None) => Ok(true),
            },
        }
    }
}

/// The rows of `size` bytes that differ; all of them, when half of them do.
fn differing_rows(new: &[u8], old: &[u8], size: usize, rows: &mut Vec<u32>) {
    fn of_size<const SIZE: usize>(new: &[u8], old: &[u8], rows: &mut Vec<u32>) {
        let (new, old) = (new.as_chunks::<SIZE>().0, old.as_chunks::<SIZE>().0);
        collect(new.len(), |row| new[row] != old[row], rows);
    }
    /// Counts some before it lists any, without a branch for each, so that the compiler takes several at a time.
    fn collect(len: usize, differs: impl Fn(usize) -> bool, rows: &mut Vec<u32>) {
        const AT_ONCE: usize = 64;
        let half = len.div_ceil(2);
        let mut differing = 0;
        for start in (0..len).step_by(AT_ONCE) {
            let end = len.min(start + AT_ONCE);
            differing += (start..end).map(|row| usize::from(differs(row))).sum::<usize>();
            if differing >= half {
                rows.extend(0..len as u32);
                return;
            }
        }
        if differing > 0 {
            rows.extend((0..len).filter(|&row| differs(row)).map(|row| row as u32));
        }
    }
    match size {
        4 => of_size::<4>(new, old, rows),
        8 => of_size::<8>(new, old, rows),
        12 => of_size::<12>(new, old, rows),
        16 => of_size::<16>(new, old, rows),
        24 => of_size::<24>(new, old, rows),
        32 => of_size::<32>(new, old, rows),
        64 => of_size::<64>(new, old, rows),
        _ => {
            let range = |row: usize| row * size..(row + 1) * size;
            collect(new.len() / size, |row| new[range(row)] != old[range(row)], rows);
        }
    }
}
