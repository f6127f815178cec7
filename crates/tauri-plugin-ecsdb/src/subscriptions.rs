//! Who wants to be told of something, and until when: each belongs to a page, and ends with it.

use std::collections::BTreeMap;

use ecsdb_io::sync::Mutex;

/// Subscriptions of one kind.
pub(crate) struct Subscriptions<T>(Mutex<Table<T>>);

struct Table<T> {
    last: u32,
    /// Each with the label of its webview.
    all: BTreeMap<u32, (String, T)>,
}

impl<T> Default for Subscriptions<T> {
    fn default() -> Self {
        Subscriptions(Mutex::new(Table { last: 0, all: BTreeMap::new() }))
    }
}

impl<T> Subscriptions<T> {
    /// Adds one of the webview's, and gives its number.
    pub(crate) fn add(&self, webview: &str, with: impl FnOnce() -> T) -> u32 {
        let mut table = self.0.lock();
        table.last = table.last.wrapping_add(1);
        let id = table.last;
        let subscription = with();
        table.all.insert(id, (webview.into(), subscription));
        id
    }

    /// Ends one of the webview's; false where it has none of this number.
    pub(crate) fn remove(&self, webview: &str, id: u32) -> bool {
        let mut table = self.0.lock();
        let is_its = table.all.get(&id).is_some_and(|(label, _)| label == webview);
        is_its && table.all.remove(&id).is_some()
    }

    /// Ends all of a webview's: its page went away.
    pub(crate) fn remove_all(&self, webview: &str) {
        self.0.lock().all.retain(|_, (label, _)| label != webview);
    }

    /// Those of all webviews, told one after another by `tell`; whoever cannot be told any more is left out from then on.
    pub(crate) fn each(&self, mut tell: impl FnMut(&T) -> bool) {
        self.0.lock().all.retain(|_, (_, subscription)| tell(subscription));
    }
}
