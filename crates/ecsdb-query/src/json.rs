//! Values as JSON and back, by their descriptions. `docs/command-line.md` has the table.

use std::io;
use std::time::Duration;

use ecsdb_core::describe::{Description, Field, LEVELS_MAX, Primitive, Shape, TypeIndex, Value};
use serde_json::{Map, Number, Value as Json};

use crate::error::{Unfit, shortened};
use crate::hex::{from_hex, hex};
use crate::shape::{ROOT, can_be_null, is_tuple, is_wrapper, unboxed};

/// Levels of lists and objects of any value as JSON: a variant is an object, and its fields another; so are a map of pairs, and each pair.
pub const JSON_DEPTH_MAX: usize = 2 * (LEVELS_MAX + 1);

/// Bytes that are shown of a value, or of a name, which does not fit; and of all the names that would.
const SHOWN_BYTES: usize = 100;
const NAMES_BYTES: usize = 400;

/// A value of the type, as people and programs read it.
pub fn to_json(description: &Description, ty: TypeIndex, value: &Value) -> Json {
    let ty = unboxed(description, ty);
    match (description.shape(ty), value) {
        (Some(Shape::Struct(fields)), Value::Struct(parts)) => fields_to_json(description, fields, parts),
        (Some(Shape::Enum(variants)), Value::Variant(place, parts)) => match variants.get(*place) {
            Some(variant) if variant.fields.is_empty() => variant.name.as_str().into(),
            Some(variant) => {
                let fields = fields_to_json(description, &variant.fields, parts);
                Json::Object(Map::from_iter([(variant.name.clone(), fields)]))
            }
            None => Json::Null,
        },
        (Some(Shape::Array(..)), Value::Bytes(bytes)) => bytes.iter().map(|&byte| Json::from(byte)).collect(),
        (_, Value::Bytes(bytes)) => hex(bytes).into(),
        (
            Some(
                Shape::Array(element, _)
                | Shape::Sequence(element)
                | Shape::Slice(element)
                | Shape::OrderedSet(element)
                | Shape::Set(element),
            ),
            Value::List(list),
        ) => list.iter().map(|part| to_json(description, *element, part)).collect(),
        (Some(Shape::Map(key, value) | Shape::HashMap(key, value)), Value::Map(entries)) => {
            let texts = entries.iter().map(|(key, of)| match key {
                Value::Text(text) => Some((text.clone(), to_json(description, *value, of))),
                _ => None,
            });
            match texts.collect::<Option<Map<String, Json>>>() {
                Some(object) if has_text_keys(description, *key) => Json::Object(object),
                _ => entries
                    .iter()
                    .map(|(its, of)| {
                        Json::Array(vec![to_json(description, *key, its), to_json(description, *value, of)])
                    })
                    .collect(),
            }
        }
        (Some(Shape::Option(_)), Value::None) => Json::Null,
        (Some(Shape::Option(inner)), Value::Some(value)) => {
            let value = to_json(description, *inner, value);
            match can_be_null(description, *inner) {
                true => Json::Object(Map::from_iter([("some".to_string(), value)])),
                false => value,
            }
        }
        (Some(Shape::Primitive(primitive)), value) => scalar_to_json(*primitive, value),
        _ => Json::Null,
    }
}

fn has_text_keys(description: &Description, key: TypeIndex) -> bool {
    matches!(description.shape(key), Some(Shape::Primitive(Primitive::String | Primitive::BoxStr)))
}

fn fields_to_json(description: &Description, fields: &[Field], parts: &[Value]) -> Json {
    let mut each = fields.iter().zip(parts).map(|(field, part)| to_json(description, field.ty, part));
    if fields.is_empty() {
        Json::Null
    } else if is_wrapper(fields) {
        each.next().unwrap_or_default()
    } else if is_tuple(fields) {
        each.collect()
    } else {
        fields.iter().map(|field| field.name.clone()).zip(each).collect()
    }
}

