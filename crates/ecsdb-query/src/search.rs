//! Which entities of a view a question means, and what of them is shown.

use ecsdb::{ComponentId, Entity, View};
use ecsdb_core::parts::ColumnPart;
use serde_json::{Value as Json, json};

use crate::condition::Condition;
use crate::error::{Error, Result, refuse_more};
use crate::hex::hex;
use crate::json::to_json;
use crate::path::Path;
use crate::stored::{Components, Reader, Stored};

/// Components, conditions and paths of a question, of each kind so many: each is looked at for every entity.
pub(crate) const PARTS_MAX: usize = 1024;

/// A question, as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Entities that have these components.
    pub with: Vec<String>,
    /// Entities that have none of these.
    pub without: Vec<String>,
    /// Entities of which these hold: a component or one of its fields, `=`, `!=`, `<`, `<=`, `>` or `>=`, and a value. One text may have
    /// several, joined by `and`.
    pub conditions: Vec<String>,
    /// What is shown of each: components and fields; all components that are asked for where there is nothing here.
    pub select: Vec<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// A question that was understood.
#[derive(Debug)]
pub struct Search<'d> {
    components: &'d Components,
    with: Vec<ComponentId>,
    without: Vec<ComponentId>,
    conditions: Vec<Condition<'d>>,
    select: Vec<Path<'d>>,
    limit: usize,
}

/// An entity that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub entity: Entity,
    /// What was selected of it, in the order of [`Search::columns`]; `null` for what it does not have.
    pub values: Vec<Json>,
}

impl<'d> Search<'d> {
    /// Understands a question to a world with these components.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(question: &Question, components: &'d Components) -> Result<Search<'d>> {
        let ids = |names: &[String]| -> Result<Vec<ComponentId>> {
            refuse_more("components", names.len(), PARTS_MAX)?;
            names.iter().map(|name| Ok(components.named(name.trim())?.id)).collect()
        };
        let (mut with, without) = (ids(&question.with)?, ids(&question.without)?);
        let mut conditions = Vec::new();
        for text in &question.conditions {
            conditions.extend(Condition::parse_all(text, components)?);
            refuse_more("conditions", conditions.len(), PARTS_MAX)?;
        }
        with.extend(conditions.iter().map(|condition| condition.path.def.id));
        with.dedup();
        refuse_more("paths to show", question.select.len(), PARTS_MAX)?;
        let mut select = Vec::new();
        for text in &question.select {
            select.push(Path::parse(text, components)?);
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
            select = defs.map(|def| Path::parse(&def.name, components)).collect::<Result<_>>()?;
        }
        let limit = question.limit.unwrap_or(usize::MAX);
        Ok(Search { components, with, without, conditions, select, limit })
    }

    /// What is shown of each entity.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.select.iter().map(|path| &*path.text)
    }

    /// Gives each entity that is meant to `each`, until that fails. O(rows of the archetypes that have the components).
    ///
    /// # Errors
    /// When a value that a condition asks for cannot be read, or what `each` fails with.
    pub fn each<E: From<Error>>(
        &self,
        view: &View,
        mut each: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let readers: Vec<Reader<'_>> = self.components.all().map(Reader::of).collect();
        let mut found = 0;
        for chunk in view.chunks() {
            let has: Vec<ComponentId> = chunk.components().collect();
            if !self.with.iter().all(|id| has.contains(id)) || self.without.iter().any(|id| has.contains(id))
            {
                continue;
            }
            let columns: Vec<_> = chunk.columns().collect();
            let entities = columns.first().and_then(|ids| ids.entities()).unwrap_or(&[]);
            for (row, &entity) in entities.iter().enumerate() {
                if found >= self.limit {
                    return Ok(());
                }
                let mut read = ReadRow { columns: &columns, readers: &readers, row, read: Vec::new() };
                if self.holds(&mut read)? {
                    found += 1;
                    let values = self.select.iter().map(|path| shown(path, &mut read));
                    let values = values.collect::<Result<_>>()?;
                    each(Row { entity, values })?;
                }
            }
        }
        Ok(())
    }

    fn holds(&self, read: &mut ReadRow<'_, '_>) -> Result<bool> {
        let mut holds = true;
        for condition in &self.conditions {
            let def = condition.path.def;
            match read.value(def.id)?.map(|stored| &stored.value) {
                Some(Ok(value)) => holds &= condition.holds(value),
                Some(Err(cause)) => {
                    return Err(Error::Unreadable { component: def.name.to_string(), cause: cause.clone() });
                }
                None => {}
            }
        }
        Ok(holds)
    }
}

/// What was read of a row: each value once, however often a question has it.
struct ReadRow<'a, 'd> {
    columns: &'a [ColumnPart],
    readers: &'a [Reader<'d>],
    row: usize,
    read: Vec<(ComponentId, Option<Stored>)>,
}

impl ReadRow<'_, '_> {
    /// The value of the component; `None` where the row does not have it.
    fn value(&mut self, id: ComponentId) -> Result<Option<&Stored>> {
        let at = match self.read.iter().position(|(read, _)| *read == id) {
            Some(at) => at,
            None => {
                let column = self.columns.iter().find(|column| column.component == Some(id));
                let reader = self.readers.iter().find(|reader| reader.def.id == id);
                let stored = match (column, reader) {
                    (Some(column), Some(reader)) => Some(reader.row(column, self.row)?),
                    _ => None,
                };
                self.read.push((id, stored));
                self.read.len() - 1
            }
        };
        Ok(self.read[at].1.as_ref())
    }
}

fn shown(path: &Path<'_>, read: &mut ReadRow<'_, '_>) -> Result<Json> {
    Ok(match read.value(path.def.id)? {
        Some(Stored { value: Ok(value), .. }) => {
            let part = path.follow(value);
            part.map_or(Json::Null, |part| to_json(&path.def.description, path.ty, part))
        }
        Some(Stored { bytes, .. }) => json!({ "stored": hex(bytes) }),
        None => Json::Null,
    })
}
