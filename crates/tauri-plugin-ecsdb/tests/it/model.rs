//! Stores beside a model of them: any calls, over several runs of the application.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value as Json, json};
use tauri_plugin_ecsdb::{Import, Options, StoreName, Stores};

const NAMES: [&str; 2] = ["a.json", "b"];
const KEYS: [&str; 3] = ["", "k", "__proto__"];

#[derive(Debug, Clone)]
enum Call {
    Load(Option<Map<String, Json>>, bool, bool),
    Set(&'static str, Json),
    Delete(&'static str),
    Clear,
    Reset,
    /// A file of the name, as an older store's would be.
    File(Map<String, Json>),
    /// The application ends, and starts again.
    Restart,
}

/// A store as it should be.
#[derive(Debug, Default)]
struct Store {
    values: Map<String, Json>,
    is_known: bool,
    defaults: Option<Map<String, Json>>,
    file: Option<Map<String, Json>>,
}

impl Store {
    fn load(
        &mut self,
        defaults: Option<Map<String, Json>>,
        create_new: bool,
        override_defaults: bool,
    ) -> Import {
        if self.defaults.is_some() && !create_new {
            return Import::Nothing;
        }
        let defaults = defaults.unwrap_or_default();
        let mut import = Import::Nothing;
        let was_there = self.is_known || self.file.is_some();
        if create_new {
            self.values = Map::new();
        } else if let Some(file) = self.file.as_ref().filter(|_| !self.is_known) {
            let taken = file.iter().filter(|(key, _)| !self.values.contains_key(*key));
            let taken: Vec<_> = taken.map(|(key, value)| (key.clone(), value.clone())).collect();
            import = Import::Taken(taken.len());
            self.values.extend(taken);
        }
        if create_new || !(override_defaults && was_there) {
            for (key, value) in &defaults {
                self.values.entry(key).or_insert(value.clone());
            }
        }
        (self.is_known, self.defaults) = (true, Some(defaults));
        import
    }
}

fn value() -> impl Strategy<Value = Json> {
    select(vec![
        json!(null),
        json!(0),
        json!(-0.0),
        json!(u64::MAX),
        json!("ü\0"),
        json!([]),
        json!({ "__proto__": 1 }),
    ])
}

fn values() -> impl Strategy<Value = Map<String, Json>> {
    let entry = (select(&KEYS[..]), value()).prop_map(|(key, value)| (key.to_string(), value));
    proptest::collection::vec(entry, 0..3).prop_map(|entries| entries.into_iter().collect())
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        3 => (proptest::option::of(values()), any::<bool>(), any::<bool>())
            .prop_map(|(defaults, new, own)| Call::Load(defaults, new, own)),
        4 => (select(&KEYS[..]), value()).prop_map(|(key, value)| Call::Set(key, value)),
        2 => select(&KEYS[..]).prop_map(Call::Delete),
        1 => Just(Call::Clear),
        2 => Just(Call::Reset),
        1 => values().prop_map(Call::File),
        2 => Just(Call::Restart),
    ]
}

#[expect(clippy::disallowed_methods, reason = "a file of somebody else's")]
fn write(dir: &Path, name: &str, values: &Map<String, Json>) {
    std::fs::write(dir.join(name), Json::from(values.clone()).to_string()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stores_are_as_their_calls_say(calls in proptest::collection::vec((select(&NAMES[..]), call()), 1..24)) {
        let dir = tempfile::tempdir().unwrap();
        let mut stores = Stores::open(dir.path()).unwrap();
        let mut model: BTreeMap<&str, Store> = NAMES.map(|name| (name, Store::default())).into();
        for (name, call) in calls {
            let (own, wanted) = (StoreName::new(name).unwrap(), model.get_mut(name).unwrap());
            match call {
                Call::Load(defaults, create_new, override_defaults) => {
                    let mut options = Options::default();
                    (options.defaults, options.create_new, options.override_defaults) =
                        (defaults.clone(), create_new, override_defaults);
                    let is_new = !wanted.is_known;
                    let loaded = stores.load(&own, options).unwrap();
                    prop_assert_eq!(loaded.import, wanted.load(defaults, create_new, override_defaults));
                    prop_assert_eq!(loaded.is_new, is_new);
                }
                Call::Set(key, value) => {
                    stores.set(&own, key, value.clone()).unwrap();
                    wanted.values.insert(key.into(), value);
                }
                Call::Delete(key) => {
                    prop_assert_eq!(stores.delete(&own, key).unwrap(), wanted.values.remove(key).is_some());
                }
                Call::Clear => {
                    stores.clear(&own).unwrap();
                    wanted.values.clear();
                }
                Call::Reset => {
                    prop_assert_eq!(stores.reset(&own).is_ok(), wanted.defaults.is_some());
                    wanted.values = wanted.defaults.clone().unwrap_or(std::mem::take(&mut wanted.values));
                }
                Call::File(values) => {
                    write(dir.path(), name, &values);
                    wanted.file = Some(values);
                }
                Call::Restart => {
                    stores.close().unwrap();
                    stores = Stores::open(dir.path()).unwrap();
                    model.values_mut().for_each(|store| store.defaults = None);
                }
            }
            for (name, wanted) in &model {
                let own = StoreName::new(*name).unwrap();
                let mut sorted: Vec<_> = wanted.values.clone().into_iter().collect();
                sorted.sort_by(|one, other| one.0.cmp(&other.0));
                prop_assert_eq!(stores.entries(&own).unwrap(), sorted, "{}", name);
                prop_assert_eq!(stores.is_known(&own), wanted.defaults.is_some());
                for key in KEYS {
                    prop_assert_eq!(stores.get(&own, key).unwrap(), wanted.values.get(key).cloned());
                }
            }
        }
    }
}
