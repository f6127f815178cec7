//! What a value is compared with, as text: a number, a word, something in quotes.

use std::cmp::Ordering;

use ecsdb_core::describe::{Description, TypeIndex, Value};
use serde_json::Value as Json;

use crate::condition::Comparison;
use crate::error::{Error, Result};
use crate::json::to_json;

/// What a value is compared with.
#[derive(Debug)]
pub(crate) struct Literal {
    text: String,
    integer: Option<i128>,
    float: Option<f64>,
    quoted: bool,
}

impl Literal {
    pub(crate) fn parse(text: &str) -> Result<Literal> {
        if let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let Some(inside) = text[1..].strip_suffix(quote) else {
                return Err(Error::Unclosed { text: text.into(), quote });
            };
            return Ok(Literal { text: inside.into(), integer: None, float: None, quoted: true });
        }
        if text.is_empty() {
            return Err(Error::NoValue);
        }
        Ok(Literal { text: text.into(), integer: text.parse().ok(), float: text.parse().ok(), quoted: false })
    }

    pub(crate) fn is_null_word(&self) -> bool {
        !self.quoted && self.text == "null"
    }

    /// Whether a comparison with what is not there holds.
    pub(crate) fn is_null(&self, comparison: Comparison) -> bool {
        match comparison {
            Comparison::Equal => self.is_null_word(),
            Comparison::Unequal => !self.is_null_word(),
            _ => false,
        }
    }

    /// How a value compares with it; `None` when the two cannot be compared.
    pub(crate) fn compare(
        &self,
        description: &Description,
        ty: TypeIndex,
        value: &Value,
    ) -> Option<Ordering> {
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
