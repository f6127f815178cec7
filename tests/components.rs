//! The components that the tests share.

use ecsdb::Component;

#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "test.position", plain)]
#[repr(C)]
pub struct Position {
    pub x: f32,
    pub y: f32,
}

#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "test.counter", plain)]
#[repr(C)]
pub struct Counter(pub u64);

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "test.name", archived)]
pub struct Name(pub String);

#[derive(Component, Clone, Debug, PartialEq)]
#[component(name = "test.cache", transient)]
pub struct Cache(pub Vec<u32>);

/// A resource: how many transactions there were.
#[derive(Component, Clone, Copy, Debug, PartialEq, Default)]
#[component(name = "test.progress", plain)]
#[repr(C)]
pub struct Progress(pub u64);
