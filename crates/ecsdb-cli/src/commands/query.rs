//! `ecsdb query`

use std::cmp::Ordering;
use std::io::Write;

use anyhow::Result;
use clap::Args;
use ecsdb::{ComponentDef, ComponentId};
use ecsdb_core::describe::{Description, Shape, TypeIndex, Value};
use serde_json::{Map, Value as Json, json};

use super::stored::{Components, Reader, Stored, unknown};
use crate::failure::Failure;
use crate::output::{Output, many};
use crate::place::{Place, When};
use crate::values::{ROOT, inner, to_json};

/// Options of `query`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Entities that have these components.
    #[arg(long, value_delimiter = ',')]
    with: Vec<String>,
    /// Entities that have none of these components.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Entities of which this holds: a component or one of its fields, `=`, `!=`, `<`, `<=`, `>` or `>=`, and a value. Several are joined
    /// by ` and `, or given one by one.
    #[arg(long = "where")]
    conditions: Vec<String>,
    /// What is shown of each: components and fields. All components that are asked for unless said otherwise.
    #[arg(long, value_delimiter = ',')]
    select: Vec<String>,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
    #[command(flatten)]
    when: When,
}

/// A component, and a part of it.
struct Path<'d> {
    text: String,
    def: &'d ComponentDef,
    /// Fields and variants on the way, by their places.
    steps: Vec<Step>,
    /// The type of what it leads to.
    ty: TypeIndex,
}

#[derive(Clone, Copy)]
enum Step {
    Field(usize),
    /// An element of a list.
    At(usize),
    /// What is there of an option.
    Some,
}

#[derive(Clone, Copy, PartialEq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

struct Condition<'d> {
    path: Path<'d>,
    comparison: Comparison,
    literal: Literal,
}

/// What a value is compared with.
struct Literal {
    text: String,
    integer: Option<i128>,
    float: Option<f64>,
    quoted: bool,
}

