//! A description as text, much as the types stand in a program.

use std::fmt;

use super::description::{Description, Field, Primitive, Shape, TypeIndex};

/// Levels of nesting that are written out.
const DEPTH_MAX: usize = 8;
/// Bytes after which nothing more is written out: a type with many parts, each with many, has a text without end.
const BYTES_MAX: usize = 4096;

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.types.is_empty() { f.write_str("not stored") } else { f.write_str(&self.text(TypeIndex(0))) }
    }
}

impl Description {
    /// One type as text.
    pub fn text(&self, ty: TypeIndex) -> String {
        let mut text = Text { description: self, out: String::new(), open: Vec::new() };
        text.ty(ty);
        text.out
    }
}

struct Text<'a> {
    description: &'a Description,
    out: String,
    /// The types that this place lies within.
    open: Vec<TypeIndex>,
}

impl Text<'_> {
    fn ty(&mut self, ty: TypeIndex) {
        let Some(shape) = self.description.shape(ty) else { return self.out.push('?') };
        if self.open.len() > DEPTH_MAX || self.open.contains(&ty) || self.out.len() > BYTES_MAX {
            return self.out.push('…');
        }
        self.open.push(ty);
        match shape {
            Shape::Primitive(primitive) => self.primitive(*primitive),
            Shape::Struct(fields) => self.fields(fields),
            Shape::Enum(variants) => {
                self.out.push_str("enum { ");
                self.list(variants, |text, variant| {
                    text.out.push_str(&variant.name);
                    if !variant.fields.is_empty() {
                        text.out.push(' ');
                        text.fields(&variant.fields);
                    }
                });
                self.out.push_str(" }");
            }
            Shape::Array(element, len) => self.around("[", &[*element], &format!("; {len}]")),
            Shape::Sequence(element) => self.around("Vec<", &[*element], ">"),
            Shape::Slice(element) => self.around("Box<[", &[*element], "]>"),
            Shape::OrderedSet(element) => self.around("BTreeSet<", &[*element], ">"),
            Shape::Set(element) => self.around("HashSet<", &[*element], ">"),
            Shape::Map(key, value) => self.around("BTreeMap<", &[*key, *value], ">"),
            Shape::HashMap(key, value) => self.around("HashMap<", &[*key, *value], ">"),
            Shape::Option(inner) => self.around("Option<", &[*inner], ">"),
            Shape::Box(inner) => self.around("Box<", &[*inner], ">"),
            Shape::Opaque(name, version) => self.out.push_str(&format!("opaque {name} version {version}")),
        }
        self.open.pop();
    }

    fn primitive(&mut self, primitive: Primitive) {
        use Primitive::*;
        let name = format!("{primitive:?}");
        match primitive {
            BoxStr => self.out.push_str("Box<str>"),
            String | Entity | Duration => self.out.push_str(&name),
            _ if name.starts_with("NonZero") => self.out.push_str(&name),
            _ => self.out.push_str(&name.to_lowercase()),
        }
    }

    fn around(&mut self, before: &str, parts: &[TypeIndex], after: &str) {
        self.out.push_str(before);
        self.list(parts, |text, part| text.ty(*part));
        self.out.push_str(after);
    }

    fn fields(&mut self, fields: &[Field]) {
        if fields.is_empty() {
            return self.out.push_str("()");
        }
        self.out.push_str("{ ");
        self.list(fields, |text, field| {
            text.out.push_str(&field.name);
            text.out.push_str(": ");
            text.ty(field.ty);
        });
        self.out.push_str(" }");
    }

    fn list<T>(&mut self, items: &[T], one: impl Fn(&mut Self, &T)) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            if self.out.len() > BYTES_MAX {
                return self.out.push('…');
            }
            one(self, item);
        }
    }
}