fn scalar_to_json(primitive: Primitive, value: &Value) -> Json {
    use Primitive::{I128, NonZeroI128, NonZeroU128, U128};
    // Of these every program keeps text exactly, and whoever reads it finds one type, whatever the value.
    let is_text = matches!(primitive, U128 | I128 | NonZeroU128 | NonZeroI128);
    match value {
        Value::Unsigned(value) if is_text => value.to_string().into(),
        Value::Signed(value) if is_text => value.to_string().into(),
        Value::Bool(value) => (*value).into(),
        Value::Char(value) => value.to_string().into(),
        Value::Unsigned(value) => u64::try_from(*value).map_or(Json::Null, Json::from),
        Value::Signed(value) => i64::try_from(*value).map_or(Json::Null, Json::from),
        Value::F32(value) => match value.to_string().parse().ok().and_then(Number::from_f64) {
            Some(number) => Json::Number(number),
            None => not_finite(
                value.is_nan(),
                f64::from(*value),
                value.to_bits().into(),
                f32::NAN.to_bits().into(),
            ),
        },
        Value::F64(value) => match Number::from_f64(*value) {
            Some(number) => Json::Number(number),
            None => not_finite(value.is_nan(), *value, value.to_bits(), f64::NAN.to_bits()),
        },
        Value::Text(text) => text.as_str().into(),
        Value::Entity(entity) => entity.to_string().into(),
        Value::Duration(time) => format!("{}.{:09}s", time.as_secs(), time.subsec_nanos()).into(),
        _ => Json::Null,
    }
}

fn not_finite(is_nan: bool, value: f64, bits: u64, usual: u64) -> Json {
    match (is_nan, value > 0.0) {
        (true, _) if bits == usual => "NaN".into(),
        (true, _) => format!("NaN:{bits:x}").into(),
        (false, true) => "Infinity".into(),
        (false, false) => "-Infinity".into(),
    }
}

/// As much of it as helps where it is refused, however large it is.
pub fn brief(json: &Json) -> String {
    struct Head(Vec<u8>);
    impl io::Write for Head {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // No more is written once it is full.
            let room = (SHOWN_BYTES + 4 - self.0.len()).min(bytes.len());
            self.0.extend_from_slice(&bytes[..room]);
            Ok(room)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut head = Head(Vec::new());
    let _ = serde_json::to_writer(&mut head, json);
    shortened(&String::from_utf8_lossy(&head.0), SHOWN_BYTES)
}

/// The value that JSON stands for.
///
/// # Errors
/// What was expected, and where.
pub fn from_json(description: &Description, json: &Json) -> Result<Value, Unfit> {
    let mut parse = Parse { description, path: Vec::new(), levels: 0 };
    parse.value(ROOT, json).map_err(|what| Unfit { at: parse.path, what })
}

struct Parse<'a> {
    description: &'a Description,
    /// Where it is; left as it was by an error.
    path: Vec<String>,
    /// Levels of types that it is within, many of which are none of the JSON.
    levels: usize,
}

