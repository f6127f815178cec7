//! A component, or a part of it, as text: `game.health.now`.

use ecsdb::ComponentDef;
use ecsdb_core::describe::{Description, LEVELS_MAX, Primitive, Shape, TypeIndex, Value};

use crate::error::{Error, Result, refuse_more, unknown};
use crate::shape::{ROOT, inner, there};
use crate::stored::Components;

/// Bytes of a path: more than the names of a component and of what lies deepest in it have together, but for names that nobody writes.
const PATH_BYTES_MAX: usize = 16 << 10;

/// A component, and a part of it.
#[derive(Debug)]
pub(crate) struct Path<'d> {
    pub(crate) text: String,
    pub(crate) def: &'d ComponentDef,
    /// Fields and variants on the way, by their places.
    steps: Vec<Step>,
    /// The type of what it leads to.
    pub(crate) ty: TypeIndex,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Field(usize),
    /// An element of a list.
    At(usize),
    /// What is there of an option.
    Some,
}

impl<'d> Path<'d> {
    /// Names of components have dots as fields have: the longest component that fits is meant.
    pub(crate) fn parse(text: &str, components: &'d Components) -> Result<Path<'d>> {
        let text = text.trim();
        refuse_more("bytes in a path", text.len(), PATH_BYTES_MAX)?;
        let fits = components.all().filter(|def| {
            let rest = text.strip_prefix(&*def.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let Some(def) = fits.max_by_key(|def| def.name.len()) else {
            return Err(unknown("component", text, components.all().flat_map(|def| likely(&def.name, text))));
        };
        let mut path = Path { text: text.into(), def, steps: Vec::new(), ty: inner(&def.description, ROOT) };
        for name in text[def.name.len()..].split('.').skip(1) {
            path.step(name)?;
        }
        Ok(path)
    }

    fn step(&mut self, name: &str) -> Result<()> {
        let description = &self.def.description;
        // Where there is never anything but the next option, nothing has a part.
        let there = there(description, self.ty);
        while there.is_some()
            && let Some(Shape::Option(of)) = description.shape(self.ty)
        {
            self.steps.push(Step::Some);
            self.ty = inner(description, *of);
        }
        let number = name.parse::<usize>().ok();
        let (step, ty) = match (there.and_then(|ty| description.shape(ty)), number) {
            (Some(Shape::Struct(fields)), _) => match fields.iter().position(|field| field.name == name) {
                Some(at) => (Step::Field(at), fields[at].ty),
                None => {
                    let names = fields.iter().map(|field| &*field.name);
                    return Err(unknown("field", name, names).within(&self.def.name));
                }
            },
            // Bytes are one value.
            (Some(Shape::Array(of, _) | Shape::Sequence(of) | Shape::Slice(of)), Some(at))
                if !matches!(description.shape(*of), Some(Shape::Primitive(Primitive::U8))) =>
            {
                (Step::At(at), *of)
            }
            _ => {
                return Err(Error::NoPart {
                    component: self.def.name.to_string(),
                    part: name.into(),
                    description: description.to_string(),
                });
            }
        };
        self.steps.push(step);
        // Nothing lies deeper, however far the types go on.
        refuse_more("parts in a path", self.steps.len(), LEVELS_MAX)?;
        self.ty = inner(description, ty);
        Ok(())
    }

    /// What of a value it leads to; `None` where that is not there.
    pub(crate) fn follow<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let mut value = unwrap(&self.def.description, ROOT, value);
        let mut ty = inner(&self.def.description, ROOT);
        for step in &self.steps {
            let description = &self.def.description;
            let (next, part) = match (step, description.shape(ty)?, value) {
                (Step::Some, Shape::Option(of), Value::Some(value)) => (*of, &**value),
                (Step::Field(at), Shape::Struct(fields), Value::Struct(parts)) => {
                    (fields.get(*at)?.ty, parts.get(*at)?)
                }
                (
                    Step::At(at),
                    Shape::Array(of, _) | Shape::Sequence(of) | Shape::Slice(of),
                    Value::List(list),
                ) => (*of, list.get(*at)?),
                _ => return None,
            };
            value = unwrap(description, next, part);
            ty = inner(description, next);
        }
        Some(value)
    }
}

/// What may have been meant where no component fits: the names of the parts may be right, and the component's be written in part, or wrong, in as
/// many words as it has at most.
fn likely(name: &str, text: &str) -> impl Iterator<Item = String> {
    let words = 1 + name.matches('.').count();
    let parts = text.match_indices('.').map(|(at, _)| &text[at..]).take(words);
    parts.chain([""]).map(move |parts| format!("{name}{parts}"))
}

/// What is in structs of one field without a name.
pub(crate) fn unwrap<'v>(description: &Description, ty: TypeIndex, value: &'v Value) -> &'v Value {
    let (mut ty, mut value) = (ty, value);
    let end = inner(description, ty);
    while ty != end {
        match (description.shape(ty), value) {
            (Some(Shape::Box(of)), _) => ty = *of,
            (Some(Shape::Struct(fields)), Value::Struct(parts)) if fields.len() == 1 && parts.len() == 1 => {
                ty = fields[0].ty;
                value = &parts[0];
            }
            _ => break,
        }
    }
    value
}
