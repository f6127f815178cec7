//! The world: the root that views capture, what only the writer has, and the types that are known.

use std::any::TypeId;

use ecsdb_id::Lsn;
use rustc_hash::FxHashMap;
use triomphe::Arc;

use crate::bundle::{Bundle, BundleInfo, BundleTypes};
use crate::component::{Component, ComponentType, StorageKind};
use crate::error::{Error, Result};
use crate::placement::Placement;
use crate::raw::{Block, Ops};
use crate::restore::Restored;
use crate::root::Root;
use crate::schema::ComponentId;
use crate::shells::unshared;
use crate::stored_value::StoredValue;
use crate::transaction::TransactionState;
use crate::view::View;

/// An in-memory ECS world, written by transactions and read through [`View`]s.
///
/// A world knows nothing of files: whoever owns it hands the change set of each transaction to a log, and hands
/// logged change sets back to [`World::apply`]. [`OpenTransaction`](crate::OpenTransaction) has an example.
#[derive(Default)]
pub struct World {
    pub(crate) root: Arc<Root>,
    pub(crate) placement: Placement,
    /// Stored components whose definition no committed change set has yet.
    pub(crate) undefined: Vec<ComponentId>,
    pub(crate) tx: TransactionState,
    /// A restore that is not committed.
    pub(crate) restored: Option<Restored>,
    /// A rollback could not be done: nothing is written any more.
    pub(crate) poisoned: bool,
}

/// A component of which a stored value is refused by the program's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The stable name.
    pub component: String,
    /// What is wrong with the value.
    pub why: String,
}

impl World {
    /// An empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// LSN of the last committed or applied transaction; [`Lsn::ZERO`] for none.
    pub fn lsn(&self) -> Lsn {
        Lsn(self.committed().lsn)
    }

    /// Goes on after `lsn`, when LSNs up to it are known to be used. A lower one changes nothing.
    pub fn advance_lsn(&mut self, lsn: Lsn) {
        self.end_forgotten();
        if lsn.0 > self.root.lsn {
            Arc::make_mut(&mut self.root).lsn = lsn.0;
        }
    }

    /// A consistent, unchanging picture of the world at the last commit. O(1), whatever the size of the world;
    /// the first write to each chunk after it copies that chunk.
    ///
    /// A transaction that was forgotten (`std::mem::forget`) rather than dropped is rolled back when the world is next changed, and shows until
    /// then.
    pub fn view(&self) -> View {
        View::new(self.committed().clone())
    }

    /// The world without a restore that is not committed.
    fn committed(&self) -> &Arc<Root> {
        self.restored.as_ref().map_or(&self.root, |restored| &restored.before)
    }

    /// True when a rollback could not be done, since a component's `clone` panicked in it: the world shows half a transaction,
    /// and no other can be committed.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// True when ids were given out by a transaction that was rolled back and the log does not know yet that they are not to be given out
    /// again: the change set of the next transaction says so, even if that changes nothing else.
    pub fn has_unlogged_ids(&self) -> bool {
        self.committed().index.unlogged_floor().is_some()
    }

    /// Makes a Rust type known, so that stored values of its component can be read as such. Types that derive
    /// [`Component`] and are linked into the program are registered by [`World::register_linked`].
    ///
    /// # Errors
    /// When the stored layout is another one, or another type has the name.
    #[inline]
    pub fn register<T: Component>(&mut self) -> Result<ComponentId> {
        match self.root.schema.id_of::<T>() {
            Some(id) => Ok(id),
            None => self.register_type(&ComponentType::of::<T>()),
        }
    }

    /// Registers those component types of this program which the world already has stored values of. Of several types
    /// with one name, that is registered whose description is the stored one; where several fit, none is: the first to be used gets it.
    ///
    /// A component of which a stored value cannot be read stays closed, its bytes kept ([`Error::Unreadable`]); those are returned,
    /// each with the reason.
    ///
    /// # Errors
    /// When the stored type of one is another than the program's.
    pub fn register_linked(&mut self) -> Result<Vec<Unreadable>> {
        self.put_back();
        let mut linked: FxHashMap<&str, Vec<&ComponentType>> = FxHashMap::default();
        for ty in inventory::iter::<ComponentType> {
            let types = linked.entry(ty.name).or_default();
            if types.iter().all(|known| (known.type_id)() != (ty.type_id)()) {
                types.push(ty);
            }
        }
        let mut unreadable = Vec::new();
        let defs: Vec<_> = self.root.schema.defs().cloned().collect();
        for def in defs {
            let Some(types) = linked.get(&*def.name) else { continue };
            let fits = |ty: &&&ComponentType| def.mismatch(ty.version, ty.kind, (ty.description)()).is_none();
            let ty = match (&types[..], types.iter().filter(fits).count()) {
                // Registering the only one says how it differs, if it does.
                ([only], _) => only,
                (_, 1) => types.iter().find(fits).unwrap_or(&types[0]),
                _ => continue,
            };
            match self.register_type(ty) {
                Err(Error::Unreadable { component, why }) => {
                    unreadable.push(Unreadable { component: component.into(), why });
                }
                Err(Error::Codec { component, cause }) => {
                    let why = cause.to_string();
                    let root = Arc::make_mut(&mut self.root);
                    Arc::make_mut(&mut root.schema).close(def.id, &why);
                    unreadable.push(Unreadable { component, why });
                }
                other => drop(other?),
            }
        }
        Ok(unreadable)
    }

