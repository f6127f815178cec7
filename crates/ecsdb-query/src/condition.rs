//! A condition that was understood: a part of a component, a comparison, and a literal of the part's type.

use std::cmp::Ordering;

use ecsdb_core::describe::{Shape, Value};

use crate::error::Result;
use crate::grammar::{Clause, Comparison, clauses};
use crate::literal::Literal;
use crate::path::{Path, unwrap};
use crate::shape::inner;
use crate::stored::Components;

#[derive(Debug)]
pub(crate) struct Condition<'d> {
    pub(crate) path: Path<'d>,
    comparison: Comparison,
    literal: Literal,
}

impl<'d> Condition<'d> {
    /// The conditions of a text, all of which are to hold.
    pub(crate) fn parse_all(text: &str, components: &'d Components) -> Result<Vec<Condition<'d>>> {
        let names: Vec<&str> = components.all().map(|def| &*def.name).collect();
        let parse = |clause: Clause<'_>| {
            let path = Path::parse(clause.path, components)?;
            let literal = Literal::parse(&clause.value, clause.comparison, &path)?;
            Ok(Condition { path, comparison: clause.comparison, literal })
        };
        clauses(text, &names)?.into_iter().map(parse).collect()
    }

    pub(crate) fn holds(&self, value: &Value) -> bool {
        let order =
            self.path.follow(value).map_or_else(|| self.literal.with_nothing(), |value| self.order(value));
        let Some(order) = order else { return self.comparison == Comparison::Unequal };
        match self.comparison {
            Comparison::Equal => order == Ordering::Equal,
            Comparison::Unequal => order != Ordering::Equal,
            Comparison::Less => order == Ordering::Less,
            Comparison::LessEqual => order != Ordering::Greater,
            Comparison::Greater => order == Ordering::Greater,
            Comparison::GreaterEqual => order != Ordering::Less,
        }
    }

    /// How the value compares with the literal; `None` where they only differ.
    fn order(&self, value: &Value) -> Option<Ordering> {
        let description = &self.path.def.description;
        let (mut ty, mut value) = (self.path.ty, value);
        while let Some(Shape::Option(of)) = description.shape(ty) {
            value = match value {
                Value::Some(inside) if !self.literal.is_null() => unwrap(description, *of, inside),
                Value::None => return self.literal.with_nothing(),
                _ => return None,
            };
            ty = inner(description, *of);
        }
        self.literal.order(value)
    }
}
