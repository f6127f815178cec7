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

// What is told or ends is so without the lock: a channel may wait for the main thread, when it is told of something and when it goes away, and the main
// thread for the lock.
impl<T> Subscriptions<T> {
    /// Adds one of the webview's, and gives its number.
    pub(crate) fn add(&self, webview: &str, subscription: T) -> u32 {
        let mut table = self.0.lock();
        table.last = table.last.wrapping_add(1);
        let id = table.last;
        let before = table.all.insert(id, (webview.into(), subscription));
        drop(table);
        drop(before);
        id
    }

    /// Ends one of the webview's; false where it has none of this number.
    pub(crate) fn remove(&self, webview: &str, id: u32) -> bool {
        let mut table = self.0.lock();
        let is_its = table.all.get(&id).is_some_and(|(label, _)| label == webview);
        let ended = if is_its { table.all.remove(&id) } else { None };
        drop(table);
        ended.is_some()
    }

    /// Ends all of a webview's: its page went away.
    pub(crate) fn remove_all(&self, webview: &str) {
        let mut table = self.0.lock();
        let all = std::mem::take(&mut table.all);
        let (ended, left): (BTreeMap<_, _>, _) =
            all.into_iter().partition(|(_, (label, _))| label == webview);
        table.all = left;
        drop(table);
        drop(ended);
    }
}

impl<T: Clone> Subscriptions<T> {
    /// Those of all webviews, told one after another by `tell`; whoever cannot be told any more is left out from then on. Who has ended meanwhile is not
    /// told, and who has come only by the next.
    pub(crate) fn each(&self, mut tell: impl FnMut(&T) -> bool) {
        let all: Vec<u32> = self.0.lock().all.keys().copied().collect();
        for id in all {
            let found = self.0.lock().all.get(&id).cloned();
            let Some((webview, subscription)) = found else { continue };
            if !tell(&subscription) {
                self.remove(&webview, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;

    /// Something that another thread wants from the table when it goes away.
    #[derive(Clone)]
    struct Needy(#[expect(dead_code, reason = "it is there to go away")] Arc<Wants>);

    struct Wants {
        of: Arc<Subscriptions<Needy>>,
        done: mpsc::Sender<bool>,
    }

    impl Drop for Wants {
        fn drop(&mut self) {
            let (of, (send, seen)) = (self.of.clone(), mpsc::channel());
            std::thread::spawn(move || {
                of.remove("nobody", 0);
                let _ = send.send(());
            });
            let _ = self.done.send(seen.recv_timeout(Duration::from_secs(5)).is_ok());
        }
    }

    #[test]
    fn nothing_ends_while_the_table_is_locked() {
        let table = Arc::new(Subscriptions::default());
        let (done, ended) = mpsc::channel();
        let add = || table.add("page", Needy(Arc::new(Wants { of: table.clone(), done: done.clone() })));
        let ids = [add(), add(), add(), add()];
        assert!(!table.remove("other", ids[0]) && table.remove("page", ids[0]));
        let mut told = 0;
        table.each(|_| {
            told += 1;
            told == 1
        });
        table.remove_all("page");
        assert_eq!((told, ended.try_iter().collect::<Vec<_>>()), (3, vec![true; 4]));
    }
}
