//! A description as text, much as the types stand in a program.

use std::fmt;

use super::description::{Description, Field, Shape, TypeIndex};

/// Levels of nesting that are written out.
const DEPTH_MAX: usize = 8;

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.types.is_empty() { f.write_str("not stored") } else { f.write_str(&self.text(TypeIndex(0))) }
    }
}

impl Description {
    /// One type as text.
    pub(super) fn text(&self, ty: TypeIndex) -> String {
        self.nested(ty, 0)
    }

    fn nested(&self, ty: TypeIndex, depth: usize) -> String {
        let Some(shape) = self.shape(ty) else { return "?".into() };
        if depth > DEPTH_MAX {
            return "…".into();
        }
        let part = |ty: &TypeIndex| self.nested(*ty, depth + 1);
        match shape {
            Shape::Primitive(primitive) => {
                let name = format!("{primitive:?}");
                if matches!(name.as_str(), "String" | "Entity" | "Duration") || name.starts_with("Non") {
                    name
                } else {
                    name.to_lowercase()
                }
            }
            Shape::Struct(fields) => self.fields(fields, depth),
            Shape::Enum(variants) => {
                let variants = variants.iter().map(|variant| match variant.fields.is_empty() {
                    true => variant.name.clone(),
                    false => format!("{} {}", variant.name, self.fields(&variant.fields, depth)),
                });
                format!("enum {{ {} }}", variants.collect::<Vec<_>>().join(", "))
            }
            Shape::Array(element, len) => format!("[{}; {len}]", part(element)),
            Shape::Sequence(element) => format!("Vec<{}>", part(element)),
            Shape::Set(element) => format!("HashSet<{}>", part(element)),
            Shape::Map(key, value) => format!("BTreeMap<{}, {}>", part(key), part(value)),
            Shape::HashMap(key, value) => format!("HashMap<{}, {}>", part(key), part(value)),
            Shape::Option(inner) => format!("Option<{}>", part(inner)),
            Shape::Box(inner) => format!("Box<{}>", part(inner)),
            Shape::Opaque(name, version) => format!("opaque {name} version {version}"),
        }
    }

    fn fields(&self, fields: &[Field], depth: usize) -> String {
        if fields.is_empty() {
            return "()".into();
        }
        let text = |field: &Field| format!("{}: {}", field.name, self.nested(field.ty, depth + 1));
        format!("{{ {} }}", fields.iter().map(text).collect::<Vec<_>>().join(", "))
    }
}
