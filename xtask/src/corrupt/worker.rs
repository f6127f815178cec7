//! A process that makes and judges images, so that an abort or a hang of one ends nothing but it. It says on its output which image it is
//! at, and what it found.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::case::{Case, Cases};
use super::damage::Damage;
use super::judge::{Tally, Wrong, judge, note_panics};
use super::subject::Subject;

/// Address space of a worker: an image needs a few megabytes, and one that would have more dies, and is named.
const MEMORY_MAX: u64 = 1 << 30;
/// How often figures are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A line of a worker's output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Line {
    /// It begins with this image.
    At(String),
    Found(Found),
    /// What was done since the last such line, and how far it has come in its share of the exhaustive and the random part.
    Done {
        tally: Box<Tally>,
        exhaustive: u64,
        random: u64,
    },
}

/// What must not be, with the smallest damage that shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) case: String,
    /// The same for all that are alike.
    pub(super) kind: String,
    pub(super) subject: String,
    pub(super) damage: Vec<String>,
    pub(super) what: String,
}

/// A worker's share: each `of`-th image from `from_*` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) of: u64,
    pub(super) exhaustive: u64,
    pub(super) random: u64,
}

pub(super) fn work(cases: &Cases, mut share: Share, time: Duration) -> anyhow::Result<()> {
    #[cfg(unix)]
    rustix::process::setrlimit(
        rustix::process::Resource::As,
        rustix::process::Rlimit { current: Some(MEMORY_MAX), maximum: Some(MEMORY_MAX) },
    )?;
    note_panics();
    let (began, mut told) = (Instant::now(), Instant::now());
    let mut tally = Tally::default();
    while began.elapsed() < time {
        // Both by turns, as long as there is something of the exhaustive part.
        if share.exhaustive < cases.exhaustive {
            one(cases, cases.spread(share.exhaustive), &mut tally)?;
            share.exhaustive += share.of;
        }
        one(cases, Case::Random(share.random), &mut tally)?;
        share.random += share.of;
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            done(&mut tally, share)?;
        }
    }
    done(&mut tally, share)
}

fn done(tally: &mut Tally, share: Share) -> anyhow::Result<()> {
    let tally = Box::new(std::mem::take(tally));
    say(&Line::Done { tally, exhaustive: share.exhaustive, random: share.random })
}

fn one(cases: &Cases, case: Case, tally: &mut Tally) -> anyhow::Result<()> {
    say(&Line::At(case.to_string()))?;
    let (subject, damages) = cases.make(case);
    match look(subject, damages, case, tally) {
        None => Ok(()),
        Some(found) => say(&Line::Found(found)),
    }
}

/// Judges one image, and makes what is wrong as small as it can.
pub(super) fn look(subject: &Subject, damages: Vec<Damage>, case: Case, tally: &mut Tally) -> Option<Found> {
    let turn = match case {
        Case::Exhaustive(number) | Case::Random(number) => number,
    };
    let wrong = judge(subject, &damages, turn, tally).err()?;
    let (damages, wrong) = shrink(subject, damages, turn, wrong);
    let kinds: Vec<String> = damages
        .iter()
        .map(|damage| format!("{:?} {}", subject.files[damage.file()].class, damage.kind()))
        .collect();
    Some(Found {
        case: case.to_string(),
        kind: format!("{}: {}", wrong.kind, kinds.join(", ")),
        subject: subject.name.into(),
        damage: damages.iter().map(|damage| damage.describe(subject)).collect(),
        what: wrong.what,
    })
}

/// As long as fewer or smaller damages are wrong in the same way, those.
fn shrink(subject: &Subject, mut damages: Vec<Damage>, turn: u64, mut wrong: Wrong) -> (Vec<Damage>, Wrong) {
    loop {
        let fewer = (0..damages.len()).filter(|_| damages.len() > 1).map(|without| {
            let mut fewer = damages.clone();
            fewer.remove(without);
            fewer
        });
        let smaller = (0..damages.len()).flat_map(|at| {
            damages[at].smaller().into_iter().map({
                let damages = &damages;
                move |damage| {
                    let mut smaller = damages.clone();
                    smaller[at] = damage;
                    smaller
                }
            })
        });
        let found = fewer.chain(smaller).find_map(|candidate| {
            let still = judge(subject, &candidate, turn, &mut Tally::default()).err()?;
            (still.kind == wrong.kind).then_some((candidate, still))
        });
        let Some(found) = found else { return (damages, wrong) };
        (damages, wrong) = found;
    }
}

fn say(line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    std::io::stdout().lock().write_all(&text).context("nobody listens")
}