impl Parse<'_> {
    fn within(&mut self, name: String, ty: TypeIndex, json: &Json) -> Result<Value, String> {
        self.path.push(name);
        let value = self.value(ty, json)?;
        self.path.pop();
        Ok(value)
    }

    fn list(&mut self, ty: TypeIndex, list: &[Json]) -> Result<Vec<Value>, String> {
        list.iter().enumerate().map(|(i, json)| self.within(i.to_string(), ty, json)).collect()
    }

    fn value(&mut self, ty: TypeIndex, json: &Json) -> Result<Value, String> {
        // What is deeper could not be read again.
        if self.levels > LEVELS_MAX {
            return Err("it is nested too deeply".into());
        }
        self.levels += 1;
        let value = self.shaped(ty, json)?;
        self.levels -= 1;
        Ok(value)
    }

    fn shaped(&mut self, ty: TypeIndex, json: &Json) -> Result<Value, String> {
        let description = self.description;
        let expected = |what: &str| Err(format!("expected {what}, found {}", brief(json)));
        match description.shape(ty) {
            Some(Shape::Box(inner)) => self.value(*inner, json),
            Some(Shape::Struct(fields)) => Ok(Value::Struct(self.fields(fields, json)?)),
            Some(Shape::Enum(variants)) => {
                let (name, fields) = match json {
                    Json::String(name) => (name, &Json::Null),
                    Json::Object(one) if one.len() == 1 => match one.iter().next() {
                        Some(only) => only,
                        None => return expected("a variant"),
                    },
                    _ => return expected("the name of a variant, or an object with one"),
                };
                let Some(place) = variants.iter().position(|variant| variant.name == *name) else {
                    let names: Vec<&str> = variants.iter().map(|variant| &*variant.name).collect();
                    return expected(&format!("one of {}", shortened(&names.join(", "), NAMES_BYTES)));
                };
                Ok(Value::Variant(place, self.fields(&variants[place].fields, fields)?))
            }
            Some(Shape::Array(element, _)) => match json {
                Json::Array(list) if is_byte(description, *element) => match bytes(list) {
                    Some(bytes) => Ok(Value::Bytes(bytes)),
                    None => expected("numbers from 0 to 255"),
                },
                Json::Array(list) => Ok(Value::List(self.list(*element, list)?)),
                _ => expected("a list"),
            },
            Some(Shape::Sequence(element) | Shape::Slice(element)) if is_byte(description, *element) => {
                match json.as_str().and_then(from_hex) {
                    Some(bytes) => Ok(Value::Bytes(bytes)),
                    None => expected("bytes as hexadecimal text"),
                }
            }
            Some(Shape::Sequence(element) | Shape::Slice(element) | Shape::Set(element)) => match json {
                Json::Array(list) => Ok(Value::List(self.list(*element, list)?)),
                _ => expected("a list"),
            },
            Some(Shape::OrderedSet(element)) => match json {
                Json::Array(list) => self.set(*element, list),
                _ => expected("a list"),
            },
            Some(Shape::Map(key, value)) => self.map(*key, *value, true, json),
            // Beside it there are the stored bytes, which have to be the same.
            Some(Shape::HashMap(key, value)) => self.map(*key, *value, false, json),
            Some(Shape::Option(inner)) => match json {
                Json::Null => Ok(Value::None),
                value if can_be_null(description, *inner) => {
                    let some = value.as_object().filter(|some| some.len() == 1);
                    match some.and_then(|some| some.get("some")) {
                        Some(value) => Ok(Value::Some(Box::new(self.value(*inner, value)?))),
                        None => expected("null or {\"some\": …}"),
                    }
                }
                value => Ok(Value::Some(Box::new(self.value(*inner, value)?))),
            },
            Some(Shape::Opaque(..)) => match json.as_str().and_then(from_hex) {
                Some(bytes) => Ok(Value::Bytes(bytes)),
                None => expected("bytes as hexadecimal text"),
            },
            Some(Shape::Primitive(primitive)) => primitive_from_json(*primitive, json),
            None => Err("its type is not described".into()),
        }
    }

    /// Keys as a tree has them, however somebody has written them.
    fn in_order<T>(
        &self,
        key: TypeIndex,
        entries: &mut [T],
        key_of: impl Fn(&T) -> &Value,
    ) -> Result<(), String> {
        let description = self.description;
        let ordered = description.order_keys(key, entries, key_of);
        ordered.map_err(|twice| format!("{} stands twice", brief(&to_json(description, key, &twice))))
    }

    // Apart from the recursion, whose every level is one on the stack.
    fn set(&mut self, element: TypeIndex, list: &[Json]) -> Result<Value, String> {
        let mut list = self.list(element, list)?;
        self.in_order(element, &mut list, |key| key)?;
        Ok(Value::List(list))
    }

    fn map(
        &mut self,
        key: TypeIndex,
        value: TypeIndex,
        is_ordered: bool,
        json: &Json,
    ) -> Result<Value, String> {
        let mut entries = Vec::new();
        match json {
            Json::Object(object) if has_text_keys(self.description, key) => {
                for (name, of) in object {
                    entries.push((
                        Value::Text(name.clone()),
                        self.within(shortened(name, SHOWN_BYTES), value, of)?,
                    ));
                }
            }
            Json::Array(list) => {
                for (i, pair) in list.iter().enumerate() {
                    let Some([its, of]) = pair.as_array().map(Vec::as_slice) else {
                        return Err(format!("expected a pair of key and value, found {}", brief(pair)));
                    };
                    entries.push((self.value(key, its)?, self.within(i.to_string(), value, of)?));
                }
            }
            _ => return Err(format!("expected an object or a list of pairs, found {}", brief(json))),
        }
        if is_ordered {
            self.in_order(key, &mut entries, |(key, _)| key)?;
        }
        Ok(Value::Map(entries))
    }

    fn fields(&mut self, fields: &[Field], json: &Json) -> Result<Vec<Value>, String> {
        let count = fields.len();
        match json {
            Json::Null if fields.is_empty() => Ok(Vec::new()),
            json if is_wrapper(fields) => Ok(vec![self.value(fields[0].ty, json)?]),
            Json::Array(list) if is_tuple(fields) && list.len() == count => {
                let each = fields.iter().zip(list);
                each.map(|(field, json)| self.within(field.name.clone(), field.ty, json)).collect()
            }
            Json::Object(object) if !is_tuple(fields) => {
                if let Some(other) = object.keys().find(|key| fields.iter().all(|field| field.name != **key))
                {
                    return Err(format!("there is no field `{}`", shortened(other, SHOWN_BYTES)));
                }
                let each = fields.iter().map(|field| match object.get(&field.name) {
                    Some(json) => self.within(field.name.clone(), field.ty, json),
                    None => Err(format!("the field `{}` is missing", field.name)),
                });
                each.collect()
            }
            _ if is_tuple(fields) => Err(format!("expected a list of {count}, found {}", brief(json))),
            _ => Err(format!("expected an object, found {}", brief(json))),
        }
    }
}

