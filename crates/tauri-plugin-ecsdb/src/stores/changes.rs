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
pub(super) struct Changes {
    watches: Subscriptions<Watch>,
    waiting: Mutex<VecDeque<Waiting>>,
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
        self.waiting.lock().push_back(Waiting { lsn, store, changes });
    }

    /// Tells of all that is durable by now. Whoever waited for a transaction calls this after it, so that each is told of.
    pub(super) fn tell(&self, durable: Lsn) {
        // Held while telling, so that nobody overtakes. Only whoever has committed waits for it: no page that comes or goes.
        let mut waiting = self.waiting.lock();
        while waiting.front().is_some_and(|next| next.lsn <= durable) {
            let Some(told) = waiting.pop_front() else { return };
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
}
