//! Where parts lie. In memory the description says so; in an archive it follows from what rkyv makes of each shape.

use super::{TREE_ENTRIES, USUAL_ARCHIVE, ValueError};
use crate::describe::{Description, Field, Primitive, Shape, TypeIndex};
use crate::limits;

/// Bytes and alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub(super) size: usize,
    pub(super) align: usize,
}

/// Of each type of the description.
pub(super) fn layouts(description: &Description) -> Result<Vec<Layout>, ValueError> {
    // No value shows how many boxes it lies in: a way through boxes alone has an end that is near, or there is no value of the type.
    let boxes = |ty: usize| {
        let mut at = TypeIndex(ty as u32);
        (0..=limits::VALUE_DEPTH_MAX).all(|_| match description.shape(at) {
            Some(Shape::Box(of)) => {
                at = *of;
                true
            }
            _ => false,
        })
    };
    if (0..description.types.len()).any(boxes) {
        return Err(ValueError::Layout);
    }
    if description.archive_format == 0 {
        let stored = |ty: &crate::describe::description::Type| Layout {
            size: ty.size as usize,
            align: (ty.align as usize).max(1),
        };
        return Ok(description.types.iter().map(stored).collect());
    }
    if description.archive_format != USUAL_ARCHIVE {
        return Err(ValueError::Layout);
    }
    let mut known = vec![None; description.types.len()];
    for at in 0..known.len() {
        archived(description, TypeIndex(at as u32), &mut known, 0)?;
    }
    Ok(known.into_iter().map(Option::unwrap_or_default).collect())
}

fn archived(
    description: &Description,
    ty: TypeIndex,
    known: &mut [Option<Layout>],
    depth: usize,
) -> Result<Layout, ValueError> {
    let at = ty.0 as usize;
    if let Some(Some(layout)) = known.get(at) {
        return Ok(*layout);
    }
    // A type that lies within itself, without a pointer between, is none.
    if depth > limits::VALUE_DEPTH_MAX {
        return Err(ValueError::Layout);
    }
    let own = description.types.get(at).ok_or(ValueError::Layout)?;
    let mut of = |ty| archived(description, ty, known, depth + 1);
    let layout = match &own.shape {
        Shape::Primitive(primitive) => Layout::of(*primitive),
        Shape::Struct(fields) => of_fields(0, fields, &mut of)?,
        Shape::Enum(variants) => {
            let mut all = Layout { size: usize::from(!variants.is_empty()), align: 1 };
            for variant in variants {
                let one = of_fields(1, &variant.fields, &mut of)?;
                all = Layout { size: all.size.max(one.size), align: all.align.max(one.align) };
            }
            all.padded()
        }
        Shape::Array(element, len) => {
            let element = of(*element)?;
            let len = usize::try_from(*len).map_err(|_| ValueError::Layout)?;
            Layout { size: element.size.checked_mul(len).ok_or(ValueError::Layout)?, ..element }
        }
        Shape::Option(inner) => {
            let inner = of(*inner)?;
            Layout { size: inner.align + inner.size, align: inner.align }.padded()
        }
        Shape::Box(_) => Layout { size: 4, align: 4 },
        Shape::Sequence(_) | Shape::Slice(_) | Shape::Map(..) | Shape::OrderedSet(_) => {
            Layout { size: 8, align: 4 }
        }
        Shape::Set(_) | Shape::HashMap(..) => Layout { size: 12, align: 4 },
        Shape::Opaque(name, _) if own.align == 0 => return Err(ValueError::Opaque(name.clone())),
        Shape::Opaque(..) => Layout { size: own.size as usize, align: own.align as usize },
    };
    // What derives rkyv's traits has said it itself.
    let said = Layout { size: own.size as usize, align: own.align as usize };
    let layout = match said.align {
        0 => layout,
        // More strictly aligned than its parts: a vector of a processor, say.
        align if align >= layout.align && said == (Layout { align, ..layout }).padded() => said,
        _ => return Err(ValueError::Layout),
    };
    known[at] = Some(layout);
    Ok(layout)
}

/// Fields one after the other, as `repr(C)` lays them out, after `before` bytes.
fn of_fields(
    before: usize,
    fields: &[Field],
    of: &mut dyn FnMut(TypeIndex) -> Result<Layout, ValueError>,
) -> Result<Layout, ValueError> {
    let mut all = Layout { size: before, align: 1 };
    for field in fields {
        all.push(of(field.ty)?);
    }
    Ok(all.padded())
}

impl Layout {
    fn of(primitive: Primitive) -> Layout {
        use Primitive::*;
        let bytes = match primitive {
            Bool | U8 | I8 | NonZeroU8 | NonZeroI8 => 1,
            U16 | I16 | NonZeroU16 | NonZeroI16 => 2,
            Char | U32 | I32 | F32 | NonZeroU32 | NonZeroI32 | Usize | Isize => 4,
            U64 | I64 | F64 | NonZeroU64 | NonZeroI64 | Entity => 8,
            U128 | I128 | NonZeroU128 | NonZeroI128 => 16,
            Duration => return Layout { size: 16, align: 8 },
            String | BoxStr => return Layout { size: 8, align: 4 },
        };
        Layout { size: bytes, align: bytes }
    }

    /// Adds a part at the next place that fits it, and gives that place.
    pub(super) fn push(&mut self, part: Layout) -> usize {
        let at = self.size.next_multiple_of(part.align.max(1));
        self.size = at.saturating_add(part.size);
        self.align = self.align.max(part.align);
        at
    }

    pub(super) fn padded(self) -> Layout {
        Layout { size: self.size.next_multiple_of(self.align.max(1)), ..self }
    }
}

/// Where the parts of a node of an archived tree lie: a leaf has a length, an inner node its children, in the same place.
pub(super) struct TreeNode {
    pub(super) keys: usize,
    pub(super) values: usize,
    /// The length of a leaf, or the pointers to the lesser nodes, with that to the greater one after them.
    pub(super) rest: usize,
    pub(super) leaf: Layout,
    pub(super) inner: Layout,
}

impl TreeNode {
    pub(super) fn of(key: Layout, value: Layout) -> TreeNode {
        let many = |one: Layout| Layout { size: one.size * TREE_ENTRIES, ..one };
        let mut node = Layout { size: 1, align: 1 };
        let (keys, values) = (node.push(many(key)), node.push(many(value)));
        let (mut leaf, mut inner) = (node.padded(), node.padded());
        let rest = leaf.push(Layout { size: 4, align: 4 });
        inner.push(Layout { size: 4 * (TREE_ENTRIES + 1), align: 4 });
        TreeNode { keys, values, rest, leaf: leaf.padded(), inner: inner.padded() }
    }
}
