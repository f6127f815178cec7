//! JSON in which no key stands twice in an object: of two values, a reader that takes one drops the other.

use std::fmt::{self, Formatter};

use ecsdb_query::shortened;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value as Json};

/// Bytes of a key that are shown.
const KEY_BYTES: usize = 255;

/// Any JSON of which each object has each of its keys once.
pub(crate) struct Unique(pub(crate) Json);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Unique, D::Error> {
        from.deserialize_any(Any).map(Unique)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Json;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = from.next_element()? {
            list.push(value);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut object = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            match object.entry(key) {
                Entry::Vacant(place) => drop(place.insert(from.next_value::<Unique>()?.0)),
                Entry::Occupied(there) => {
                    let key = shortened(there.key(), KEY_BYTES);
                    return Err(A::Error::custom(format!("the key {key:?} stands twice in an object")));
                }
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any JSON, in few keys.
    fn any(random: &mut fastrand::Rng, depth: usize, twice: &mut bool) -> String {
        match random.u8(..if depth == 0 { 4 } else { 6 }) {
            0 => ["null", "true", "[]", "{}"][random.usize(..4)].into(),
            1 => random.i64(..).to_string(),
            2 => ["-0.0", "1e300", "18446744073709551615", "0.1", "-1"][random.usize(..5)].into(),
            3 => ["\"\"", "\"a\\u0062\"", "\"{\\\"a\\\":1,\\\"a\\\":2}\""][random.usize(..3)].into(),
            4 => {
                let each: Vec<String> =
                    (0..random.usize(..4)).map(|_| any(random, depth - 1, twice)).collect();
                format!("[{}]", each.join(","))
            }
            _ => {
                let mut keys: Vec<usize> = (0..random.usize(..4)).map(|_| random.usize(..9)).collect();
                // One key can be written in two ways.
                let each: Vec<String> = keys
                    .iter()
                    .map(|key| {
                        let name = if random.bool() { format!("k{key}") } else { format!("\\u006b{key}") };
                        format!("\"{name}\":{}", any(random, depth - 1, twice))
                    })
                    .collect();
                let count = keys.len();
                keys.sort_unstable();
                keys.dedup();
                *twice |= keys.len() < count;
                format!("{{{}}}", each.join(","))
            }
        }
    }

    #[test]
    fn what_has_each_key_once_is_what_it_is_and_all_else_is_refused() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut refused = 0;
        for _ in 0..5_000 {
            let mut twice = false;
            let text = any(&mut random, 4, &mut twice);
            match serde_json::from_str::<Unique>(&text) {
                Ok(Unique(json)) => {
                    assert!(!twice, "{text}");
                    assert_eq!(json, serde_json::from_str::<Json>(&text).unwrap());
                }
                Err(e) => {
                    assert!(twice && e.to_string().contains("stands twice"), "{text}: {e}");
                    refused += 1;
                }
            }
        }
        assert!((100..2_500).contains(&refused), "{refused}");
    }
}
