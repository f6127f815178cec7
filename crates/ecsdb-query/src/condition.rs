//! A condition as text: a path, a comparison, a literal.

use std::cmp::Ordering;

use ecsdb_core::describe::{Shape, Value};

use crate::error::{Error, Result};
use crate::json::inner;
use crate::literal::Literal;
use crate::path::{Path, unwrap};
use crate::stored::Components;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug)]
pub(crate) struct Condition<'d> {
    pub(crate) path: Path<'d>,
    comparison: Comparison,
    literal: Literal,
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

impl<'d> Condition<'d> {
    pub(crate) fn parse(text: &str, components: &'d Components) -> Result<Condition<'d>> {
        let quote = text.find(['"', '\'']).unwrap_or(text.len());
        let found = COMPARISONS.iter().filter_map(|(sign, comparison)| {
            text[..quote].find(sign).map(|at| (at, usize::MAX - sign.len(), *sign, *comparison))
        });
        let Some((at, _, sign, comparison)) = found.min_by_key(|(at, len, ..)| (*at, *len)) else {
            return Err(Error::NoCondition(text.into()));
        };
        let path = Path::parse(&text[..at], components)?;
        let right = text[at + sign.len()..].trim();
        let literal = Literal::parse(right)?;
        Ok(Condition { path, comparison, literal })
    }

    pub(crate) fn holds(&self, value: &Value) -> bool {
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

/// What ` and ` joins, where that is not within quotes.
pub(crate) fn conjunction(text: &str) -> Vec<&str> {
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
