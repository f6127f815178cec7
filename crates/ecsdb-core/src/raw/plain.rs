//! Plain types: those whose memory bytes are their value.

use crate::entity::Entity;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroU8, NonZeroU16, NonZeroU32,
    NonZeroU64, NonZeroU128,
};

/// A type whose memory bytes are its value, stored as they are. `#[component(plain)]` and `#[describe(plain)]` implement it for
/// structs and field-less enums.
///
/// # Safety
/// The type has no padding and no pointers, and bytes for which [`Plain::is_valid`] holds are a value of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not plain: its memory bytes are not its value",
    note = "a nested struct or enum needs `#[derive(Describe)]` with `#[describe(plain)]`; a type of another crate that is `bytemuck::Pod` can be \
            declared opaque: `#[describe(opaque = \"name\", version = 1)]`"
)]
pub unsafe trait Plain: Copy + Send + Sync + 'static {
    /// Any bytes are a value.
    const ANY_BYTES: bool;

    /// True when these bytes, as many as the type has, are a value.
    fn is_valid(bytes: &[u8]) -> bool;
}

macro_rules! any_bytes {
    ($($ty:ty),*) => {$(
        // SAFETY: a number without padding, of which any bytes are a value; or a struct of the same without padding between them.
        unsafe impl Plain for $ty {
            const ANY_BYTES: bool = true;
            fn is_valid(_: &[u8]) -> bool {
                true
            }
        }
    )*};
}

any_bytes!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128, f32, f64, ());

#[cfg(feature = "glam")]
any_bytes!(
    glam::Vec2,
    glam::Vec3,
    glam::Vec4,
    glam::Quat,
    glam::DVec2,
    glam::DVec3,
    glam::IVec2,
    glam::IVec3,
    glam::Mat4
);

#[cfg(feature = "uuid")]
any_bytes!(uuid::Uuid);

macro_rules! not_zero {
    ($($ty:ty),*) => {$(
        // SAFETY: a number without padding, of which any bytes but zeros are a value.
        unsafe impl Plain for $ty {
            const ANY_BYTES: bool = false;
            fn is_valid(bytes: &[u8]) -> bool {
                bytes.iter().any(|&byte| byte != 0)
            }
        }
    )*};
}

not_zero!(
    NonZeroU8,
    NonZeroU16,
    NonZeroU32,
    NonZeroU64,
    NonZeroU128,
    NonZeroI8,
    NonZeroI16,
    NonZeroI32,
    NonZeroI64,
    NonZeroI128
);

// SAFETY: one byte, 0 or 1.
unsafe impl Plain for bool {
    const ANY_BYTES: bool = false;
    fn is_valid(bytes: &[u8]) -> bool {
        matches!(bytes, [0 | 1])
    }
}

// SAFETY: four bytes, a Unicode scalar value.
unsafe impl Plain for char {
    const ANY_BYTES: bool = false;
    fn is_valid(bytes: &[u8]) -> bool {
        bytes.try_into().is_ok_and(|bytes| char::from_u32(u32::from_ne_bytes(bytes)).is_some())
    }
}

// SAFETY: the elements stand side by side, without padding between them.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {
    const ANY_BYTES: bool = T::ANY_BYTES;
    fn is_valid(bytes: &[u8]) -> bool {
        T::ANY_BYTES || size_of::<T>() == 0 || bytes.chunks_exact(size_of::<T>()).all(T::is_valid)
    }
}

// SAFETY: eight bytes, of which the last four, the generation, are not all zero.
unsafe impl Plain for Entity {
    const ANY_BYTES: bool = false;
    fn is_valid(bytes: &[u8]) -> bool {
        bytes.get(4..).is_some_and(|generation| generation.iter().any(|&byte| byte != 0))
    }
}

// SAFETY: a transparent wrapper of an id.
unsafe impl Plain for crate::archetype::EntityRow {
    const ANY_BYTES: bool = false;
    fn is_valid(bytes: &[u8]) -> bool {
        Entity::is_valid(bytes)
    }
}

// SAFETY: `Entity` is a transparent wrapper of a number that is not zero, so that `None` is eight zeros.
unsafe impl Plain for Option<Entity> {
    const ANY_BYTES: bool = false;
    fn is_valid(bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| byte == 0) || Entity::is_valid(bytes)
    }
}

/// The bytes of a plain value.
pub(crate) fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a plain value has no padding, so that all its bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
