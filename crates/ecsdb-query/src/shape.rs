//! What a type is in the end, however many boxes, wrappers and options it lies in: every way from one type to the next that takes nothing of a
//! value, or of JSON, goes through [`Description::follow`], which has an end.

use ecsdb_core::describe::{Description, Field, Shape, TypeIndex};

/// The component's own type.
pub const ROOT: TypeIndex = TypeIndex(0);

/// The type that counts: a box, and a struct of one field without a name, is what is in it. One that is nothing but itself, and so has no
/// values, counts as it is.
pub fn inner(description: &Description, ty: TypeIndex) -> TypeIndex {
    description.follow(ty, wrapped).unwrap_or(ty)
}

/// What is in a box, which is no level of a value.
pub(crate) fn unboxed(description: &Description, ty: TypeIndex) -> TypeIndex {
    description.follow(ty, |shape| if let Shape::Box(of) = shape { Some(*of) } else { None }).unwrap_or(ty)
}

fn wrapped(shape: &Shape) -> Option<TypeIndex> {
    match shape {
        Shape::Box(of) => Some(*of),
        Shape::Struct(fields) if is_wrapper(fields) => Some(fields[0].ty),
        _ => None,
    }
}

/// What of a type can be there, however many options it lies in; `None` where there is never anything but the next option.
pub(crate) fn there(description: &Description, ty: TypeIndex) -> Option<TypeIndex> {
    description.follow(ty, |shape| match shape {
        Shape::Option(of) => Some(*of),
        shape => wrapped(shape),
    })
}

pub(crate) fn is_wrapper(fields: &[Field]) -> bool {
    matches!(fields, [only] if only.name == "0")
}

pub(crate) fn is_tuple(fields: &[Field]) -> bool {
    !fields.is_empty() && fields.iter().enumerate().all(|(i, field)| field.name == i.to_string())
}

/// Whether a value of the type can be `null`, so that an option of it must say that it is there.
pub(crate) fn can_be_null(description: &Description, ty: TypeIndex) -> bool {
    match description.shape(inner(description, ty)) {
        Some(Shape::Option(_)) => true,
        Some(Shape::Struct(fields)) => fields.is_empty(),
        _ => false,
    }
}