    fn register_type(&mut self, ty: &ComponentType) -> Result<ComponentId> {
        self.put_back();
        let known = self.root.schema.named(ty.name);
        if let Some(why) = known.and_then(|id| self.root.schema.known(id).unreadable.as_deref()) {
            return Err(Error::Unreadable { component: ty.name, why: why.into() });
        }
        let new = known.is_none();
        let root = Arc::make_mut(&mut self.root);
        let mut schema = (*root.schema).clone();
        let (id, newly_known) = schema.register(ty)?;
        if newly_known && !new {
            let ops = schema.known(id).ops;
            let taken_out = self.tx.adopt(root, id, ops, ty.name)?;
            adopt(root, id, ops, ty.name)?;
            self.tx.adopted(taken_out);
        }
        root.schema = Arc::new(schema);
        if new && ty.kind != StorageKind::Transient {
            self.undefined.push(id);
        }
        Ok(id)
    }

    /// The number of a bundle type, whose archetype and components are looked up on first use.
    #[inline]
    pub(crate) fn bundle<B: Bundle>(&mut self) -> Result<u32> {
        match self.placement.bundles.get(&TypeId::of::<B>()) {
            Some(&bundle) => Ok(bundle),
            None => self.new_bundle::<B>(),
        }
    }

    fn new_bundle<B: Bundle>(&mut self) -> Result<u32> {
        let mut types = Vec::new();
        B::types(&mut BundleTypes(&mut |ty| types.push(ty)));
        let mut components = Vec::with_capacity(types.len());
        for ty in &types {
            let id = self.register_type(ty)?;
            if components.contains(&id) {
                return Err(Error::DuplicateComponent(ty.name));
            }
            components.push(id);
        }
        let mut sorted = components.clone();
        sorted.sort_unstable();
        let archetype = self.placement.archetype_of(&mut self.root, &sorted)?;
        let shape = self.root.archetype(archetype).shape.clone();
        let columns = components.iter().filter_map(|&id| Some((shape.column_of(id)?, true))).collect();
        let info = Arc::new(BundleInfo { archetype, components: components.into(), columns });
        let bundle = self.placement.bundle_infos.len() as u32;
        self.placement.bundle_infos.push(info);
        self.placement.bundles.insert(TypeId::of::<B>(), bundle);
        Ok(bundle)
    }

    /// A world that goes on from a root that was loaded.
    pub(crate) fn with_root(root: Root) -> Self {
        let mut placement = Placement::default();
        placement.follow(&root);
        // A snapshot has definitions that no change set has, of transactions that were rolled back: the next one repeats them all.
        let stored = |def: &&crate::schema::ComponentDef| def.kind != StorageKind::Transient;
        let undefined = root.schema.defs().filter(stored).map(|def| def.id).collect();
        World { root: Arc::new(root), placement, undefined, ..World::default() }
    }
}

/// Turns the rows of component `id` into rows of `ops`' type, which its stored form was just found to be. A row
/// that does not decode leaves everything as it was, since the caller then drops the changed copy.
fn adopt(root: &mut Root, id: ComponentId, ops: Ops, name: &'static str) -> Result<()> {
    let convert = |block: &mut Arc<Block>| -> Result<()> {
        let codec = |e| Error::codec(name, e);
        if unshared(block).adopt(ops).map_err(codec)? {
            return Ok(());
        }
        let Some(rows) = block.slice::<StoredValue>() else {
            return Err(Error::Malformed { offset: 0, what: "a column is neither typed nor stored bytes" });
        };
        let mut typed = Block::new(ops, block.len());
        for row in rows {
            typed.push_stored(&row.0, block.len()).map_err(codec)?;
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
