//! The world: what is shared with views, what only the writer has, and the structural changes that
//! transactions and replay are made of.

use std::any::TypeId;

use rustc_hash::FxHashMap;
use triomphe::Arc;

use crate::archetype::{Archetype, Chunk, Shape};
use crate::bundle::{Bundle, BundleInfo, BundleTypes};
use crate::compact::Cursor;
use crate::component::{Component, ComponentType, StorageKind};
use crate::entity::Entity;
use crate::error::{Error, Result};
use crate::index::{EntityIndex, Location};
use crate::raw::{Block, Ops};
use crate::schema::{ComponentId, Schema};
use crate::spine::Spine;
use crate::stored_value::StoredValue;
use crate::transaction::{Transaction, TransactionState};
use crate::view::View;

/// The state that a view captures. Everything below is copied on write.
#[derive(Clone, Default)]
pub(crate) struct Root {
    /// LSN of the last committed transaction.
    pub(crate) lsn: u64,
    pub(crate) schema: Arc<Schema>,
    pub(crate) archetypes: Spine<Archetype>,
    pub(crate) index: EntityIndex,
    pub(crate) resources: Vec<Resource>,
    /// The next chunk's [`Chunk::uid`].
    pub(crate) next_chunk: u64,
}

/// A world resource: a single value.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) id: ComponentId,
    /// One row.
    pub(crate) block: Arc<Block>,
    pub(crate) changed: u64,
}

impl Root {
    pub(crate) fn resource(&self, id: ComponentId) -> Option<&Resource> {
        self.resources.iter().find(|r| r.id == id)
    }

    pub(crate) fn archetype(&self, id: u32) -> &Archetype {
        // Ids come from the index and from the writer's tables, which hold existing archetypes only.
        self.archetypes.get(id as usize).unwrap_or_else(|| unreachable!("archetype {id} does not exist"))
    }
}

/// An in-memory ECS world, written by transactions and read through [`View`]s.
///
/// A world knows nothing of files: whoever owns it hands the change set of each transaction to a log, and hands
/// logged change sets back to [`World::apply`].
///
/// ```
/// use ecsdb_core::{Component, World};
///
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "hp", plain)]
/// #[repr(C)]
/// struct Hp(u32);
///
/// let mut world = World::new();
/// let mut tx = world.transaction();
/// let entity = tx.spawn(Hp(10));
/// tx.prepare()?;
/// tx.commit(1);
/// assert_eq!(world.view().get::<Hp>(entity)?.0, 10);
/// # Ok::<(), ecsdb_core::Error>(())
/// ```
pub struct World {
    pub(crate) root: Arc<Root>,
    pub(crate) writer: Writer,
    pub(crate) tx: TransactionState,
}

