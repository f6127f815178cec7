//! Values without their Rust types: what is read is what rkyv wrote, and what is written is what rkyv would have.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::{NonZeroI16, NonZeroU64};
use std::time::Duration;

use ecsdb_core::describe::{Description, Primitive, Value, ValueError, Values};
use ecsdb_core::{Component, Describe, Entity};
use proptest::prelude::*;

#[derive(Describe, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Order {
    Hold,
    Move { x: f32, far: u64 },
    Named(String, Option<Box<u16>>),
}

#[derive(Component, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "v.all", archived)]
struct All {
    flag: bool,
    letter: char,
    small: i8,
    wide: i128,
    size: usize,
    float: f64,
    who: Option<Entity>,
    name: String,
    boxed: Box<str>,
    orders: Vec<Order>,
    bytes: Vec<u8>,
    rgb: [u8; 3],
    names: [String; 2],
    slice: Box<[i16]>,
    time: Duration,
    tree: BTreeMap<String, Vec<u16>>,
    set: BTreeSet<u32>,
    pair: (u8, NonZeroU64),
    not_zero: NonZeroI16,
    nothing: (),
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "v.hashed", archived)]
struct Hashed {
    map: HashMap<String, u64>,
    set: HashSet<u16>,
}

#[derive(Component, Clone, Copy)]
#[component(name = "v.plain", plain)]
#[repr(C)]
struct Plain {
    target: Option<Entity>,
    speed: f32,
    side: Side,
    at: [i16; 4],
}

#[derive(Describe, Clone, Copy)]
#[describe(plain)]
#[repr(i32)]
#[allow(dead_code, reason = "told from its bytes")]
enum Side {
    Left = -1,
    Right = 1,
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Hold),
        (any::<f32>(), any::<u64>()).prop_map(|(x, far)| Order::Move { x, far }),
        (".{0,12}", any::<Option<u16>>()).prop_map(|(name, n)| Order::Named(name, n.map(Box::new))),
    ]
}

prop_compose! {
    fn all()(
        flags in (any::<bool>(), any::<char>(), any::<i8>(), any::<i128>(), any::<u32>(), any::<f64>()),
        who in proptest::option::of((any::<u32>(), 1u32..)),
        texts in (".{0,10}", ".{0,10}", ".{0,20}", ".{0,9}"),
        orders in proptest::collection::vec(order(), 0..5),
        bytes in any::<Vec<u8>>(),
        rgb in any::<[u8; 3]>(),
        slice in any::<Vec<i16>>(),
        time in (any::<u32>(), 0u32..1_000_000_000),
        tree in proptest::collection::btree_map(".{0,10}", any::<Vec<u16>>(), 0..80),
        set in proptest::collection::btree_set(any::<u32>(), 0..300),
        numbers in (any::<u8>(), any::<NonZeroU64>(), any::<NonZeroI16>()),
    ) -> All {
        All {
            flag: flags.0, letter: flags.1, small: flags.2, wide: flags.3, size: flags.4 as usize, float: flags.5,
            who: who.map(|(index, generation)| Entity::from_bits(u64::from(generation) << 32 | u64::from(index)).unwrap()),
            name: texts.0, boxed: texts.1.into(), orders, bytes, rgb, names: [texts.2, texts.3], slice: slice.into(),
            time: Duration::new(time.0.into(), time.1), tree, set,
            pair: (numbers.0, numbers.1), not_zero: numbers.2, nothing: (),
        }
    }
}

