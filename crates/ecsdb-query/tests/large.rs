//! Whatever a caller writes, and however much of it, the answer takes memory in proportion to that.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ecsdb::View;
use ecsdb::prelude::*;
use ecsdb_query::{Components, Error, Question, Search, from_json, unknown};
use fastrand::Rng;
use serde_json::{Value as Json, json};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is the system allocator's; the counter is a plain number of the thread's own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // While the thread ends nobody counts.
        let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + layout.size() as u64));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn allocated(by: impl FnOnce()) -> u64 {
    let before = ALLOCATED.get();
    by();
    ALLOCATED.get() - before
}

#[derive(Component, Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "t", archived)]
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
struct Node {
    #[rkyv(omit_bounds)]
    next: Option<Box<Node>>,
    #[rkyv(omit_bounds)]
    all: Vec<Node>,
    number: u64,
    text: String,
}

#[derive(Component, Clone, Copy)]
#[component(name = "game.long.name.of.parts", plain)]
#[repr(C)]
struct Long(u64);

fn world() -> View {
    let db = Database::in_memory();
    let node = Node { next: None, all: Vec::new(), number: 1, text: "x".repeat(100_000) };
    db.write(|tx| {
        tx.spawn((node, Long(1)));
        Ok(())
    })
    .unwrap();
    db.view().unwrap()
}

fn ask(question: &Question, view: &View) -> Result<usize, Error> {
    let components = Components::of(view);
    let mut bytes = 0;
    Search::parse(question, &components)?.each(view, |row| {
        bytes += row.values.iter().map(|value| value.to_string().len()).sum::<usize>();
        Ok::<(), Error>(())
    })?;
    Ok(bytes)
}

/// Some text again and again, out of few words.
fn large(random: &mut Rng, words: &[&str], bytes: usize) -> String {
    let n = random.usize(1..5);
    let once: String = (0..n).map(|_| words[random.usize(..words.len())]).collect();
    let beginning = words[random.usize(..words.len())];
    format!("{beginning}{}", once.repeat(bytes / once.len().max(1) + 1))
}

#[test]
fn a_question_takes_memory_in_proportion_to_its_length() {
    const WORDS: [&str; 17] = [
        ".", "..", "t", "t.", "next.", "t.next", ".all.0", "number", "game.", "long.", " ", "=", "= 1",
        " and ", "'", "\"", "(",
    ];
    const BYTES: usize = 20_000;
    let view = world();
    let mut random = Rng::with_seed(1);
    let mut texts: Vec<String> = [".", "t.", "(", "'", "''", "t = '", ".next", "x", "9"]
        .iter()
        .map(|word| word.repeat(BYTES))
        .collect();
    texts.push(format!("t{}", ".next".repeat(BYTES)));
    texts.push(format!("t.number = {}", "9".repeat(BYTES)));
    texts.push(format!("t.number = 1{}", " and t.number = 1".repeat(BYTES / 10)));
    texts.extend((0..300).map(|_| large(&mut random, &WORDS, BYTES)));
    for text in &texts {
        let one = || vec![text.clone()];
        let many = || vec![text[..text.len() % 100].to_string(); BYTES];
        for all in [&one as &dyn Fn() -> Vec<String>, &many] {
            for question in [
                Question { with: all(), ..Question::default() },
                Question { without: all(), ..Question::default() },
                Question { conditions: all(), ..Question::default() },
                Question { select: all(), ..Question::default() },
            ] {
                let took = allocated(|| drop(ask(&question, &view).map_err(|e| e.to_string())));
                let shown = &text[..text.len().min(40)];
                assert!(took < 32 << 20, "{took} for {} bytes: {shown}", text.len());
            }
        }
    }
}

/// A value is decoded once, however often it is asked for.
#[test]
fn what_is_asked_for_often_is_read_once() {
    let view = world();
    let often = Question {
        conditions: vec!["t.number = 1".into(); 1000],
        select: vec!["t.number".into(); 1000],
        ..Question::default()
    };
    let mut found = 0;
    let took = allocated(|| found = ask(&often, &view).unwrap());
    assert_eq!(found, 1000);
    assert!(took < 8 << 20, "{took}");
}

#[test]
fn what_a_question_may_have_is_said() {
    let view = world();
    let refused = |question: Question| ask(&question, &view).unwrap_err().to_string();
    let text = |text: &str, n: usize| text.repeat(n);
    for (question, what) in [
        (Question { with: vec!["t".into(); 1025], ..Question::default() }, "1024 components"),
        (Question { without: vec!["t".into(); 1025], ..Question::default() }, "1024 components"),
        (
            Question { conditions: vec!["t.number = 1".into(); 1025], ..Question::default() },
            "1024 conditions",
        ),
        (
            Question {
                conditions: vec![format!("t.number = 1{}", text(" and t.number = 1", 1024))],
                ..Question::default()
            },
            "1024 conditions",
        ),
        (Question { select: vec!["t".into(); 1025], ..Question::default() }, "1024 paths to show"),
        (Question { select: vec![text(".", 16385)], ..Question::default() }, "16384 bytes in a path"),
        (
            Question { select: vec![format!("t{}", text(".next", 257))], ..Question::default() },
            "512 parts in a path",
        ),
    ] {
        let refused = refused(question);
        assert!(refused.contains(&format!("more than {what}")), "{refused}");
    }
    let deep = format!("t{}", text(".next", 255));
    assert_eq!(ask(&Question { select: vec![deep], ..Question::default() }, &view).unwrap(), 4);
}

#[test]
fn a_name_is_compared_with_what_it_may_have_been() {
    let near = |name: &str, known: &[&str]| match unknown("name", name, known.iter().copied()) {
        Error::Unknown { near, .. } => near,
        other => panic!("{other}"),
    };
    assert_eq!(near("haelth", &["health", "name"]).as_deref(), Some("health"));
    let long = "x".repeat(1 << 20);
    for (name, known) in [("x", &*long), (&*long, "x"), (&*long, &*long)] {
        assert!(allocated(|| assert_eq!(near(name, &[known]), None)) < 1 << 20);
    }
}

#[test]
fn json_takes_memory_in_proportion_to_its_length() {
    let mut random = Rng::with_seed(2);
    let around = |random: &mut Rng, inner: Json| match random.u8(..12) {
        0..=6 => json!({ "next": inner, "all": [], "number": 1, "text": "" }),
        7 | 8 => json!({ "next": null, "all": [inner], "number": 1, "text": "a" }),
        9 => json!([inner]),
        10 => json!({ "some": inner }),
        _ => json!({ "next": inner }),
    };
    for i in 0..500 {
        let levels = random.usize(..if i % 20 == 0 { 300 } else { 20 });
        let mut json = [Json::Null, json!(1), json!([])][random.usize(..3)].clone();
        for _ in 0..levels {
            json = around(&mut random, json);
        }
        if i % 50 == 0 {
            json = json!({ "next": null, "all": vec![json; 20], "number": 1, "text": "" });
        }
        let bytes = json.to_string().len() as u64;
        let took = allocated(|| drop(from_json(Node::description(), &json)));
        assert!(took < 64 * bytes + (1 << 20), "{took} for {bytes} bytes");
    }
}
