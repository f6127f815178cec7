//! Telling of changes: in the order of the transactions, and only of what is on stable storage.

use std::collections::VecDeque;

use ecsdb::Lsn;
use ecsdb_io::sync::Mutex;
use serde_json::{Value as Json, json};
use tauri::ipc::Channel;

use super::name::StoreName;
use crate::subscriptions::Subscriptions;

/// A key that was set, or, without a value, deleted.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) value: Option<Json>,
}

#[derive(Clone)]
struct Watch {
    store: StoreName,
    channel: Channel<Json>,
}

/// What was committed, and may not be durable yet.
struct Waiting {
    lsn: Lsn,
    store: StoreName,
    changes: Vec<Change>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Up to here it may be told.
    durable: Lsn,
    /// Somebody tells, and goes on to the end: nobody overtakes, and nobody waits.
    is_told: bool,
}

#[derive(Default)]
pub(super) struct Changes {
    watches: Subscriptions<Watch>,
    queue: Mutex<Queue>,
}

/// Whoever tells, until there is nothing left; dropped where a listener panics.
struct Telling<'a>(&'a Mutex<Queue>);

impl Telling<'_> {
    /// What comes next. Where that is nothing, it is known in the same moment that nobody tells any more.
    fn next(&self) -> Option<Waiting> {
        let mut queue = self.0.lock();
        let durable = queue.durable;
        queue.is_told = queue.waiting.front().is_some_and(|next| next.lsn <= durable);
        if queue.is_told { queue.waiting.pop_front() } else { None }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.lock().is_told = false;
    }
}

impl Changes {
    pub(super) fn watch(&self, webview: &str, store: StoreName, channel: Channel<Json>) -> u32 {
        self.watches.add(webview, Watch { store, channel })
    }

    pub(super) fn unwatch(&self, webview: &str, id: u32) -> bool {
        self.watches.remove(webview, id)
    }

    pub(super) fn unwatch_all(&self, webview: &str) {
        self.watches.remove_all(webview);
    }

    /// Called in the order of the commits.
    pub(super) fn committed(&self, lsn: Lsn, store: StoreName, changes: Vec<Change>) {
        self.queue.lock().waiting.push_back(Waiting { lsn, store, changes });
    }

    /// Tells of all that is durable by now, or leaves that to whoever is telling. Whoever waited for a transaction calls this after it, so that each is
    /// told of. No lock is held meanwhile: whoever is told may change a store.
    pub(super) fn tell(&self, durable: Lsn) {
        let mut queue = self.queue.lock();
        queue.durable = queue.durable.max(durable);
        if std::mem::replace(&mut queue.is_told, true) {
            return;
        }
        drop(queue);
        let telling = Telling(&self.queue);
        while let Some(told) = telling.next() {
            self.watches.each(|watch| {
                let mut reaches = true;
                if watch.store == told.store {
                    for change in &told.changes {
                        let exists = change.value.is_some();
                        let told = json!({ "key": change.key, "value": change.value, "exists": exists });
                        // As text: what is sent so is evaluated, and `__proto__` in an object would not be a field of it.
                        reaches &= watch.channel.send(told.to_string().into()).is_ok();
                    }
                }
                reaches
            });
        }
        // By now somebody else may be.
        std::mem::forget(telling);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use tauri::ipc::InvokeResponseBody;

    use super::*;

    /// A channel that waits for the main thread, which has a page that goes away, or one that comes.
    #[test]
    fn who_is_told_may_wait_for_who_watches() {
        let changes = Arc::new(Changes::default());
        let store = || StoreName::new("settings").unwrap();
        let (tell, told) = mpsc::channel();
        let watch = |webview: &'static str| {
            let (inside, tell) = (changes.clone(), tell.clone());
            let channel = Channel::new(move |body| {
                let (there, (send, done)) = (inside.clone(), mpsc::channel());
                std::thread::spawn(move || {
                    there.watch("third", store(), Channel::new(|_| Ok(())));
                    there.unwatch_all("second");
                    let _ = send.send(());
                });
                let waited = done.recv_timeout(Duration::from_secs(5)).is_ok();
                let InvokeResponseBody::Json(text) = body else { panic!("no text") };
                let _ = tell.send((webview, text.contains("1"), waited));
                Ok(())
            });
            changes.watch(webview, store(), channel)
        };
        let ids = [watch("first"), watch("second"), watch("first")];
        for n in 1..=2 {
            let change = Change { key: "key".into(), value: Some(n.into()) };
            changes.committed(Lsn(n), store(), vec![change]);
        }
        changes.tell(Lsn(2));
        let first = |is_first| ("first", is_first, true);
        assert_eq!(
            told.try_iter().collect::<Vec<_>>(),
            [first(true), first(true), first(false), first(false)],
            "each in order, and none that has gone meanwhile"
        );
        assert!(changes.unwatch("first", ids[0]) && !changes.unwatch("second", ids[1]));
    }
    fn set(changes: &Changes, n: u64) {
        let change = Change { key: "key".into(), value: Some(n.into()) };
        changes.committed(Lsn(n), StoreName::new("settings").unwrap(), vec![change]);
        changes.tell(Lsn(n));
    }

    /// One that changes a store in its turn, from where it is told or from another thread that it waits for, is told of that, too, and after what it is
    /// being told of.
    #[test]
    fn who_is_told_may_change_a_store() {
        let changes = Arc::new(Changes::default());
        let (tell, told) = mpsc::channel();
        let inside = changes.clone();
        let channel = Channel::new(move |body| {
            let InvokeResponseBody::Json(text) = body else { panic!("no text") };
            let n = (1..=3).find(|n| text.contains(&n.to_string())).unwrap();
            let _ = tell.send(n);
            match n {
                1 => set(&inside, 2),
                2 => {
                    let (there, (send, done)) = (inside.clone(), mpsc::channel());
                    std::thread::spawn(move || {
                        set(&there, 3);
                        let _ = send.send(());
                    });
                    done.recv_timeout(Duration::from_secs(5)).expect("it waits for whoever is told");
                }
                _ => {}
            }
            Ok(())
        });
        changes.watch("page", StoreName::new("settings").unwrap(), channel);
        let (send, done) = mpsc::channel();
        let first = changes.clone();
        std::thread::spawn(move || {
            set(&first, 1);
            let _ = send.send(());
        });
        done.recv_timeout(Duration::from_secs(10)).expect("whoever is told waits for itself");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    /// A listener that panics ends what it was called by, and not what others are told.
    #[test]
    fn a_panic_of_whoever_is_told_ends_no_telling_for_good() {
        let changes = Changes::default();
        let (tell, told) = mpsc::channel();
        let channel = Channel::new(move |body| {
            let InvokeResponseBody::Json(text) = body else { panic!("no text") };
            assert!(!text.contains('1'), "it panics");
            let _ = tell.send(());
            Ok(())
        });
        changes.watch("page", StoreName::new("settings").unwrap(), channel);
        for n in 1..=2 {
            let telling = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| set(&changes, n)));
            assert_eq!(telling.is_err(), n == 1);
        }
        assert_eq!(told.try_iter().count(), 1);
    }
}