proptest! {
    #[test]
    fn what_rkyv_wrote_is_read_and_written_again_byte_for_byte(all in all()) {
        let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&all).unwrap();
        let values = Values::of(All::description()).unwrap();
        let value = values.read(&stored).unwrap();
        let Value::Struct(fields) = &value else { panic!("{value:?}") };
        prop_assert_eq!(&fields[7], &Value::Text(all.name.clone()));
        prop_assert_eq!(&fields[10], &Value::Bytes(all.bytes.clone()));
        let tree = all.tree.iter().map(|(key, value)| {
            let list = value.iter().map(|&n| Value::Unsigned(n.into())).collect();
            (Value::Text(key.clone()), Value::List(list))
        });
        prop_assert_eq!(&fields[15], &Value::Map(tree.collect()));
        prop_assert_eq!(values.write(&value).unwrap(), stored.to_vec());
    }

    #[test]
    fn any_bytes_end_in_a_value_or_an_error(all in all(), at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let mut stored = rkyv::to_bytes::<rkyv::rancor::Error>(&all).unwrap().to_vec();
        let at = at.index(stored.len());
        stored[at] = with;
        let values = Values::of(All::description()).unwrap();
        let _ = values.read(&stored);
        let _ = values.read(&stored[cut.index(stored.len())..]);
    }

    #[test]
    fn hash_containers_are_read_whatever_their_order(
        map in proptest::collection::hash_map(".{0,10}", any::<u64>(), 0..60),
        set in proptest::collection::hash_set(any::<u16>(), 0..60),
    ) {
        let hashed = Hashed { map, set };
        let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&hashed).unwrap();
        let values = Values::of(Hashed::description()).unwrap();
        let value = values.read(&stored).unwrap();
        let Value::Struct(fields) = &value else { panic!("{value:?}") };
        let (Value::Map(map), Value::List(set)) = (&fields[0], &fields[1]) else { panic!("{value:?}") };
        let map: HashMap<String, u64> = map.iter().map(|entry| match entry {
            (Value::Text(key), Value::Unsigned(n)) => (key.clone(), *n as u64),
            other => panic!("{other:?}"),
        }).collect();
        let set: HashSet<u16> = set.iter().map(|n| match n {
            Value::Unsigned(n) => *n as u16,
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!((map, set), (hashed.map, hashed.set));
        prop_assert_eq!(values.write(&value), Err(ValueError::Unordered));
    }
}

/// Keys whose order is the type's own affair: the greater comes first.
#[derive(Describe, Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(PartialEq, Eq))]
struct Falling {
    from: u32,
}

impl Ord for Falling {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.from.cmp(&self.from)
    }
}

impl PartialOrd for Falling {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ArchivedFalling {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.from.cmp(&self.from)
    }
}

impl PartialOrd for ArchivedFalling {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "v.trees", archived)]
struct Trees {
    numbers: BTreeMap<i16, u8>,
    texts: BTreeSet<String>,
    maybe: BTreeSet<Option<char>>,
    lists: BTreeSet<Vec<bool>>,
    bytes: BTreeMap<[u8; 2], ()>,
    pairs: BTreeSet<(u8, Option<bool>)>,
    boxed: BTreeSet<Box<i8>>,
    own: BTreeMap<Falling, u8>,
}

prop_compose! {
    fn trees()(
        numbers in proptest::collection::btree_map(any::<i16>(), any::<u8>(), 0..40),
        texts in proptest::collection::btree_set(".{0,10}", 0..40),
        maybe in proptest::collection::btree_set(any::<Option<char>>(), 0..10),
        lists in proptest::collection::btree_set(proptest::collection::vec(any::<bool>(), 0..4), 0..10),
        bytes in proptest::collection::btree_set(any::<[u8; 2]>(), 0..40),
        pairs in proptest::collection::btree_set(any::<(u8, Option<bool>)>(), 0..40),
        boxed in proptest::collection::btree_set(any::<i8>(), 0..40),
        own in proptest::collection::btree_set(any::<u32>(), 0..40),
    ) -> Trees {
        Trees {
            numbers, texts, maybe, lists, pairs,
            bytes: bytes.into_iter().map(|key| (key, ())).collect(),
            boxed: boxed.into_iter().map(Box::new).collect(),
            own: own.into_iter().map(|n| (Falling { from: n }, 0)).collect(),
        }
    }
}

