//! What can be wrong with a call, a stored change or a schema.

use crate::component::CodecError;
use crate::entity::Entity;

/// What the fallible functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the world: nothing was changed by the call that returned it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The entity was despawned, or never lived here.
    #[error("entity {0} does not exist (despawned, or of another database)")]
    NoSuchEntity(Entity),
    /// The entity has no such component.
    #[error("entity {entity} has no component {component}")]
    MissingComponent {
        /// The entity.
        entity: Entity,
        /// The component's stable name.
        component: &'static str,
    },
    /// The world has no such resource.
    #[error("there is no resource {0}: insert it first")]
    NoSuchResource(&'static str),
    /// A bundle has the same component twice.
    #[error("the bundle has component {0} twice")]
    DuplicateComponent(&'static str),
    /// Two Rust types claim one stable name.
    #[error("both {first} and {second} claim the component name {name}: give one of them another name")]
    NameTaken {
        /// The stable name.
        name: String,
        /// The Rust type that has it.
        first: &'static str,
        /// The Rust type that wants it.
        second: &'static str,
    },
    /// The stored type of a component is not the program's.
    #[error("component {name}: {difference}. Restore the old definition, or give the changed one a new name")]
    SchemaMismatch {
        /// The stable name.
        name: String,
        /// Which part differs, and how.
        difference: String,
    },
    /// A type or a value is larger, deeper or more strictly aligned than is allowed.
    #[error("component {component}: {what}: {found}, and at most {max} are allowed")]
    Limit {
        /// The stable name.
        component: String,
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// How large it may be.
        max: usize,
    },
    /// Equal values of a component could not be told: it has a container without an order beside a part that is not described.
    #[error(
        "component {0} has both a hash container and an opaque part: describe the part, or use an ordered container"
    )]
    NoCanonicalForm(String),
    /// The digest of a component with a hash container needs its Rust type, which this program does not have, where the values
    /// cannot be read by their description.
    #[error(
        "the digest of component {component}, which has a hash container, needs its Rust type, since {cause}: link it into this program"
    )]
    DigestNeedsType {
        /// The stable name.
        component: String,
        /// Why its values cannot be read without.
        cause: crate::describe::ValueError,
    },
    /// Stored values of a component are no values of the program's type, although its description is theirs. They are kept as they are.
    #[error("component {component} is closed, since a stored value of it cannot be read: {why}")]
    Unreadable {
        /// The stable name.
        component: &'static str,
        /// Which value, and what is wrong with it.
        why: String,
    },
    /// The view was captured before this program's type of the component was registered.
    #[error(
        "component {0} was not registered when this view was captured: register it, then take a new view"
    )]
    NotRegistered(&'static str),
    /// A value of a component could not be encoded or decoded.
    #[error("component {component}: {cause}")]
    Codec {
        /// The stable name.
        component: String,
        /// Why.
        cause: CodecError,
    },
    /// An entity does not have all that a query asks for.
    #[error("entity {0} does not have all that the query asks for")]
    NoMatch(Entity),
    /// Several values were asked for to be changed at once, and one of them twice.
    #[error("entity {0} is named twice, and cannot be changed twice at once")]
    EntityTwice(Entity),
    /// A panic ended an operation of the transaction and was caught in its closure: what it did is not known, so that the
    /// transaction cannot be committed.
    #[error("a panic within an operation of the transaction was caught: it cannot be committed")]
    Interrupted,
    /// A transaction could not be rolled back, since a component's `clone` panicked in it.
    #[error("a transaction could not be rolled back (a component's `clone` panicked): reopen the database")]
    Poisoned,
    /// No more entities, components or archetypes can be made, or a transaction cannot keep more to be undone.
    #[error("the world is full: {0}")]
    Full(&'static str),
    /// A stored change or a stored chunk makes no sense, although its checksum holds.
    #[error("byte {offset} of the stored data: {what}")]
    Malformed {
        /// Where in the bytes given.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
}

impl Error {
    pub(crate) fn codec(component: &str, cause: CodecError) -> Self {
        Error::Codec { component: component.to_string(), cause }
    }
}
