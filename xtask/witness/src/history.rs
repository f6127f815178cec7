//! A history of which each transaction is given by the seed, its number and the state before it, so that the state after any of them can
//! be computed by anyone. Ids of entities do not count, since after a crash others are given out. Nor is the number the LSN: those of lost
//! transactions are passed over when anything of them was seen.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use ecsdb::prelude::*;

const ENTITIES: usize = 24;
const ENTITIES_MAX: usize = 40;

#[derive(Component, Clone, Copy, Default, Debug, PartialEq, Eq, Hash)]
#[component(name = "witness.counter", plain)]
#[repr(C)]
struct Counter {
    key: u64,
    changes: u64,
    last: u64,
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "witness.text", archived)]
struct Text(String);

/// A resource: how many transactions there were.
#[derive(Component, Clone, Copy, Default)]
#[component(name = "witness.progress", plain)]
#[repr(C)]
struct Progress(u64);

/// By key.
type State = BTreeMap<u64, (Counter, Option<String>)>;

/// What transaction `number` makes of `state`.
fn step(seed: u64, number: u64, state: &mut State) {
    let mut random = fastrand::Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let new = |key| (Counter { key, changes: 0, last: number }, None);
    let missing = ENTITIES.saturating_sub(state.len()) as u64;
    // Keys do not come again.
    state.extend((0..missing).map(|n| number * 100 + n).map(|key| (key, new(key))));
    let one = state.keys().copied().nth(random.usize(..state.len())).unwrap_or_default();
    let dice = random.u32(..100);
    match dice {
        0..20 if state.len() < ENTITIES_MAX => drop(state.insert(number * 100 + 99, new(number * 100 + 99))),
        0..20 => drop(state.remove(&one)),
        20..30 => drop(state.remove(&one)),
        30..45 => state.values_mut().for_each(|(counter, _)| change(counter, number)),
        _ => {
            let Some((counter, text)) = state.get_mut(&one) else { return };
            change(counter, number);
            if dice >= 75 {
                // Now and then one of many pages.
                let len = if random.u32(..20) == 0 { 40_000 } else { random.usize(..3000) };
                *text = Some(std::iter::repeat_with(|| random.alphanumeric()).take(len).collect());
            }
        }
    }
}

fn change(counter: &mut Counter, number: u64) {
    counter.changes += 1;
    counter.last = number;
}

/// The next transaction of the history, and its number.
pub(crate) fn transaction(seed: u64, tx: &mut Transaction<'_>) -> Result<u64, Abort> {
    let number = tx.resource::<Progress>().map_or(0, |progress| progress.0) + 1;
    let mut state = State::new();
    let mut entities = BTreeMap::new();
    for (entity, counter, text) in tx.query::<(Entity, &Counter, Option<&Text>)>() {
        state.insert(counter.key, (*counter, text.map(|text| text.0.clone())));
        entities.insert(counter.key, entity);
    }
    let before = state.clone();
    step(seed, number, &mut state);
    for key in before.keys().filter(|key| !state.contains_key(key)) {
        tx.despawn(entities[key])?;
    }
    for (key, (counter, text)) in &state {
        let old = before.get(key);
        let entity = match entities.get(key) {
            Some(&entity) => entity,
            None => tx.spawn((*counter,)),
        };
        if old.is_some_and(|(old, _)| old != counter) {
            *tx.get_mut::<Counter>(entity)? = *counter;
        }
        if let Some(text) = text
            && old.and_then(|(_, old)| old.as_ref()) != Some(text)
        {
            tx.insert(entity, Text(text.clone()))?;
        }
    }
    tx.insert_resource(Progress(number));
    Ok(number)
}

/// The state that a view shows.
fn state_of(view: &View) -> anyhow::Result<State> {
    let rows = view.query::<(&Counter, Option<&Text>)>()?;
    let row = |(counter, text): (&Counter, Option<&Text>)| {
        (counter.key, (*counter, text.map(|text| text.0.clone())))
    };
    Ok(rows.map(row).collect())
}

/// Which transaction a view shows the last of, and a digest of what it shows.
pub(crate) fn digest_of(view: &View) -> anyhow::Result<(u64, u64)> {
    let number = view.resource::<Progress>().map_or(0, |progress| progress.0);
    Ok((number, hash(&state_of(view)?)))
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// The history, as far as it was asked for.
pub struct History {
    seed: u64,
    state: State,
    digests: Vec<u64>,
}

impl History {
    /// The one that `seed` gives.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State::new();
        History { seed, digests: vec![hash(&state)], state }
    }

    /// The digest of the state after transaction `number`.
    pub(crate) fn digest(&mut self, number: u64) -> u64 {
        while self.digests.len() as u64 <= number {
            step(self.seed, self.digests.len() as u64, &mut self.state);
            self.digests.push(hash(&self.state));
        }
        self.digests[number as usize]
    }

    /// What of a view differs from the state after the transaction that it says to be the last, by key.
    pub(crate) fn difference(&self, view: &View) -> anyhow::Result<String> {
        let (mut known, found) = (State::new(), state_of(view)?);
        (1..=digest_of(view)?.0).for_each(|number| step(self.seed, number, &mut known));
        let text = |row: Option<&(Counter, Option<String>)>| {
            let row = row.map(|(counter, text)| (counter, text.as_ref().map_or(0, String::len)));
            row.map_or("nothing".into(), |(counter, text)| format!("{counter:?} with a text of {text}"))
        };
        let mut keys: Vec<&u64> = known.keys().chain(found.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        let differing = keys.into_iter().filter(|key| known.get(key) != found.get(key));
        let lines = differing.map(|key| format!("{} became {}", text(known.get(key)), text(found.get(key))));
        Ok(lines.collect::<Vec<_>>().join("; "))
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }
}
