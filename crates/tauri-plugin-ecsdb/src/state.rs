//! What the plugin has: the world, the stores, and who listens.

use std::sync::Arc;

use ecsdb::Database;
use ecsdb::config::Changes;
use serde_json::{Map, Value as Json};
use tauri::{Manager, Runtime};

use crate::error::{Error, Result};
use crate::settings;
use crate::stores::Stores;
use crate::subscriptions::Subscriptions;

/// The database and the stores of the application; see [`EcsdbExt::ecsdb`].
#[derive(Clone)]
pub struct Ecsdb(Arc<Inner>);

struct Inner {
    world: Option<Database>,
    stores: Stores,
    events: Subscriptions<Listener>,
}

/// A task that ends when this goes away.
pub(crate) struct Listener(pub(crate) tauri::async_runtime::JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Ecsdb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ecsdb").field("world", &self.0.world).field("stores", &self.0.stores).finish()
    }
}

impl Ecsdb {
    pub(crate) fn new(world: Option<Database>, stores: Stores) -> Ecsdb {
        Ecsdb(Arc::new(Inner { world, stores, events: Subscriptions::default() }))
    }

    /// The world.
    ///
    /// # Errors
    /// Of kind [`Call`](ecsdb::ErrorKind::Call) when the application has none
    /// ([`Builder::without_world`](crate::Builder::without_world)).
    pub fn world(&self) -> Result<&Database> {
        self.0.world.as_ref().ok_or_else(|| Error::call("this application has stores, and no world"))
    }

    /// The stores.
    pub fn stores(&self) -> &Stores {
        &self.0.stores
    }

    /// Closes the world and the stores, as it happens by itself when the application ends: whatever was acknowledged is on stable
    /// storage, and every later change fails with kind [`Closed`](ecsdb::ErrorKind::Closed).
    pub fn close(&self) {
        let stores = self.0.stores.close();
        let world = self.0.world.as_ref().map_or(Ok(()), |world| world.close().map_err(Error::from));
        for closed in [stores, world] {
            if let Err(e) = closed {
                tracing::error!(error = %e, "closing failed; what was acknowledged is safe");
            }
        }
    }

    pub(crate) fn events(&self) -> &Subscriptions<Listener> {
        &self.0.events
    }

    /// Changes some of the world's settings.
    pub(crate) fn reconfigure(&self, wanted: Map<String, Json>) -> Result<Changes> {
        let mut said = Ok(());
        let changed = self.world()?.reconfigure_with(|config| {
            said = settings::with(config, wanted.clone()).map(|new| *config = new);
        });
        said?;
        Ok(changed?)
    }

    /// The page of a webview is gone.
    pub(crate) fn forget(&self, webview: &str) {
        self.0.events.remove_all(webview);
        self.0.stores.unwatch_all(webview);
    }
}

/// The way to the database from an application, a handle, a window.
pub trait EcsdbExt<R: Runtime> {
    /// The database and the stores.
    ///
    /// # Panics
    /// When the plugin is not there.
    fn ecsdb(&self) -> &Ecsdb;
}

impl<R: Runtime, T: Manager<R>> EcsdbExt<R> for T {
    fn ecsdb(&self) -> &Ecsdb {
        self.state::<Ecsdb>().inner()
    }
}
