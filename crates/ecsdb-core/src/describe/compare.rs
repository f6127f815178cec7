//! How two descriptions differ: the first place, from the root, where they do.

use super::description::{Description, Field, Shape, TypeIndex};
use crate::limits;

impl Description {
    /// How `self`, the stored description, differs from `program`, that of the program's type: which part, and what it is in
    /// each. `None` when they are alike.
    pub fn difference(&self, program: &Description) -> Option<String> {
        if self == program {
            return None;
        }
        if self.types.is_empty() || program.types.is_empty() {
            return Some("one of them has no description".into());
        }
        let mut compare = Compare { stored: self, program, seen: Vec::new(), path: Vec::new() };
        let found = compare.types(TypeIndex(0), TypeIndex(0));
        found.or_else(|| {
            (self.archive_format != program.archive_format).then(|| {
                format!(
                    "the archives are {} in the database and {} in this program: a crate of the program switches features of rkyv on",
                    archive_format(self.archive_format),
                    archive_format(program.archive_format)
                )
            })
        })
    }
}

fn archive_format(format: u8) -> String {
    let endian = if format & 0x10 == 0 { "little-endian" } else { "big-endian" };
    let aligned = if format & 8 == 0 { "aligned" } else { "unaligned" };
    format!("{endian}, {aligned}, with pointers of {} bits", 8u32 << (format & 7))
}

struct Compare<'a> {
    stored: &'a Description,
    program: &'a Description,
    /// Pairs that are compared already, or being compared.
    seen: Vec<(TypeIndex, TypeIndex)>,
    path: Vec<String>,
}

impl Compare<'_> {
    fn differ(&self, what: String) -> Option<String> {
        let path = self.path.join(".");
        Some(if path.is_empty() { what } else { format!("`{path}`: {what}") })
    }

    fn part(&mut self, name: &str, stored: TypeIndex, program: TypeIndex) -> Option<String> {
        self.path.push(name.into());
        let found = self.types(stored, program);
        self.path.pop();
        found
    }

    fn types(&mut self, a: TypeIndex, b: TypeIndex) -> Option<String> {
        if self.seen.contains(&(a, b)) {
            return None;
        }
        // No program's types lie so deep, but stored ones may.
        if self.path.len() > limits::VALUE_DEPTH_MAX {
            return self.differ("the types are nested too deeply to be compared".into());
        }
        self.seen.push((a, b));
        let (stored, program) = (self.stored, self.program);
        let (old, new) = (stored.types.get(a.0 as usize)?, program.types.get(b.0 as usize)?);
        let found = match (&old.shape, &new.shape) {
            (Shape::Struct(old), Shape::Struct(new)) => self.fields(old, new),
            (Shape::Enum(old), Shape::Enum(new)) => {
                let pairs = old.iter().zip(new);
                let mut found = None;
                for (old, new) in pairs {
                    if (&old.name, old.number) != (&new.name, new.number) {
                        return self.differ(format!(
                            "variant `{}` = {} in the database, `{}` = {} in the program",
                            old.name, old.number, new.name, new.number
                        ));
                    }
                    self.path.push(old.name.clone());
                    found = found.or_else(|| self.fields(&old.fields, &new.fields));
                    self.path.pop();
                }
                found.or_else(|| {
                    (old.len() != new.len()).then(|| {
                        self.differ(format!(
                            "{} variants in the database, {} in the program",
                            old.len(),
                            new.len()
                        ))
                    })?
                })
            }
            (Shape::Array(a, n), Shape::Array(b, m)) if n == m => self.part("[]", *a, *b),
            (Shape::Sequence(a), Shape::Sequence(b))
            | (Shape::Slice(a), Shape::Slice(b))
            | (Shape::OrderedSet(a), Shape::OrderedSet(b))
            | (Shape::Set(a), Shape::Set(b))
            | (Shape::Option(a), Shape::Option(b))
            | (Shape::Box(a), Shape::Box(b)) => self.part("[]", *a, *b),
            (Shape::Map(a, c), Shape::Map(b, d)) | (Shape::HashMap(a, c), Shape::HashMap(b, d)) => {
                self.part("key", *a, *b).or_else(|| self.part("value", *c, *d))
            }
            (old, new) if old == new => None,
            _ => {
                self.differ(format!("{} in the database, {} in the program", stored.text(a), program.text(b)))
            }
        };
        found.or_else(|| {
            ((old.size, old.align) != (new.size, new.align)).then(|| {
                self.differ(format!(
                    "{} bytes aligned to {} in the database, {} aligned to {} in the program",
                    old.size, old.align, new.size, new.align
                ))
            })?
        })
    }

    fn fields(&mut self, old: &[Field], new: &[Field]) -> Option<String> {
        for (a, b) in old.iter().zip(new) {
            if a.name != b.name {
                return self
                    .differ(format!("field `{}` in the database, `{}` in the program", a.name, b.name));
            }
            if let Some(found) = self.part(&a.name, a.ty, b.ty) {
                return Some(found);
            }
            if a.offset != b.offset {
                return self.differ(format!(
                    "field `{}` at byte {} in the database, at {} in the program",
                    a.name, a.offset, b.offset
                ));
            }
        }
        if old.len() != new.len() {
            return self.differ(format!(
                "{} fields in the database, {} in the program",
                old.len(),
                new.len()
            ));
        }
        None
    }
}
