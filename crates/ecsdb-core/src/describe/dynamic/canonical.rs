//! The form that equal values share, made without the Rust type: what [`Visitor`](crate::describe::Visitor) makes of one.

use super::{Value, ValueError, Values};
use crate::describe::{Field, Primitive, Shape, TypeIndex};

impl Values<'_> {
    pub(super) fn put_canonical(
        &self,
        ty: TypeIndex,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let shape = self.description.shape(ty).ok_or(ValueError::Layout)?;
        match (shape, value) {
            (Shape::Primitive(primitive), _) => put_primitive(*primitive, value, out)?,
            (Shape::Struct(fields), Value::Struct(parts)) => self.fields(fields, parts, out)?,
            (Shape::Enum(variants), Value::Variant(place, parts)) => {
                let variant = variants.get(*place).ok_or(ValueError::Layout)?;
                out.extend_from_slice(&variant.number.to_le_bytes());
                self.fields(&variant.fields, parts, out)?;
            }
            (Shape::Array(..), Value::Bytes(bytes)) => out.extend_from_slice(bytes),
            (Shape::Array(element, _), Value::List(list)) => {
                list.iter().try_for_each(|part| self.put_canonical(*element, part, out))?;
            }
            (Shape::Sequence(_) | Shape::Slice(_), Value::Bytes(bytes)) => {
                put_count(out, bytes.len());
                out.extend_from_slice(bytes);
            }
            (
                Shape::Sequence(element) | Shape::Slice(element) | Shape::OrderedSet(element),
                Value::List(list),
            ) => {
                put_count(out, list.len());
                list.iter().try_for_each(|part| self.put_canonical(*element, part, out))?;
            }
            (Shape::Map(key, value), Value::Map(entries)) => {
                put_count(out, entries.len());
                for (its, of) in entries {
                    self.put_canonical(*key, its, out)?;
                    self.put_canonical(*value, of, out)?;
                }
            }
            (Shape::Set(element), Value::List(list)) => {
                let forms = list.iter().map(|part| {
                    let mut one = Vec::new();
                    self.put_canonical(*element, part, &mut one).map(|()| one)
                });
                put_unordered(forms.collect::<Result<_, _>>()?, out);
            }
            (Shape::HashMap(key, value), Value::Map(entries)) => {
                let forms = entries.iter().map(|(its, of)| {
                    let mut one = Vec::new();
                    self.put_canonical(*key, its, &mut one)?;
                    self.put_canonical(*value, of, &mut one)?;
                    Ok(one)
                });
                put_unordered(forms.collect::<Result<_, _>>()?, out);
            }
            (Shape::Option(_), Value::None) => out.push(0),
            (Shape::Option(inner), Value::Some(value)) => {
                out.push(1);
                self.put_canonical(*inner, value, out)?;
            }
            (Shape::Box(inner), value) => self.put_canonical(*inner, value, out)?,
            (Shape::Opaque(name, _), _) => return Err(ValueError::Opaque(name.clone())),
            _ => return Err(ValueError::Mismatch("value of the type")),
        }
        Ok(())
    }

    fn fields(&self, fields: &[Field], parts: &[Value], out: &mut Vec<u8>) -> Result<(), ValueError> {
        fields.iter().zip(parts).try_for_each(|(field, part)| self.put_canonical(field.ty, part, out))
    }
}

fn put_count(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&(n as u64).to_le_bytes());
}

fn put_unordered(mut forms: Vec<Vec<u8>>, out: &mut Vec<u8>) {
    put_count(out, forms.len());
    forms.sort_unstable();
    for form in forms {
        put_count(out, form.len());
        out.extend_from_slice(&form);
    }
}

fn put_primitive(primitive: Primitive, value: &Value, out: &mut Vec<u8>) -> Result<(), ValueError> {
    use Primitive::*;
    let bytes = match primitive {
        Bool | U8 | I8 | NonZeroU8 | NonZeroI8 => 1,
        U16 | I16 | NonZeroU16 | NonZeroI16 => 2,
        Char | U32 | I32 | F32 | NonZeroU32 | NonZeroI32 => 4,
        U64 | I64 | F64 | NonZeroU64 | NonZeroI64 | Entity | Usize | Isize => 8,
        U128 | I128 | NonZeroU128 | NonZeroI128 | Duration | String | BoxStr => 16,
    };
    let number = match value {
        Value::Bool(value) => u128::from(*value),
        Value::Char(value) => u128::from(u32::from(*value)),
        Value::Unsigned(value) => *value,
        Value::Signed(value) => *value as u128,
        Value::F32(value) => value.to_bits().into(),
        Value::F64(value) => value.to_bits().into(),
        Value::Entity(value) => value.to_bits().into(),
        Value::Duration(value) => value.as_nanos(),
        Value::Text(text) => {
            put_count(out, text.len());
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        _ => return Err(ValueError::Mismatch("value of the type")),
    };
    out.extend_from_slice(&number.to_le_bytes()[..bytes]);
    Ok(())
}
