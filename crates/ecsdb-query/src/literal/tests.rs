use std::cmp::Ordering;

use ecsdb::prelude::*;
use fastrand::Rng;

use crate::{Components, Error, Question, Search};

#[derive(Describe, Clone, Copy, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Order {
    Hold,
    Go,
}

#[derive(Component, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "t", archived)]
struct Values {
    small: u8,
    large: u64,
    signed: i64,
    wide: u128,
    real: f64,
    narrow: f32,
    flag: bool,
    letter: char,
    text: String,
    maybe: Option<u8>,
    order: Order,
    who: Entity,
    time: std::time::Duration,
    data: Vec<u8>,
    id: [u8; 2],
    list: Vec<u32>,
    unit: (),
}

fn some<T: Clone>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())].clone()
}

fn values(random: &mut Rng) -> Values {
    let word = |random: &mut Rng| some(random, &["", "a", "b", "a b", "and", "null", "it's"]).to_string();
    Values {
        small: some(random, &[0, 1, 13, 255]),
        large: some(random, &[0, 1, 13, u64::MAX - 1, u64::MAX]),
        signed: some(random, &[i64::MIN, -13, -1, 0, 1, 13, i64::MAX]),
        wide: some(random, &[0, 13, u128::from(u64::MAX) + 1, 10_u128.pow(20)]),
        real: some(random, &[-0.0, 0.1, 13.0, -1.5, f64::INFINITY, f64::NAN]),
        narrow: some(random, &[0.0, 0.1, 13.0, -1.5, f32::NEG_INFINITY]),
        flag: random.bool(),
        letter: some(random, &['a', 'b', '1']),
        text: word(random),
        maybe: some(random, &[None, Some(0), Some(13)]),
        order: some(random, &[Order::Hold, Order::Go]),
        who: some(random, &["1v1", "13v1"]).parse().unwrap(),
        time: some(random, &[0, 1_500_000_000, 13_000_000_001]).into_nanos(),
        data: some(random, &[vec![], vec![0xab], vec![0xab, 1]]),
        id: some(random, &[[0, 0], [0xab, 0], [0xab, 1]]),
        list: Vec::new(),
        unit: (),
    }
}

trait IntoNanos {
    fn into_nanos(self) -> std::time::Duration;
}

impl IntoNanos for u64 {
    fn into_nanos(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self)
    }
}

/// A whole number of tenths, and how it can be written.
fn tenths(random: &mut Rng, near: i128) -> (i128, String) {
    let tenths = near * 10 + i128::from(some(random, &[0, 0, 0, 5, -5, 10, -10]));
    let (sign, whole, rest) =
        (if tenths < 0 { "-" } else { "" }, tenths.unsigned_abs() / 10, tenths.unsigned_abs() % 10);
    let text = match random.u8(..5) {
        0 | 1 if rest == 0 => format!("{sign}{whole}"),
        0 | 1 => format!("{sign}{whole}.{rest}"),
        2 => format!("{sign}{whole}{rest}e-1"),
        3 => format!("{sign}0.{whole:039}{rest}E+39"),
        _ => format!("{sign}{whole}.{rest}00e0"),
    };
    (tenths, text)
}

const SIGNS: [&str; 7] = ["=", "==", "!=", "<", "<=", ">", ">="];

fn holds(order: Option<Ordering>, sign: &str) -> bool {
    match (order, sign) {
        (None, sign) => sign == "!=",
        (Some(order), "=" | "==") => order.is_eq(),
        (Some(order), "!=") => order.is_ne(),
        (Some(order), "<") => order.is_lt(),
        (Some(order), "<=") => order.is_le(),
        (Some(order), ">") => order.is_gt(),
        (Some(order), _) => order.is_ge(),
    }
}

/// A condition as text, and whether it holds of the values as Rust sees it.
fn condition(random: &mut Rng, of: &Values) -> (String, bool) {
    let sign = some(random, &SIGNS);
    let equality = some(random, &["=", "==", "!="]);
    let quoted = |random: &mut Rng, text: &str| match random.bool() {
        true => format!("'{}'", text.replace('\'', "''")),
        false => format!("\"{text}\""),
    };
    let alike = |same: bool| same.then_some(Ordering::Equal);
    let near = [
        0,
        1,
        13,
        255,
        256,
        i128::from(u64::MAX),
        i128::from(i64::MIN),
        i128::from(i64::MAX),
        10_i128.pow(20),
    ];
    let near = some(random, &near);
    let (field, sign, literal, order) = match random.u8(..15) {
        field @ 0..4 => {
            let (number, text) = tenths(random, near);
            let (name, value) = match field {
                0 => ("small", i128::from(of.small)),
                1 => ("large", i128::from(of.large)),
                2 => ("signed", i128::from(of.signed)),
                _ => ("wide", of.wide as i128),
            };
            (name, sign, text, Some((value * 10).cmp(&number)))
        }
        4 => {
            let (text, number) =
                some(random, &[("0", 0.0), ("0.1", 0.1), ("-1.5e0", -1.5), ("Infinity", f64::INFINITY)]);
            ("real", sign, text.into(), of.real.partial_cmp(&number))
        }
        5 => ("real", sign, "NaN".into(), alike(of.real.is_nan())),
        6 => {
            let (text, number) =
                some(random, &[("0", 0.0), ("0.1", 0.1_f32), ("13", 13.0), ("-Infinity", f32::NEG_INFINITY)]);
            ("narrow", sign, text.into(), of.narrow.partial_cmp(&number))
        }
        7 => {
            let flag = random.bool();
            ("flag", equality, flag.to_string(), alike(of.flag == flag))
        }
        8 => {
            let text = some(random, &["", "a", "b", "a b", "and", "null", "it's"]);
            let is_word = matches!(text, "a" | "b") && random.bool();
            let literal = if is_word { text.into() } else { quoted(random, text) };
            ("text", sign, literal, Some(of.text.as_str().cmp(text)))
        }
        9 if random.bool() => ("maybe", equality, "null".into(), alike(of.maybe.is_none())),
        9 => {
            let (number, text) = tenths(random, near);
            ("maybe", sign, text, of.maybe.map(|value| (i128::from(value) * 10).cmp(&number)))
        }
        10 => {
            let (text, order) = some(random, &[("Hold", Order::Hold), ("Go", Order::Go)]);
            ("order", equality, text.into(), alike(of.order == order))
        }
        11 => {
            let text = some(random, &["1v1", "13v1", "2v1"]);
            ("who", equality, text.into(), alike(of.who == text.parse().unwrap()))
        }
        12 => {
            let (text, nanos) = some(
                random,
                &[
                    ("1.5s", 1_500_000_000),
                    ("0", 0),
                    ("13.000000001", 13_000_000_001),
                    ("13s", 13_000_000_000_u64),
                ],
            );
            ("time", sign, text.into(), Some(of.time.cmp(&nanos.into_nanos())))
        }
        13 => ("id", sign, some(random, &["ab01", "'AB01'"]).into(), Some(of.id.cmp(&[0xab, 1]))),
        _ if random.bool() => ("letter", sign, "a".into(), Some(of.letter.cmp(&'a'))),
        _ => ("data", sign, "AB".to_lowercase(), Some(of.data.as_slice().cmp(&[0xab]))),
    };
    let (before, behind) = (some(random, &["", " ", "\t "]), some(random, &["", " "]));
    (format!("t.{field}{before}{sign}{behind}{literal}"), holds(order, sign))
}