fn is_byte(description: &Description, ty: TypeIndex) -> bool {
    matches!(description.shape(ty), Some(Shape::Primitive(Primitive::U8)))
}

fn bytes(list: &[Json]) -> Option<Vec<u8>> {
    list.iter().map(|json| json.as_u64().and_then(|n| u8::try_from(n).ok())).collect()
}

fn primitive_from_json(primitive: Primitive, json: &Json) -> Result<Value, String> {
    use Primitive::*;
    let value = match primitive {
        Bool => json.as_bool().map(Value::Bool),
        Char => json.as_str().and_then(|text| text.parse().ok()).map(Value::Char),
        U8 | U16 | U32 | U64 | U128 | Usize | NonZeroU8 | NonZeroU16 | NonZeroU32 | NonZeroU64
        | NonZeroU128 => {
            let text = json.as_str().and_then(|text| text.parse().ok());
            json.as_u64().map(u128::from).or(text).map(Value::Unsigned)
        }
        I8 | I16 | I32 | I64 | I128 | Isize | NonZeroI8 | NonZeroI16 | NonZeroI32 | NonZeroI64
        | NonZeroI128 => {
            let text = json.as_str().and_then(|text| text.parse().ok());
            json.as_i64().map(i128::from).or(text).map(Value::Signed)
        }
        F32 => match json.as_f64() {
            // By way of the text, so that it is rounded once.
            Some(number) => number.to_string().parse().ok().filter(|it: &f32| it.is_finite()).map(Value::F32),
            None => float(json, f32::NAN.to_bits().into())
                .and_then(|bits| match bits {
                    Ok(bits) => u32::try_from(bits).ok().map(f32::from_bits).filter(|it| it.is_nan()),
                    Err(infinite) => Some(infinite as f32),
                })
                .map(Value::F32),
        },
        F64 => match json.as_f64() {
            Some(number) => Some(Value::F64(number)),
            None => float(json, f64::NAN.to_bits())
                .and_then(|bits| match bits {
                    Ok(bits) => Some(f64::from_bits(bits)).filter(|it| it.is_nan()),
                    Err(infinite) => Some(infinite),
                })
                .map(Value::F64),
        },
        String | BoxStr => json.as_str().map(|text| Value::Text(text.into())),
        Entity => json.as_str().and_then(|text| text.parse().ok()).map(Value::Entity),
        Duration => json.as_str().and_then(duration).map(Value::Duration),
    };
    // A text has one value, and a value one text: that which it is written as.
    let is_written_so = |value: &Value| match (json, scalar_to_json(primitive, value)) {
        (Json::String(text), Json::Number(number)) => *text == number.to_string(),
        (Json::String(text), Json::String(written)) => *text == written,
        _ => true,
    };
    value.filter(is_written_so).ok_or_else(|| {
        let what = match primitive {
            Bool => "true or false",
            Char => "one character",
            F32 | F64 => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
            String | BoxStr => "text",
            Entity => "an entity id such as \"12v3\"",
            Duration => "a duration such as \"1.500000000s\"",
            _ => "an integer",
        };
        format!("expected {what}, found {}", brief(json))
    })
}

