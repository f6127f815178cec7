//! The entity: a generational id, stable across restarts.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// The id of an entity: a slot and the generation of its use.
///
/// An id stays valid across restarts, may be stored in components, and never comes to mean another entity: when
/// the entity is despawned, its slot's next use has another generation. 8 bytes, and so is `Option<Entity>`.
///
/// As text it is `12v3`: slot 12, generation 3.
///
/// ```
/// use ecsdb_core::{Component, Entity};
///
/// #[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
/// #[component(name = "game.squad", archived)]
/// struct Squad { leader: Option<Entity>, members: Vec<Entity> }
///
/// let id: Entity = "12v3".parse().unwrap();
/// assert_eq!((id.index(), id.generation(), id.to_string()), (12, 3, "12v3".into()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize)]
#[rkyv(derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash))]
#[repr(transparent)]
pub struct Entity(NonZeroU64);

impl Entity {
    /// The id that no entity ever has: generation 0.
    pub(crate) const NONE: Entity = Entity(NonZeroU64::MIN);

    /// A generation of 0, which no id has, is taken for 1.
    #[inline]
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        let generation = if generation == 0 { 1 } else { generation };
        match NonZeroU64::new((generation as u64) << 32 | index as u64) {
            Some(bits) => Entity(bits),
            None => Entity::NONE,
        }
    }

    /// The slot: unique among the entities alive at one time, reused after a despawn.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0.get() as u32
    }

    /// The use of the slot, from 1.
    #[inline]
    pub const fn generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// The id as one number, to hand to something outside; see [`Entity::from_bits`].
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The id that [`Entity::to_bits`] gave; `None` for a number that is no id. Whether an entity has it is another matter.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU64::new(bits) {
            Some(number) if bits >> 32 > 0 => Some(Entity(number)),
            _ => None,
        }
    }
}

/// Archived bits of which the half that is the generation is zero.
#[derive(Debug, thiserror::Error)]
#[error("an id of generation 0, which no entity has")]
struct NoGeneration;

impl<D: rkyv::rancor::Fallible + ?Sized> rkyv::Deserialize<Entity, D> for ArchivedEntity
where
    D::Error: rkyv::rancor::Source,
{
    fn deserialize(&self, _: &mut D) -> Result<Entity, D::Error> {
        Entity::from_bits(self.0.get()).ok_or_else(|| rkyv::rancor::Source::new(NoGeneration))
    }
}

impl fmt::Debug for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index(), self.generation())
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Text that is no entity id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no entity id: write slot and generation, such as `12v3`")]
pub struct ParseEntityError(String);

impl FromStr for Entity {
    type Err = ParseEntityError;

    fn from_str(text: &str) -> Result<Self, ParseEntityError> {
        let parsed = text.split_once('v').and_then(|(index, generation)| {
            // An id has one text: without a sign, and without zeros before it.
            let number = |part: &str| part.parse().ok().filter(|number: &u32| number.to_string() == part);
            let (index, generation) = (number(index)?, number(generation)?);
            (generation > 0).then(|| Entity::new(index, generation))
        });
        parsed.ok_or_else(|| ParseEntityError(text.into()))
    }
}

/// As text, in whatever format.
#[cfg(feature = "serde")]
impl serde::Serialize for Entity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Entity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_read_back_from_text_and_bits(index: u32, generation in 1u32..) {
            let id = Entity::new(index, generation);
            prop_assert_eq!((id.index(), id.generation()), (index, generation));
            prop_assert_eq!(id.to_string().parse::<Entity>(), Ok(id));
            prop_assert_eq!(Entity::from_bits(id.to_bits()), Some(id));
            prop_assert_eq!(Entity::from_bits(index.into()), None);
        }

        #[test]
        fn other_text_is_refused(text in "[0-9v+ -]{0,6}") {
            if let Ok(id) = text.parse::<Entity>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
