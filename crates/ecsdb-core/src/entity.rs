//! The entity: a generational id, stable across restarts.

use std::fmt;

/// The id of an entity: a slot and the generation of its use.
///
/// An id stays valid across restarts, may be stored in components, and never comes to mean another entity: when
/// the entity is despawned, its slot's next use has another generation. 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Entity {
    index: u32,
    generation: u32,
}

impl Entity {
    /// The id that no entity ever has: generation 0.
    pub const NONE: Entity = Entity { index: u32::MAX, generation: 0 };

    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Entity { index, generation }
    }

    /// The slot: unique among the entities alive at one time, reused after a despawn.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// The use of the slot, from 1; 0 only in [`Entity::NONE`].
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// The id as one number, to hand to something outside; see [`Entity::from_bits`].
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The id that [`Entity::to_bits`] gave. Any number is an id; whether an entity has it is another matter.
    pub const fn from_bits(bits: u64) -> Self {
        Entity { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