/// A number that is not finite: its bits where it is none, else itself.
fn float(json: &Json, usual: u64) -> Option<Result<u64, f64>> {
    match json.as_str()? {
        "NaN" => Some(Ok(usual)),
        "Infinity" => Some(Err(f64::INFINITY)),
        "-Infinity" => Some(Err(f64::NEG_INFINITY)),
        text => u64::from_str_radix(text.strip_prefix("NaN:")?, 16).ok().map(Ok),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let (seconds, nanos) = text.strip_suffix('s')?.split_once('.')?;
    let nanos = (nanos.len() == 9).then(|| nanos.parse().ok())??;
    Some(Duration::new(seconds.parse().ok()?, nanos))
}

#[cfg(test)]
mod tests {
    use ecsdb::prelude::*;
    use ecsdb_core::describe::Values;

    use super::*;

    #[derive(Component, Clone, Copy)]
    #[component(name = "values.numbers", plain)]
    #[repr(C)]
    struct Numbers {
        a: f64,
        b: f32,
        c: f32,
        d: u64,
        e: i64,
    }

    #[test]
    fn what_no_number_of_the_type_is_is_not_taken_for_one() {
        let number = |b: &str| {
            let text = format!(r#"{{"a":0.5,"b":{b},"c":1,"d":1,"e":1}}"#);
            from_json(Numbers::description(), &serde_json::from_str(&text).unwrap())
        };
        for fine in ["3.4e38", "\"NaN\"", "\"NaN:7fc00001\"", "\"-Infinity\""] {
            assert!(number(fine).is_ok(), "{fine}");
        }
        for other in ["1e300", "\"NaN:0\"", "\"NaN:7ff8000000000001\"", "null"] {
            assert_eq!(number(other).unwrap_err().at, ["b"], "{other}");
        }
    }

    #[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[component(name = "values.wide", archived)]
    struct Wide(u128, i128, Option<std::num::NonZeroU128>, Option<std::num::NonZeroI128>);

    #[test]
    fn numbers_of_128_bits_are_text_whatever_their_size() {
        let values = Values::of(Wide::description()).unwrap();
        for (wide, texts) in [
            (Wide(0, 0, None, None), ["0", "0", "", ""]),
            (Wide(7, -7, 7.try_into().ok(), (-7).try_into().ok()), ["7", "-7", "7", "-7"]),
            (
                Wide(1 << 64, -1 << 64, u128::MAX.try_into().ok(), i128::MIN.try_into().ok()),
                [
                    "18446744073709551616",
                    "-18446744073709551616",
                    "340282366920938463463374607431768211455",
                    "-170141183460469231731687303715884105728",
                ],
            ),
        ] {
            let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&wide).unwrap();
            let json = to_json(Wide::description(), ROOT, &values.read(&stored).unwrap());
            let wanted = texts.map(|text| if text.is_empty() { Json::Null } else { text.into() });
            assert_eq!(json, Json::from(wanted.to_vec()));
            let back = |json| values.write(&from_json(Wide::description(), json).unwrap()).unwrap();
            assert_eq!(back(&json), stored.to_vec());
            // As they were written before.
            let number = |text: &str| text.parse::<i64>().map_or(text.into(), Json::from);
            let older = texts.map(|text| if text.is_empty() { Json::Null } else { number(text) });
            assert_eq!(back(&older.to_vec().into()), stored.to_vec());
        }
    }

    #[test]
    fn numbers_survive_json_to_the_last_bit() {
        let values = Values::of(Numbers::description()).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for i in 0..20_000 {
            let mut stored: Vec<u8> = (0..32).map(|_| random.u8(..)).collect();
            if i % 4 == 0 {
                // What people write.
                let short = f64::from(random.i32(-100_000..100_000)) / 1000.0;
                stored[..8].copy_from_slice(&short.to_le_bytes());
                stored[8..12].copy_from_slice(&(short as f32).to_le_bytes());
            }
            let value = values.read(&stored).unwrap();
            let text = to_json(Numbers::description(), ROOT, &value).to_string();
            let again = from_json(Numbers::description(), &serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(values.write(&again).unwrap(), stored, "{text}");
        }
    }
}
