//! The components that the tests share.

use ecsdb::Component;

#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "test.position", plain)]
#[repr(C)]
pub(crate) struct Position {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "test.counter", plain)]
#[repr(C)]
pub(crate) struct Counter(pub(crate) u64);

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "test.name", archived)]
pub(crate) struct Name(pub(crate) String);

#[derive(Component, Clone, Debug, PartialEq)]
#[component(name = "test.cache", transient)]
pub(crate) struct Cache(pub(crate) Vec<u32>);

/// A resource: how many transactions there were.
#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "test.progress", plain)]
#[repr(C)]
pub(crate) struct Progress(pub(crate) u64);