/// Of each tree in the value, its entries in another order.
fn shuffled(value: &mut Value, random: &mut impl FnMut(usize) -> usize) {
    let Value::Struct(fields) = value else { panic!("{value:?}") };
    let (_, known) = fields.split_last_mut().unwrap();
    for field in known {
        match field {
            Value::List(list) => (1..list.len()).for_each(|i| list.swap(i, random(i + 1))),
            Value::Map(map) => (1..map.len()).for_each(|i| map.swap(i, random(i + 1))),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn trees_are_written_in_their_order_whoever_has_given_another(trees in trees(), seed: u64) {
        let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&trees).unwrap();
        let values = Values::of(Trees::description()).unwrap();
        let value = values.read(&stored).unwrap();
        // An order that only the Rust type knows stays.
        prop_assert_eq!(&values.write(&value).unwrap(), &stored.to_vec());
        let (mut other, mut state) = (value.clone(), seed);
        shuffled(&mut other, &mut |below| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        });
        prop_assert_eq!(values.write(&other).unwrap(), stored.to_vec());
    }

    #[test]
    fn no_tree_is_written_in_which_a_key_stands_twice(trees in trees(), field in 0usize..8, at: prop::sample::Index, to: prop::sample::Index) {
        let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&trees).unwrap();
        let values = Values::of(Trees::description()).unwrap();
        let mut value = values.read(&stored).unwrap();
        let Value::Struct(fields) = &mut value else { panic!() };
        let is_empty = match &mut fields[field] {
            Value::List(list) if !list.is_empty() => {
                let again = list[at.index(list.len())].clone();
                list.insert(to.index(list.len() + 1), again);
                false
            }
            Value::Map(map) if !map.is_empty() => {
                let again = map[at.index(map.len())].clone();
                map.insert(to.index(map.len() + 1), again);
                false
            }
            _ => true,
        };
        let written = values.write(&value);
        prop_assert!(if is_empty { written.is_ok() } else { written == Err(ValueError::Twice) }, "{:?}", written);
    }
}

#[derive(Describe, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Within<T>(T);

type Four<T> = Within<Within<Within<Within<T>>>>;

/// Many parts for each byte that they have, and parts that have none.
#[derive(Component, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "v.light", archived)]
struct Light {
    nothing: Vec<()>,
    deep: Vec<Four<Four<Four<u8>>>>,
    beside: Vec<(u8, (), [(); 3])>,
    none: BTreeMap<u8, ()>,
}

fn four<T>(value: T) -> Four<T> {
    Within(Within(Within(Within(value))))
}

#[test]
fn what_is_committed_is_read_however_few_bytes_its_parts_have() {
    let values = Values::of(Light::description()).unwrap();
    for n in [0, 1, 5_000, 1 << 17, 1 << 20] {
        let few = n.min(1 << 17);
        let deep = four(four(four(7)));
        let none = (0..=255).map(|key| (key, ())).collect();
        let light =
            Light { nothing: vec![(); n], deep: vec![deep; few], beside: vec![(1, (), [(); 3]); few], none };
        let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&light).unwrap();
        let value = values.read(&stored).unwrap();
        let Value::Struct(fields) = &value else { panic!() };
        assert!(matches!(&fields[0], Value::List(list) if list.len() == n));
        assert!(values.write(&value).unwrap() == stored.to_vec());
    }
    // So many that nobody has memory for them.
    let light =
        Light { nothing: vec![(); u32::MAX as usize], deep: vec![], beside: vec![], none: BTreeMap::new() };
    let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&light).unwrap();
    assert_eq!(values.read(&stored), Err(ValueError::Malformed("it has too many parts")));
}

