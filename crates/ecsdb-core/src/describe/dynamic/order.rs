//! The order of the keys in a tree, as the Rust type has it, where the description alone says which that is.

use std::cmp::Ordering;

use super::Value;
use crate::describe::{Description, Field, Primitive, Shape, TypeIndex};

impl Description {
    /// Brings what has keys of this type into the order of the keys. Those of a type whose order is its own affair stay as they are: enums, structs
    /// with names for their fields, and what has one of them in it. A struct without names is described as a tuple is, and counts as one. In O(n log n).
    ///
    /// # Errors
    /// A key that stands twice, of whichever type.
    pub fn order_keys<T>(
        &self,
        key: TypeIndex,
        entries: &mut [T],
        key_of: impl Fn(&T) -> &Value,
    ) -> Result<(), Value> {
        // As nearly all are: whoever wrote them had them in a tree.
        if entries.windows(2).all(|pair| order(key_of(&pair[0]), key_of(&pair[1])).is_lt()) {
            return Ok(());
        }
        if self.has_known_order(key) {
            entries.sort_by(|a, b| order(key_of(a), key_of(b)));
        }
        let mut keys: Vec<&Value> = entries.iter().map(key_of).collect();
        keys.sort_by(|a, b| order(a, b));
        match keys.windows(2).find(|pair| order(pair[0], pair[1]).is_eq()) {
            Some(twice) => Err(twice[0].clone()),
            None => Ok(()),
        }
    }

    /// Whether [`order`] is that of the Rust type: those of the standard library have one that is known, all others may say what they want.
    fn has_known_order(&self, ty: TypeIndex) -> bool {
        let mut found = vec![ty];
        let mut next = 0;
        while let Some(&ty) = found.get(next) {
            next += 1;
            let Some(shape) = self.shape(ty) else { return false };
            match shape {
                Shape::Primitive(Primitive::F32 | Primitive::F64)
                | Shape::Enum(_)
                | Shape::Opaque(..)
                | Shape::Set(_)
                | Shape::HashMap(..) => return false,
                Shape::Struct(fields) if !is_tuple(fields) => return false,
                _ => shape.each_part(|part| {
                    if !found.contains(&part) {
                        found.push(part);
                    }
                }),
            }
        }
        true
    }
}

fn is_tuple(fields: &[Field]) -> bool {
    fields.iter().enumerate().all(|(i, field)| field.name == i.to_string())
}

/// The order of two values of one type: that of the standard library's types, and of all others what a derived one is, by their parts.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Char(a), Value::Char(b)) => a.cmp(b),
        (Value::Unsigned(a), Value::Unsigned(b)) => a.cmp(b),
        (Value::Signed(a), Value::Signed(b)) => a.cmp(b),
        (Value::F32(a), Value::F32(b)) => a.total_cmp(b),
        (Value::F64(a), Value::F64(b)) => a.total_cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Entity(a), Value::Entity(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::None, Value::None) => Ordering::Equal,
        (Value::None, Value::Some(_)) => Ordering::Less,
        (Value::Some(_), Value::None) => Ordering::Greater,
        (Value::Some(a), Value::Some(b)) => order(a, b),
        (Value::List(a), Value::List(b)) | (Value::Struct(a), Value::Struct(b)) => all(a, b, order),
        (Value::Map(a), Value::Map(b)) => {
            all(a, b, |(key, value), (other, of)| order(key, other).then_with(|| order(value, of)))
        }
        (Value::Variant(place, a), Value::Variant(other, b)) => {
            place.cmp(other).then_with(|| all(a, b, order))
        }
        // Of one type there are none such; whoever writes them is told.
        _ => kind(a).cmp(&kind(b)),
    }
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Bool(_) => 0,
        Value::Char(_) => 1,
        Value::Unsigned(_) => 2,
        Value::Signed(_) => 3,
        Value::F32(_) => 4,
        Value::F64(_) => 5,
        Value::Text(_) => 6,
        Value::Bytes(_) => 7,
        Value::Entity(_) => 8,
        Value::Duration(_) => 9,
        Value::None | Value::Some(_) => 10,
        Value::List(_) => 11,
        Value::Map(_) => 12,
        Value::Struct(_) => 13,
        Value::Variant(..) => 14,
    }
}

/// One after the other, up to the first that differ.
fn all<T>(a: &[T], b: &[T], one: impl Fn(&T, &T) -> Ordering) -> Ordering {
    let differ = a.iter().zip(b).map(|(a, b)| one(a, b)).find(|order| order.is_ne());
    differ.unwrap_or_else(|| a.len().cmp(&b.len()))
}
