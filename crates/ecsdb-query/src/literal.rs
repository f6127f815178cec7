//! What a value is compared with, as the type of the value wants it: a number, a word, text.

use std::cmp::Ordering;

use ecsdb::Entity;
use ecsdb_core::describe::{Primitive, Shape, Value};

use crate::error::{Error, Result, unknown};
use crate::grammar::{Comparison, Word};
use crate::hex::from_hex;
use crate::path::Path;
use crate::shape::there;

/// What a value is compared with.
#[derive(Debug, PartialEq)]
pub(crate) enum Literal {
    /// Of any type: the value is not there.
    Null,
    Bool(bool),
    Char(char),
    Integer(Number),
    F32(f32),
    F64(f64),
    Text(String),
    Bytes(Vec<u8>),
    Entity(Entity),
    /// In nanoseconds.
    Duration(Number),
    /// The place of a variant among those of its enum.
    Variant(usize),
}

/// Digits behind the point of a duration in seconds.
const NANOS: i64 = 9;

impl Literal {
    /// The word as a literal of the type that the path leads to.
    pub(crate) fn parse(word: &Word, comparison: Comparison, path: &Path<'_>) -> Result<Literal> {
        use Primitive::*;
        let description = &path.def.description;
        let wrong = |wanted: &str| Error::Misfit {
            path: path.text.clone(),
            of: description.text(path.ty),
            word: word.text.clone(),
            wanted: wanted.into(),
        };
        let there = there(description, path.ty);
        let (literal, wanted) = match there.and_then(|ty| description.shape(ty)) {
            _ if word.bare() == Some("null") => (Some(Literal::Null), ""),
            None => (None, "null: there is nothing in it but more of the same"),
            Some(Shape::Primitive(primitive)) => match primitive {
                Bool => (word.bare().and_then(|word| word.parse().ok()).map(Literal::Bool), "true or false"),
                Char => (word.text.parse().ok().map(Literal::Char), "one character"),
                F32 => (word.bare().and_then(float).map(Literal::F32), FLOAT),
                F64 => (word.bare().and_then(float).map(Literal::F64), FLOAT),
                String | BoxStr => (Some(Literal::Text(word.text.clone())), ""),
                Entity => (word.text.parse().ok().map(Literal::Entity), "an entity id such as 12v3"),
                Duration => {
                    let seconds = word.text.strip_suffix('s').unwrap_or(&word.text);
                    (Number::parse(seconds, NANOS).map(Literal::Duration), "seconds such as 1.5s")
                }
                _ => {
                    let number = word.bare().and_then(|word| Number::parse(word, 0));
                    (number.map(Literal::Integer), "a number such as 10, without quotes")
                }
            },
            Some(Shape::Enum(variants)) => {
                let place = variants.iter().position(|variant| variant.name == word.text);
                let names = variants.iter().map(|variant| &*variant.name);
                let place = place.ok_or_else(|| unknown("variant", &word.text, names).within(&path.text))?;
                (Some(Literal::Variant(place)), "")
            }
            Some(Shape::Opaque(..)) => (bytes(word), BYTES),
            Some(Shape::Sequence(of) | Shape::Slice(of))
                if matches!(description.shape(*of), Some(Shape::Primitive(U8))) =>
            {
                (bytes(word), BYTES)
            }
            Some(&Shape::Array(of, len)) if matches!(description.shape(of), Some(Shape::Primitive(U8))) => {
                let all = from_hex(&word.text).filter(|bytes| bytes.len() as u64 == len);
                let all = all.ok_or_else(|| wrong(&format!("{len} {BYTES}")))?;
                (Some(Literal::Bytes(all)), "")
            }
            _ => (None, "one of its parts before the comparison, or null behind it"),
        };
        let literal = literal.ok_or_else(|| wrong(wanted))?;
        if comparison.is_of_order() && !literal.has_an_order() {
            return Err(wrong("= or !=: it has no order"));
        }
        Ok(literal)
    }

    fn has_an_order(&self) -> bool {
        !matches!(self, Literal::Null | Literal::Bool(_) | Literal::Entity(_) | Literal::Variant(_))
    }

    pub(crate) fn is_null(&self) -> bool {
        *self == Literal::Null
    }

    /// How what is not there compares with it.
    pub(crate) fn with_nothing(&self) -> Option<Ordering> {
        self.is_null().then_some(Ordering::Equal)
    }

