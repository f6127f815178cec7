//! Types that come back to themselves: by structs, options and boxes as programs have them, and in every way that bytes can describe.

use std::sync::Arc;

use ecsdb::{ComponentDef, ComponentId, StorageKind, prelude::*};
use ecsdb_core::describe::{Description, Values};
use fastrand::Rng;
use serde_json::{Value as Json, json};

use crate::condition::Condition;
use crate::path::Path;
use crate::{Components, Error, Question, ROOT, Search, from_json, to_json};

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "t", archived)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
struct Chain(#[rkyv(omit_bounds)] Option<Box<Chain>>);

fn chain(links: usize) -> Chain {
    (0..links).fold(Chain(None), |rest, _| Chain(Some(Box::new(rest))))
}

#[test]
fn a_struct_of_an_option_of_itself_is_asked_for_as_any_other() {
    let db = Database::in_memory();
    // Each link is an option and a box.
    let lengths = [0, 1, 2, 63];
    db.write(|tx| {
        lengths.into_iter().for_each(|links| {
            let _ = tx.spawn((chain(links),));
        });
        Ok(())
    })
    .unwrap();
    let view = db.view().unwrap();
    let components = Components::of(&view);
    let found = |condition: &str, select: &str| {
        let question = Question {
            conditions: vec![condition.into()],
            select: vec![select.into()],
            ..Question::default()
        };
        let mut found = Vec::new();
        Search::parse(&question, &components)?.each(&view, |row| {
            found.extend(row.values);
            Ok::<(), Error>(())
        })?;
        Ok::<_, Error>(found)
    };
    assert_eq!(found("t = null", "t").unwrap(), [Json::Null]);
    let more = found("t != null", "t").unwrap();
    assert_eq!(more[..2], [json!({ "some": null }), json!({ "some": { "some": null } })]);
    let values = Values::of(Chain::description()).unwrap();
    for (links, json) in lengths[1..].iter().zip(&more) {
        let stored = values.write(&from_json(Chain::description(), json).unwrap()).unwrap();
        assert_eq!(stored, *rkyv::to_bytes::<rkyv::rancor::Error>(&chain(*links)).unwrap());
    }
    let refused = found("t = 5", "t").unwrap_err().to_string();
    assert!(refused.contains("cannot be compared with `5` so: write null"), "{refused}");
    let refused = found("t = null", "t.0").unwrap_err().to_string();
    assert!(refused.contains("t has no part 0"), "{refused}");
    for wrong in [json!(5), json!({ "some": 5 }), json!([]), json!({ "0": null })] {
        let refused = from_json(Chain::description(), &wrong).unwrap_err();
        assert!(refused.what.contains("expected null or {\"some\": …}"), "{wrong}: {}", refused.what);
    }
    let deep = (0..1000).fold(Json::Null, |rest, _| json!({ "some": rest }));
    let refused = from_json(Chain::description(), &deep).unwrap_err();
    assert!(refused.what.contains("nested too deeply"), "{}", refused.what);
}

/// The stored form of some types, most of which say what another one is.
fn described(random: &mut Rng) -> Vec<u8> {
    let n = random.u8(1..=4);
    let mut bytes = vec![if random.bool() { 0 } else { 0x82 }, n];
    for _ in 0..n {
        // Bytes and alignment, which an archive knows itself.
        bytes.extend(if bytes[0] == 0 { [random.u8(0..=2), 1] } else { [0, 0] });
        let part = |random: &mut Rng| random.u8(..n);
        match random.u8(..14) {
            0..=2 => bytes.extend([8, part(random)]),
            3..=4 => bytes.extend([9, part(random)]),
            5..=7 => bytes.extend([1, 1, 1, b'0', 0, part(random)]),
            8 => bytes.extend([1, 2, 1, b'0', 0, part(random), 1, b'1', 0, part(random)]),
            9 => bytes.extend([1, 1, 1, b'a', 0, part(random)]),
            10 => {
                bytes.extend([2, 2, 1, b'A', 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                bytes.extend([1, b'B', 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, b'0', 0, part(random)]);
            }
            11 => {
                let shape = [4, 5, 11, 12][random.usize(..4)];
                bytes.extend([shape, part(random)]);
            }
            12 if random.bool() => bytes.extend([3, part(random), random.u8(..3)]),
            12 => bytes.extend([6, part(random), part(random)]),
            _ => bytes.extend([0, [2, 14][random.usize(..2)]]),
        }
    }
    bytes
}

fn any_json(random: &mut Rng, levels: u8) -> Json {
    let of = |random: &mut Rng| any_json(random, levels - 1);
    match random.u8(..if levels == 0 { 5 } else { 11 }) {
        0 | 1 => Json::Null,
        2 => 5.into(),
        3 => "A".into(),
        4 => "05".into(),
        5 | 6 => json!({ "some": of(random) }),
        7 => json!({ "a": of(random) }),
        8 => json!({ "B": of(random) }),
        9 => json!([of(random)]),
        _ => json!([of(random), of(random)]),
    }
}

#[test]
fn no_description_is_followed_without_end() {
    let mut random = Rng::with_seed(5);
    let (mut values_tried, mut written, mut conditions) = (0, 0, 0);
    for _ in 0..20_000 {
        let bytes = described(&mut random);
        let Ok(description) = Description::from_bytes(&bytes) else { panic!("{bytes:?}") };
        let def = ComponentDef {
            id: ComponentId(1),
            name: "t".into(),
            version: 1,
            kind: StorageKind::Archived,
            size: 0,
            description: Arc::new(description.clone()),
        };
        let components = Components([(def.id, def)].into());
        let mut stored = Vec::new();
        for _ in 0..8 {
            let json = any_json(&mut random, 5);
            let Ok(value) = from_json(&description, &json) else { continue };
            values_tried += 1;
            let again = to_json(&description, ROOT, &value);
            assert_eq!(from_json(&description, &again).as_ref(), Ok(&value), "{bytes:02x?} {json} {again}");
            if let Ok(values) = Values::of(&description)
                && let Ok(bytes) = values.write(&value)
            {
                written += 1;
                // In memory a text, say, has no form of its own.
                let _ = values.canonical(&bytes, &mut Vec::new());
            }
            stored.push(value);
        }
        // What no JSON stands for is shown all the same.
        for _ in 0..4 {
            let bytes: Vec<u8> = (0..random.usize(..24)).map(|_| random.u8(..3)).collect();
            if let Ok(value) = Values::of(&description).and_then(|values| values.read(&bytes)) {
                stored.push(value);
            }
        }
        for path in ["t", "t.0", "t.0.0", "t.a", "t.1.a", "t.a.a.a", "t.0.1.0.0.0"] {
            if let Ok(path) = Path::parse(path, &components) {
                for value in &stored {
                    let _ = path.follow(value).map(|part| to_json(&description, path.ty, part));
                }
            }
            for literal in ["null", "5", "A", "'05'"] {
                for condition in
                    Condition::parse_all(&format!("{path} = {literal}"), &components).iter().flatten()
                {
                    conditions += 1;
                    stored.iter().for_each(|value| {
                        let _ = condition.holds(value);
                    });
                }
            }
        }
    }
    assert!(
        values_tried > 10_000 && written > 2_000 && conditions > 10_000,
        "{values_tried} {written} {conditions}"
    );
}

/// As many types as there may be, each of which is nothing but the next one, and the last one a list of the first: a level of JSON is thousands of types.
#[test]
fn a_long_way_from_one_type_to_the_next_overflows_no_stack() {
    for shape in [&[8][..], &[9], &[1, 1, 1, b'0', 0]] {
        let n = 4096u32;
        let number = |n: u32| [n as u8 & 0x7f | 0x80, (n >> 7) as u8];
        let mut bytes = vec![0x82, number(n)[0], number(n)[1]];
        for next in 1..n {
            bytes.extend([0, 0]);
            bytes.extend(shape);
            bytes.extend(number(next));
        }
        bytes.extend([0, 0, 4, 0]);
        let description = Description::from_bytes(&bytes).unwrap();
        let deep = (0..100).fold(json!([]), |rest, _| json!([rest]));
        for json in [Json::Null, json!(5), json!([]), deep] {
            if let Ok(value) = from_json(&description, &json) {
                let again = to_json(&description, ROOT, &value);
                assert_eq!(from_json(&description, &again).as_ref(), Ok(&value));
            }
        }
        let _ = Values::of(&description).map(|values| values.read(&[0; 100]));
        assert!(!description.to_string().is_empty());
    }
}
