//! Descriptions of common types of other crates, each behind the feature of that crate's name.

#[cfg(any(feature = "glam", feature = "uuid"))]
use super::{Describe, Shape, Stored, TooDeep, Types, Visitor};

/// A struct of another crate, of which only some fields are named: those that make it up.
#[cfg(feature = "glam")]
macro_rules! foreign {
    ($($ty:ty { $($field:ident: $part:ty),* })*) => {$(
        impl Describe for $ty {
            fn shape(types: &mut Types) -> Shape {
                Shape::Struct(vec![$(types.field::<$part>(stringify!($field), 0)),*])
            }
            // The library's features (`scalar-math`) change the alignment, and with it the layout in an archive, too.
            fn layout(_: Stored) -> (usize, usize) {
                (size_of::<Self>(), align_of::<Self>())
            }
            fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep> {
                $(self.$field.visit(visitor)?;)*
                Ok(())
            }
        }
    )*};
}

#[cfg(feature = "glam")]
foreign! {
    glam::Vec2 { x: f32, y: f32 }
    glam::Vec3 { x: f32, y: f32, z: f32 }
    glam::Vec4 { x: f32, y: f32, z: f32, w: f32 }
    glam::Quat { x: f32, y: f32, z: f32, w: f32 }
    glam::DVec2 { x: f64, y: f64 }
    glam::DVec3 { x: f64, y: f64, z: f64 }
    glam::IVec2 { x: i32, y: i32 }
    glam::IVec3 { x: i32, y: i32, z: i32 }
    glam::Mat4 { x_axis: glam::Vec4, y_axis: glam::Vec4, z_axis: glam::Vec4, w_axis: glam::Vec4 }
}

#[cfg(feature = "uuid")]
impl Describe for uuid::Uuid {
    fn shape(types: &mut Types) -> Shape {
        <[u8; 16]>::shape(types)
    }
    fn layout(stored: Stored) -> (usize, usize) {
        <[u8; 16]>::layout(stored)
    }
    fn visit(&self, visitor: &mut Visitor) -> Result<(), TooDeep> {
        visitor.bytes(self.as_bytes());
        Ok(())
    }
}