/// What only the writer needs; derived from the root.
#[derive(Default)]
pub(crate) struct Writer {
    by_components: FxHashMap<Box<[ComponentId]>, u32>,
    bundles: FxHashMap<TypeId, Arc<BundleInfo>>,
    /// Per archetype, chunks that may have room. Every chunk with room is listed.
    pub(crate) open: Vec<Vec<u32>>,
    /// Stored components whose definition no committed change set has yet.
    pub(crate) undefined: Vec<ComponentId>,
    /// Slots whose ids were given out by transactions that were rolled back, with their next generation.
    pub(crate) retired: Vec<(u32, u32)>,
    pub(crate) compaction: Cursor,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        World { root: Arc::default(), writer: Writer::default(), tx: TransactionState::default() }
    }

    /// LSN of the last committed or applied transaction; 0 for none.
    pub fn lsn(&self) -> u64 {
        self.root.lsn
    }

    /// Goes on after `lsn`, when LSNs up to it are known to be used. A lower one changes nothing.
    pub fn advance_lsn(&mut self, lsn: u64) {
        if lsn > self.root.lsn {
            Arc::make_mut(&mut self.root).lsn = lsn;
        }
    }

    /// A consistent, unchanging picture of the world at the last commit. O(1), whatever the size of the world;
    /// the first write to each chunk after it copies that chunk.
    pub fn view(&self) -> View {
        View::new(self.root.clone())
    }

    /// Begins a transaction. It is rolled back unless [`Transaction::commit`] is called.
    pub fn transaction(&mut self) -> Transaction<'_> {
        Transaction::begin(self)
    }

    /// Makes a Rust type known, so that stored values of its component can be read as such. Types that derive
    /// [`Component`] and are linked into the program are registered by [`World::register_linked`].
    ///
    /// # Errors
    /// When the stored layout is another one, or another type has the name.
    pub fn register<T: Component>(&mut self) -> Result<ComponentId> {
        match self.root.schema.id_of::<T>() {
            Some(id) => Ok(id),
            None => self.register_type(&ComponentType::of::<T>()),
        }
    }

    /// Registers those component types of this program which the world already has stored values of. Where two
    /// types claim one name, neither is registered: the first to be used gets it.
    ///
    /// # Errors
    /// When the stored layout of one is another than the type's.
    pub fn register_linked(&mut self) -> Result<()> {
        let mut linked: FxHashMap<&str, Option<&ComponentType>> = FxHashMap::default();
        for ty in inventory::iter::<ComponentType> {
            linked
                .entry(ty.name)
                .and_modify(|one| {
                    if one.is_some_and(|one| one.type_id != ty.type_id) {
                        *one = None;
                    }
                })
                .or_insert(Some(ty));
        }
        let names: Vec<_> = self.root.schema.defs().map(|def| def.name.clone()).collect();
        for name in names {
            if let Some(Some(ty)) = linked.get(&*name) {
                self.register_type(ty)?;
            }
        }
        Ok(())
    }

    fn register_type(&mut self, ty: &ComponentType) -> Result<ComponentId> {
        let new = self.root.schema.named(ty.name).is_none();
        let root = Arc::make_mut(&mut self.root);
        let mut schema = (*root.schema).clone();
        let (id, newly_known) = schema.register(ty)?;
        if newly_known && !new {
            adopt(root, id, schema.known(id).ops, ty.name)?;
        }
        root.schema = Arc::new(schema);
        if new && ty.kind != StorageKind::Transient {
            self.writer.undefined.push(id);
        }
        Ok(id)
    }

    /// The archetype and the components of a bundle type, made on first use.
    pub(crate) fn bundle<B: Bundle>(&mut self) -> Result<Arc<BundleInfo>> {
        if let Some(info) = self.writer.bundles.get(&TypeId::of::<B>()) {
            return Ok(info.clone());
        }
        let mut types = Vec::new();
        B::types(&mut BundleTypes(&mut |ty| types.push(ty)));
        let mut components = Vec::with_capacity(types.len());
        let mut stored = 0;
        for ty in &types {
            let id = self.register_type(ty)?;
            if components.contains(&id) {
                return Err(Error::DuplicateComponent(ty.name));
            }
            components.push(id);
            stored += usize::from(ty.kind != StorageKind::Transient);
        }
        let mut sorted = components.clone();
        sorted.sort_unstable();
        let archetype = self.archetype_of(&sorted)?;
        let shape = self.root.archetype(archetype).shape.clone();
        let columns = components.iter().filter_map(|&id| shape.column_of(id)).collect();
        let info = Arc::new(BundleInfo { archetype, components: components.into(), columns, stored });
        self.writer.bundles.insert(TypeId::of::<B>(), info.clone());
        Ok(info)
    }

    /// The archetype with exactly these components (sorted), made if need be.
    pub(crate) fn archetype_of(&mut self, components: &[ComponentId]) -> Result<u32> {
        if let Some(&id) = self.writer.by_components.get(components) {
            return Ok(id);
        }
        let id = self.root.archetypes.len();
        if id >= u32::MAX as usize {
            return Err(Error::Full("a database has at most 2^32 archetypes"));
        }
        let root = Arc::make_mut(&mut self.root);
        root.archetypes.push(Archetype::new(Shape::new(components.into(), &root.schema)));
        self.writer.by_components.insert(components.into(), id as u32);
        self.writer.open.push(Vec::new());
        Ok(id as u32)
    }

    /// A chunk of an archetype with room for a row, ready to be written.
    pub(crate) fn open_chunk(&mut self, archetype: u32, lsn: u64) -> Result<(&mut Chunk, usize)> {
        let root = Arc::make_mut(&mut self.root);
        let open = &mut self.writer.open[archetype as usize];
        let Some(arch) = root.archetypes.get_mut(archetype as usize) else {
            unreachable!("archetype {archetype} does not exist")
        };
        let rows = arch.shape.rows_per_chunk();
        while let Some(&chunk) = open.last() {
            if arch.chunks.get(chunk as usize).is_some_and(|c| c.len() < rows) {
                break;
            }
            open.pop();
        }
        let index = match open.last() {
            Some(&chunk) => chunk as usize,
            None => {
                let index = arch.chunks.len();
                if index >= arch.shape.chunks_max() {
                    return Err(Error::Full("an archetype has at most 2^32 rows"));
                }
                arch.chunks.push(Chunk::new(root.next_chunk, &arch.shape, &root.schema, lsn));
                root.next_chunk += 1;
                open.push(index as u32);
                index
            }
        };
        match arch.chunks.get_mut(index) {
            Some(chunk) => {
                chunk.unshare(lsn);
                Ok((chunk, index))
            }
            None => unreachable!("chunk {index} does not exist"),
        }
    }

    /// Appends a row to an archetype: its id, and its values by `fill`, which must append one value to each
    /// column and cannot fail.
    pub(crate) fn push_row(
        &mut self,
        entity: Entity,
        archetype: u32,
        lsn: u64,
        fill: impl FnOnce(&mut Chunk, usize),
    ) -> Result<Location> {
        let rows = self.root.archetype(archetype).shape.rows_per_chunk();
        let (chunk, index) = self.open_chunk(archetype, lsn)?;
        let row = chunk.len();
        fill(chunk, rows);
        debug_assert!(chunk.columns.iter().all(|c| c.block.len() == row + 1), "a value for each column");
        chunk.push_id(entity, lsn, rows);
        let root = Arc::make_mut(&mut self.root);
        let mut location = Location { archetype, row: 0 };
        if let Some(arch) = root.archetypes.get_mut(archetype as usize) {
            arch.len += 1;
            location.row = arch.shape.join(index, row);
        }
        root.index.place(entity, location);
        Ok(location)
    }

    pub(crate) fn chunk_mut(&mut self, archetype: u32, chunk: usize) -> &mut Chunk {
        let root = Arc::make_mut(&mut self.root);
        match root.archetypes.get_mut(archetype as usize).and_then(|arch| arch.chunks.get_mut(chunk)) {
            Some(chunk) => chunk,
            None => unreachable!("chunk {chunk} of archetype {archetype} does not exist"),
        }
    }

    /// Takes an entity's row out, the last row of its chunk moving into its place. The values come in the
    /// order of the columns. The index still has the entity.
    pub(crate) fn take_row(&mut self, location: Location, lsn: u64) -> Vec<Block> {
        let shape = self.root.archetype(location.archetype).shape.clone();
        let (chunk_index, row) = shape.split(location.row);
        let chunk = self.chunk_mut(location.archetype, chunk_index);
        chunk.unshare(lsn);
        let was_full = chunk.len() == shape.rows_per_chunk();
        let mut values = Vec::with_capacity(chunk.columns.len());
        for column in &mut chunk.columns {
            let mut value = Block::new(column.block.ops(), 1);
            column.write(lsn).swap_remove_into(row, &mut value, 1);
            values.push(value);
        }
        let mut id = Block::new(chunk.entities.block.ops(), 1);
        chunk.entities.write(lsn).swap_remove_into(row, &mut id, 1);
        let moved = chunk.ids().get(row).copied();
        let root = Arc::make_mut(&mut self.root);
        if let Some(moved) = moved {
            root.index.place(moved, location);
        }
        if let Some(arch) = root.archetypes.get_mut(location.archetype as usize) {
            arch.len -= 1;
        }
        let open = &mut self.writer.open[location.archetype as usize];
        // A chunk that was just filled is still listed last, however often that happens.
        if was_full && open.last() != Some(&(chunk_index as u32)) {
            open.push(chunk_index as u32);
        }
        values
    }

    /// The inverse of [`World::take_row`], right after it: the row is where it was.
    pub(crate) fn restore_row(&mut self, entity: Entity, location: Location, values: Vec<Block>, lsn: u64) {
        let shape = self.root.archetype(location.archetype).shape.clone();
        let (chunk_index, row) = shape.split(location.row);
        let rows = shape.rows_per_chunk();
        let chunk = self.chunk_mut(location.archetype, chunk_index);
        chunk.unshare(lsn);
        let end = chunk.len();
        for (column, mut value) in chunk.columns.iter_mut().zip(values) {
            column.write(lsn).swap_insert_from(row, &mut value, rows);
        }
        let mut id = Block::new(chunk.entities.block.ops(), 1);
        id.push(crate::archetype::EntityRow(entity), 1);
        chunk.entities.write(lsn).swap_insert_from(row, &mut id, rows);
        let moved = (row != end).then(|| chunk.ids().get(end).copied()).flatten();
        let root = Arc::make_mut(&mut self.root);
        if let Some(moved) = moved {
            let row = shape.join(chunk_index, end);
            root.index.place(moved, Location { archetype: location.archetype, row });
        }
        root.index.place(entity, location);
        if let Some(arch) = root.archetypes.get_mut(location.archetype as usize) {
            arch.len += 1;
        }
    }

    /// Puts or replaces a resource; returns what was there.
    pub(crate) fn set_resource(&mut self, id: ComponentId, new: Option<Resource>) -> Option<Resource> {
        let resources = &mut Arc::make_mut(&mut self.root).resources;
        match (resources.iter().position(|r| r.id == id), new) {
            (Some(at), Some(new)) => Some(std::mem::replace(&mut resources[at], new)),
            (Some(at), None) => Some(resources.remove(at)),
            (None, Some(new)) => {
                let at = resources.partition_point(|r| r.id < id);
                resources.insert(at, new);
                None
            }
            (None, None) => None,
        }
    }

    /// A world that goes on from a root that was loaded.
    pub(crate) fn with_root(root: Root) -> Self {
        let mut writer = Writer::default();
        writer.follow(&root);
        // A snapshot has definitions that no change set has, of transactions that were rolled back: the next one repeats them all.
        let stored = |def: &&crate::schema::ComponentDef| def.kind != StorageKind::Transient;
        writer.undefined = root.schema.defs().filter(stored).map(|def| def.id).collect();
        World { root: Arc::new(root), writer, tx: TransactionState::default() }
    }
}