/// One byte, which is two of the next type, each of them two of the one after that, and so on.
#[test]
fn a_description_that_puts_parts_at_one_place_takes_no_time_without_end() {
    let types = 41_u8;
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(text.len() as u8);
        out.extend(text.as_bytes());
    };
    let plain = Plain::description().to_bytes();
    let (format, mut bytes) = (plain[0], vec![plain[0], types]);
    assert_eq!(format, 0);
    for i in 0..types {
        bytes.extend([1, 1]);
        if i + 1 == types {
            bytes.extend([0, Primitive::U8 as u8]);
            continue;
        }
        // A struct of two fields.
        bytes.extend([1, 2]);
        for name in ["a", "b"] {
            text(&mut bytes, name);
            // Its offset, and its type.
            bytes.extend([0, i + 1]);
        }
    }
    let description = Description::from_bytes(&bytes).unwrap();
    let values = Values::of(&description).unwrap();
    assert_eq!(values.read(&[0]), Err(ValueError::Malformed("it has too many parts")));
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "v.texts", archived)]
struct Texts(Vec<String>);

#[test]
fn parts_that_share_their_bytes_are_none() {
    let values = Values::of(Texts::description()).unwrap();
    let texts = |n: usize| Texts((0..n).map(|_| "t".repeat(1000)).collect());
    let stored = rkyv::to_bytes::<rkyv::rancor::Error>(&texts(1000)).unwrap();
    let mut shared = stored.to_vec();
    assert!(values.read(&shared).is_ok());
    // Each leads to the first text.
    let strings = shared.len() - 8 - 8 * 1000;
    for i in 0..1000 {
        let at = strings + 8 * i;
        shared[at + 4..at + 8].copy_from_slice(&(-(at as i32)).to_le_bytes());
    }
    assert!(values.read(&shared).is_ok(), "no more bytes than there are");
    let without = shared.split_off(strings);
    shared.truncate(1000);
    let mut small = shared.clone();
    for (i, string) in without[..8000].as_chunks::<8>().0.iter().enumerate() {
        small.extend(&string[..4]);
        small.extend(&(-((1000 + 8 * i) as i32)).to_le_bytes());
    }
    small.extend(&without[8000..]);
    assert!(values.read(&small) == Err(ValueError::Malformed("its parts share bytes")));
}

#[test]
fn plain_values_are_their_memory() {
    let values = Values::of(Plain::description()).unwrap();
    let mut stored = vec![12, 0, 0, 0, 3, 0, 0, 0];
    stored.extend(1.5f32.to_le_bytes());
    stored.extend((-1i32).to_le_bytes());
    stored.extend([1, 0, 0xff, 0xff, 0, 0, 0, 0]);
    let value = values.read(&stored).unwrap();
    let expected = Value::Struct(vec![
        Value::Some(Box::new(Value::Entity("12v3".parse().unwrap()))),
        Value::F32(1.5),
        Value::Variant(0, vec![]),
        Value::List([1, -1, 0, 0].map(Value::Signed).to_vec()),
    ]);
    assert_eq!(value, expected);
    assert_eq!(values.write(&value).unwrap(), stored);
    stored[..8].fill(0);
    let Value::Struct(fields) = values.read(&stored).unwrap() else { panic!() };
    assert_eq!(fields[0], Value::None);
    assert_eq!(values.write(&Value::Struct(fields)).unwrap(), stored);
    assert!(matches!(values.read(&stored[1..]), Err(ValueError::Malformed(_))));
    stored[12] = 5;
    assert_eq!(values.read(&stored), Err(ValueError::Malformed("it is no variant of its enum")));
}

#[test]
fn a_value_of_another_type_is_not_written() {
    let values = Values::of(Plain::description()).unwrap();
    let fields = |speed, at| {
        Value::Struct(vec![
            Value::None,
            speed,
            Value::Variant(1, vec![]),
            Value::List(vec![Value::Signed(0), Value::Signed(1), Value::Signed(2), at]),
        ])
    };
    assert!(values.write(&fields(Value::F32(1.0), Value::Signed(-32768))).is_ok());
    let refused = |value| values.write(&value).unwrap_err();
    assert_eq!(refused(fields(Value::F64(1.0), Value::Signed(0))), ValueError::Mismatch("number"));
    assert_eq!(
        refused(fields(Value::F32(1.0), Value::Signed(32768))),
        ValueError::Mismatch("integer of its range")
    );
    assert_eq!(refused(Value::Struct(vec![])), ValueError::Mismatch("struct with these fields"));
}