const COMPARISONS: [(&str, Comparison); 7] = [
    ("<=", Comparison::LessEqual),
    (">=", Comparison::GreaterEqual),
    ("!=", Comparison::Unequal),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

impl<'d> Path<'d> {
    /// Names of components have dots as fields have: the longest component that fits is meant.
    fn parse(text: &str, components: &'d Components) -> Result<Path<'d>> {
        let text = text.trim();
        let fits = components.all().filter(|def| {
            let rest = text.strip_prefix(&*def.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let Some(def) = fits.max_by_key(|def| def.name.len()) else {
            return Err(unknown("component", text, components.all().map(|def| &*def.name)));
        };
        let mut path = Path { text: text.into(), def, steps: Vec::new(), ty: inner(&def.description, ROOT) };
        for name in text[def.name.len()..].split('.').skip(1) {
            path.step(name)?;
        }
        Ok(path)
    }

    fn step(&mut self, name: &str) -> Result<()> {
        let description = &self.def.description;
        while let Some(Shape::Option(of)) = description.shape(self.ty) {
            self.steps.push(Step::Some);
            self.ty = inner(description, *of);
        }
        let number = name.parse::<usize>().ok();
        let (step, ty) = match (description.shape(self.ty), number) {
            (Some(Shape::Struct(fields)), _) => match fields.iter().position(|field| field.name == name) {
                Some(at) => (Step::Field(at), fields[at].ty),
                None => return Err(unknown("field", name, fields.iter().map(|field| &*field.name))),
            },
            (Some(Shape::Array(of, _) | Shape::Sequence(of) | Shape::Slice(of)), Some(at)) => {
                (Step::At(at), *of)
            }
            _ => {
                let what = format!("{} has no part {name}: it is {}", self.def.name, description);
                return Err(Failure::Usage(what).into());
            }
        };
        self.steps.push(step);
        self.ty = inner(description, ty);
        Ok(())
    }

    /// What of a value it leads to; `None` where that is not there.
    fn follow<'v>(&self, value: &'v Value) -> Option<&'v Value> {
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

/// What is in structs of one field without a name.
fn unwrap<'v>(description: &Description, ty: TypeIndex, value: &'v Value) -> &'v Value {
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

impl<'d> Condition<'d> {
    fn parse(text: &str, components: &'d Components) -> Result<Condition<'d>> {
        let quote = text.find(['"', '\'']).unwrap_or(text.len());
        let found = COMPARISONS.iter().filter_map(|(sign, comparison)| {
            text[..quote].find(sign).map(|at| (at, usize::MAX - sign.len(), *sign, *comparison))
        });
        let Some((at, _, sign, comparison)) = found.min_by_key(|(at, len, ..)| (*at, *len)) else {
            let what = format!(
                "`{text}` is no condition: write a component or a field, a comparison and a value, such as \
                                'game.health.now < 10'"
            );
            return Err(Failure::Usage(what).into());
        };
        let path = Path::parse(&text[..at], components)?;
        let right = text[at + sign.len()..].trim();
        let literal = Literal::parse(right)?;
        Ok(Condition { path, comparison, literal })
    }

    fn holds(&self, value: &Value) -> bool {
        let description = &self.path.def.description;
        let Some(mut value) = self.path.follow(value) else { return self.literal.is_null(self.comparison) };
        let mut ty = self.path.ty;
        while let Some(Shape::Option(of)) = description.shape(ty) {
            match value {
                Value::Some(inside) if !self.literal.is_null_word() => {
                    value = unwrap(description, *of, inside)
                }
                Value::None => return self.literal.is_null(self.comparison),
                _ => return self.comparison == Comparison::Unequal,
            }
            ty = inner(description, *of);
        }
        let Some(order) = self.literal.compare(description, ty, value) else {
            return self.comparison == Comparison::Unequal;
        };
        match self.comparison {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::Unequal => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterEqual => order != Ordering::Less,
        }
    }
}

impl Literal {
    fn parse(text: &str) -> Result<Literal> {
        if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let Some(inside) = text[1..].strip_suffix(quote) else {
                return Err(Failure::Usage(format!("{text} has no closing {quote}")).into());
            };
            return Ok(Literal { text: inside.into(), integer: None, float: None, quoted: true });
        }
        if text.is_empty() {
            return Err(Failure::Usage("a condition ends with the value that is compared with".into()).into());
        }
        Ok(Literal { text: text.into(), integer: text.parse().ok(), float: text.parse().ok(), quoted: false })
    }

    fn is_null_word(&self) -> bool {
        !self.quoted && self.text == "null"
    }

    /// Whether a comparison with what is not there holds.
    fn is_null(&self, comparison: Comparison) -> bool {
        match comparison {
            Comparison::Equal => self.is_null_word(),
            Comparison::Unequal => !self.is_null_word(),
            _ => false,
        }
    }

    /// How a value compares with it; `None` when the two cannot be compared.
    fn compare(&self, description: &Description, ty: TypeIndex, value: &Value) -> Option<Ordering> {
        let integer = |value: i128| match (self.integer, self.float) {
            (Some(literal), _) => Some(value.cmp(&literal)),
            (None, Some(literal)) => (value as f64).partial_cmp(&literal),
            _ => None,
        };
        match value {
            Value::Unsigned(value) => i128::try_from(*value).map_or(Some(Ordering::Greater), integer),
            Value::Signed(value) => integer(*value),
            // As it is shown: 0.1 is what is written so, whatever it is in binary.
            Value::F32(value) => value.partial_cmp(&self.text.parse().ok()?),
            Value::F64(value) => value.partial_cmp(&self.float?),
            Value::Bool(value) => Some(value.cmp(&self.text.parse().ok()?)),
            Value::Duration(value) => {
                value.as_secs_f64().partial_cmp(&self.text.trim_end_matches('s').parse().ok()?)
            }
            Value::Text(text) => Some(text.as_str().cmp(&self.text)),
            other => match to_json(description, ty, other) {
                Json::String(text) => Some(text.as_str().cmp(&self.text)),
                Json::Object(variant) if variant.len() == 1 && matches!(other, Value::Variant(..)) => {
                    variant.keys().next().map(|name| name.as_str().cmp(&self.text))
                }
                json => {
                    let text = json.to_string();
                    (text == self.text).then_some(Ordering::Equal)
                }
            },
        }
    }
}

/// What ` and ` joins, where that is not within quotes.
fn conjunction(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quote) = (Vec::new(), 0, None);
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if text[at..].starts_with(" and ") => {
                parts.push(&text[from..at]);
                from = at + " and ".len();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let seen = options.place.see(options.when.moment())?;
    let components = Components::of(&seen.view);
    let ids = |names: &[String]| -> Result<Vec<ComponentId>> {
        names.iter().map(|name| Ok(components.named(name.trim())?.id)).collect()
    };
    let (mut with, without) = (ids(&options.with)?, ids(&options.without)?);
    let mut conditions = Vec::new();
    for text in options.conditions.iter().flat_map(|text| conjunction(text)) {
        conditions.push(Condition::parse(text, &components)?);
    }
    with.extend(conditions.iter().map(|condition| condition.path.def.id));
    with.dedup();
    let mut select = Vec::new();
    for text in &options.select {
        select.push(Path::parse(text, &components)?);
    }
    // Unless something else is said, all that is asked for.
    if select.is_empty() {
        let mut asked: Vec<ComponentId> = Vec::new();
        for &id in &with {
            if !asked.contains(&id) {
                asked.push(id);
            }
        }
        let defs = asked.iter().filter_map(|&id| components.get(id));
        select = defs.map(|def| Path::parse(&def.name, &components)).collect::<Result<_>>()?;
    }
    let readers: Vec<Reader<'_>> = components.all().map(Reader::of).collect();
    if out.is_json() {
        out.json(&json!({ "state": seen.json() }))?;
    }
    let mut rows = Vec::new();
    let (mut found, limit) = (0, options.limit.unwrap_or(usize::MAX));
    'chunks: for chunk in seen.view.chunks() {
        let has: Vec<ComponentId> = chunk.components().collect();
        if !with.iter().all(|id| has.contains(id)) || without.iter().any(|id| has.contains(id)) {
            continue;
        }
        let columns: Vec<_> = chunk.columns().collect();
        let entities = columns.first().and_then(|ids| ids.entities()).unwrap_or(&[]);
        for (row, entity) in entities.iter().enumerate() {
            if found >= limit {
                break 'chunks;
            }
            let read = |id: ComponentId| -> Result<Option<Stored>> {
                let column = columns.iter().find(|column| column.component == Some(id));
                let reader = readers.iter().find(|reader| reader.def.id == id);
                match (column, reader) {
                    (Some(column), Some(reader)) => reader.row(column, row).map(Some),
                    _ => Ok(None),
                }
            };
            let mut holds = true;
            for condition in &conditions {
                let stored = read(condition.path.def.id)?;
                let value = match &stored {
                    Some(Stored { value: Ok(value), .. }) => value,
                    Some(Stored { value: Err(e), .. }) => {
                        let name = &condition.path.def.name;
                        return Err(Failure::Usage(format!("values of {name} cannot be read: {e}")).into());
                    }
                    None => continue,
                };
                holds &= condition.holds(value);
            }
            if !holds {
                continue;
            }
            found += 1;
            let mut shown = Vec::new();
            for path in &select {
                shown.push(match read(path.def.id)? {
                    Some(Stored { value: Ok(value), .. }) => path
                        .follow(&value)
                        .map_or(Json::Null, |part| to_json(&path.def.description, path.ty, part)),
                    Some(Stored { bytes, .. }) => json!({ "stored": crate::output::hex(&bytes) }),
                    None => Json::Null,
                });
            }
            if out.is_json() {
                let values: Map<String, Json> =
                    select.iter().map(|path| path.text.clone()).zip(shown).collect();
                out.json(&json!({ "entity": entity.to_string(), "values": values }))?;
            } else {
                let mut cells = vec![entity.to_string()];
                cells.extend(shown.into_iter().map(|json| match json {
                    Json::String(text) => text,
                    other => other.to_string(),
                }));
                rows.push(cells);
            }
        }
    }
    if out.is_json() {
        return Ok(out.raw().flush()?);
    }
    let head: Vec<&str> = std::iter::once("entity").chain(select.iter().map(|path| &*path.text)).collect();
    out.table(&head, rows)?;
    out.line(format_args!("{}, {}", many(found as u64, "entity", "entities"), seen.line()))
}
