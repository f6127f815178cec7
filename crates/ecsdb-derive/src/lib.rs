//! The derive macros of ecsdb: `#[derive(Component)]`, `#[derive(Describe)]` and `#[derive(Bundle)]`.
//!
//! The macros only spell out trait implementations; what the traits mean is documented where they are
//! defined, in `ecsdb-core`.

#![forbid(unsafe_code)]

mod bundle;
mod component;
mod describe;
mod krate;

use proc_macro::TokenStream;

/// Makes a struct or an enum a component (and a resource).
///
/// ```ignore
/// #[derive(Component, Clone, Copy)]
/// #[component(name = "game.position", version = 1, plain)]
/// #[repr(C)]
/// struct Position { x: f32, y: f32 }
/// ```
///
/// `#[component(…)]` takes
///
/// | key | meaning |
/// |---|---|
/// | `name = "…"` | the stable name in log and snapshot; required, and never to be changed |
/// | `version = n` | the version of the layout, 1 unless given |
/// | `plain` | stored as its memory bytes: a `#[repr(C)]` or `#[repr(transparent)]` struct without padding of numbers, `bool`, `char`, ids, arrays and other plain types; or a field-less enum with a number type, such as `#[repr(u8)]` |
/// | `archived` | stored through rkyv, for strings, vectors and enums: derive `rkyv::Archive`, `rkyv::Serialize` and `rkyv::Deserialize` too |
/// | `transient` | kept in memory only, gone after a restart |
///
/// Exactly one of `plain`, `archived` and `transient` is given. Generic types are refused, since a stable name
/// belongs to one type.
#[proc_macro_derive(Component, attributes(component, describe))]
pub fn derive_component(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    component::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a type describe itself, so that it can be a part of components. `#[derive(Component)]` does this, too.
///
/// `#[describe(…)]` takes
///
/// | key | on | meaning |
/// |---|---|---|
/// | `plain` | a type | its memory bytes are its value, as `plain` says for components |
/// | `opaque = "name", version = n` | a field, or an archived component | its type is not described: whoever changes its stored form raises the version |
#[proc_macro_derive(Describe, attributes(describe))]
pub fn derive_describe(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    describe::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct, all of whose fields are components or bundles, a bundle to spawn or insert at once.
///
/// ```ignore
/// #[derive(Bundle)]
/// struct Ship { position: Position, velocity: Velocity }
/// ```
#[proc_macro_derive(Bundle)]
pub fn derive_bundle(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    bundle::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