impl Writer {
    /// Makes the tables that say where rows go anew, for another root.
    pub(crate) fn follow(&mut self, root: &Root) {
        self.by_components.clear();
        self.open.clear();
        self.compaction = Cursor::default();
        for (id, archetype) in root.archetypes.iter().enumerate() {
            self.by_components.insert(archetype.shape.components.clone(), id as u32);
            let rows = archetype.shape.rows_per_chunk();
            // Reversed, so that the first chunk with room is filled first.
            let mut open: Vec<u32> = archetype
                .chunks
                .iter()
                .enumerate()
                .filter_map(|(i, chunk)| (chunk.len() < rows).then_some(i as u32))
                .collect();
            open.reverse();
            self.open.push(open);
        }
    }
}

/// Turns the rows of component `id` into rows of `ops`' type, which its stored form was just found to be. A row
/// that does not decode leaves everything as it was, since the caller then drops the changed copy.
fn adopt(root: &mut Root, id: ComponentId, ops: Ops, name: &'static str) -> Result<()> {
    let convert = |block: &mut Arc<Block>| -> Result<()> {
        if Arc::make_mut(block).adopt(ops) {
            return Ok(());
        }
        let mut typed = Block::new(ops, block.len());
        for row in block.slice::<StoredValue>().unwrap_or(&[]) {
            typed.push_stored(&row.0, block.len()).map_err(|e| Error::codec(name, e))?;
        }
        *block = Arc::new(typed);
        Ok(())
    };
    // All conversions happen on copies first, so that an error half-way changes nothing.
    let mut archetypes = root.archetypes.clone();
    for archetype in archetypes.iter_mut() {
        if let Some(column) = archetype.shape.column_of(id) {
            for chunk in Arc::make_mut(archetype).chunks.iter_mut() {
                convert(&mut Arc::make_mut(chunk).columns[column].block)?;
            }
        }
    }
    let mut resources = root.resources.clone();
    if let Some(resource) = resources.iter_mut().find(|r| r.id == id) {
        convert(&mut resource.block)?;
    }
    root.archetypes = archetypes;
    root.resources = resources;
    Ok(())
}