    /// How a value compares with it; `None` when all that can be said is that they differ.
    pub(crate) fn order(&self, value: &Value) -> Option<Ordering> {
        let same = |same: bool| same.then_some(Ordering::Equal);
        match (self, value) {
            (Literal::Integer(number), Value::Unsigned(value)) => Some(number.of_value(false, *value)),
            (Literal::Integer(number), Value::Signed(value)) => {
                Some(number.of_value(*value < 0, value.unsigned_abs()))
            }
            (Literal::Duration(number), Value::Duration(value)) => {
                Some(number.of_value(false, value.as_nanos()))
            }
            // As they are shown: 0.1 is what is written so, whatever it is in binary, and NaN is NaN.
            (Literal::F32(literal), Value::F32(value)) => {
                same(literal.is_nan() && value.is_nan()).or_else(|| value.partial_cmp(literal))
            }
            (Literal::F64(literal), Value::F64(value)) => {
                same(literal.is_nan() && value.is_nan()).or_else(|| value.partial_cmp(literal))
            }
            (Literal::Text(literal), Value::Text(value)) => Some(value.cmp(literal)),
            (Literal::Char(literal), Value::Char(value)) => Some(value.cmp(literal)),
            (Literal::Bytes(literal), Value::Bytes(value)) => Some(value.cmp(literal)),
            (Literal::Bool(literal), Value::Bool(value)) => same(literal == value),
            (Literal::Entity(literal), Value::Entity(value)) => same(literal == value),
            (Literal::Variant(literal), Value::Variant(value, _)) => same(literal == value),
            // One without fields is shown as null.
            (Literal::Null, Value::Struct(fields)) => same(fields.is_empty()),
            _ => None,
        }
    }
}

const FLOAT: &str = "a number such as 0.5 that its type can hold, NaN, Infinity or -Infinity, without quotes";
const BYTES: &str = "bytes in hexadecimal digits";

fn bytes(word: &Word) -> Option<Literal> {
    from_hex(&word.text).map(Literal::Bytes)
}

trait Float: std::str::FromStr {
    fn is_finite(&self) -> bool;
}

impl Float for f32 {
    fn is_finite(&self) -> bool {
        f32::is_finite(*self)
    }
}

impl Float for f64 {
    fn is_finite(&self) -> bool {
        f64::is_finite(*self)
    }
}

/// Rust reads more words than those that are shown, and takes what is too large for infinite.
fn float<F: Float>(word: &str) -> Option<F> {
    let value = word.parse::<F>().ok()?;
    let is_one =
        matches!(word, "NaN" | "Infinity" | "-Infinity") || (Digits::of(word).is_some() && value.is_finite());
    is_one.then_some(value)
}

/// The parts of a decimal number.
struct Digits<'t> {
    negative: bool,
    whole: &'t str,
    rest: &'t str,
    exponent: i64,
}

impl Digits<'_> {
    fn of(word: &str) -> Option<Digits<'_>> {
        let negative = word.starts_with('-');
        let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
        let (number, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_one = are_digits(whole)
            && are_digits(rest)
            && are_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
        // One of more digits than this has no number of its own.
        let exponent = exponent.parse::<i32>().ok()?;
        is_one.then_some(Digits { negative, whole, rest, exponent: exponent.into() })
    }
}

/// A decimal number, as exactly as whole numbers can be compared with it.
#[derive(Debug, PartialEq)]
pub(crate) struct Number {
    negative: bool,
    /// What is before the point; `None` for more than any value has.
    whole: Option<u128>,
    /// There is more behind the point.
    more: bool,
}

impl Number {
    /// What the word says, times a power of ten.
    fn parse(word: &str, power: i64) -> Option<Number> {
        let digits = Digits::of(word)?;
        let point = digits.whole.len() as i64 + digits.exponent + power;
        let (mut whole, mut more) = (Some(0u128), false);
        let all = digits.whole.bytes().chain(digits.rest.bytes()).map(|byte| u128::from(byte - b'0'));
        let mut place = 0;
        for digit in all {
            if place < point {
                whole = whole.and_then(|whole| whole.checked_mul(10)?.checked_add(digit));
            } else {
                more |= digit != 0;
            }
            place += 1;
        }
        // Zeros up to the point, as long as they change anything.
        while place < point && whole.is_some_and(|whole| whole > 0) {
            whole = whole.and_then(|whole| whole.checked_mul(10));
            place += 1;
        }
        let zero = whole == Some(0) && !more;
        Some(Number { negative: digits.negative && !zero, whole, more })
    }

    /// How a value compares with it, given by its sign and size.
    fn of_value(&self, negative: bool, size: u128) -> Ordering {
        let by_size = match self.whole {
            None => Ordering::Less,
            Some(whole) => size.cmp(&whole).then(if self.more { Ordering::Less } else { Ordering::Equal }),
        };
        match (negative, self.negative) {
            (false, false) => by_size,
            (true, true) => by_size.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests;