fn found(db: &Database, conditions: &[&str]) -> Result<usize, Error> {
    let view = db.view().unwrap();
    let components = Components::of(&view);
    let conditions = conditions.iter().map(|text| text.to_string()).collect();
    let mut found = 0;
    Search::parse(&Question { conditions, ..Question::default() }, &components)?.each(&view, |_| {
        found += 1;
        Ok::<(), Error>(())
    })?;
    Ok(found)
}

#[test]
fn conditions_hold_as_rust_compares() {
    let mut random = Rng::with_seed(11);
    for _ in 0..300 {
        let db = Database::in_memory();
        let values = values(&mut random);
        db.write(|tx| Ok(tx.spawn(values.clone()))).unwrap();
        for _ in 0..40 {
            let several: Vec<(String, bool)> =
                (0..random.usize(1..4)).map(|_| condition(&mut random, &values)).collect();
            let joint = some(&mut random, &[" and ", " AND ", "  And\n"]);
            let text = several.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(joint);
            let wanted = several.iter().all(|(_, holds)| *holds);
            assert_eq!(found(&db, &[&text]).unwrap(), usize::from(wanted), "{text}\n{values:?}");
        }
    }
}

#[test]
fn what_is_no_condition_is_no_answer() {
    let db = Database::in_memory();
    db.write(|tx| Ok(tx.spawn(values(&mut Rng::with_seed(1))))).unwrap();
    for (text, what) in [
        ("", "character 1 a component"),
        ("t.small", "character 8 a comparison was expected"),
        ("t.text <> x", "character 8 a comparison was expected"),
        ("t.small >> 3", "character 9 a comparison was expected"),
        ("t.small =! 3", "character 9 a comparison was expected"),
        ("t.small =", "character 10 a value was expected"),
        ("t.text = 'JFK", "character 10 a quote begins that has no closing '"),
        ("t.text = JFK and", "character 17 a component"),
        ("t.text = JFK and and t.small = 1", "character 18 a component"),
        ("t.text = and", "character 10 a value was expected"),
        ("t.text = JFK or t.small = 1", "character 14 there is `or`"),
        ("t.text = New York", "character 14 `and` was expected"),
        ("t.text = 'a'b", "character 13 the value ends"),
        ("t.text = a,b", "character 11 the value ends"),
        ("t.text = ü=b", "character 11 the value ends"),
        ("t.small = abc", "t.small is u8 and cannot be compared with `abc`"),
        ("t.small = 1_000", "write a number such as 10"),
        ("t.small = '13'", "write a number such as 10"),
        ("t.small = inf", "write a number such as 10"),
        ("t.maybe = x", "t.maybe is Option<u8>"),
        ("t.real = inf", "write a number such as 0.5"),
        ("t.real < 1e999", "that its type can hold"),
        ("t.narrow < 1e39", "that its type can hold"),
        ("t.real = '1'", "without quotes"),
        ("t.flag = yes", "write true or false"),
        ("t.flag < true", "= or !=: it has no order"),
        ("t.maybe < null", "= or !=: it has no order"),
        ("t.letter = ab", "write one character"),
        ("t.who = 13", "write an entity id"),
        ("t.time = 10ms", "write seconds"),
        ("t.data = xyz", "hexadecimal"),
        ("t.id = ab", "write 2 bytes in hexadecimal digits"),
        ("t.id = ab01ff", "write 2 bytes in hexadecimal digits"),
        ("t.order = Hol", "there is no variant Hol in t.order: did you mean Hold?"),
        ("t = 1", "one of its parts"),
        ("t.data.0 = 171", "t has no part 0"),
        ("t.id.0 = 171", "t has no part 0"),
        ("t.smal = 1", "there is no field smal in t: did you mean small?"),
        ("smal = 1", "there is no component smal"),
    ] {
        let error = found(&db, &[text]).unwrap_err().to_string();
        assert!(error.contains(what), "{text}: {error}");
    }
    assert_eq!(found(&db, &["t.unit = null", "t.list.3 = null", "t.list.3 != 1"]).unwrap(), 1);
}
