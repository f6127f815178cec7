//! What is chosen when the plugin is made.

use std::path::PathBuf;

use ecsdb::{Database, PersistenceConfig};
use tauri::plugin::TauriPlugin;
use tauri::webview::PageLoadEvent;
use tauri::{Manager, RunEvent, Runtime, WindowEvent};

use crate::commands;
use crate::lifecycle;
use crate::state::{Ecsdb, EcsdbExt};
use crate::stores::Stores;

/// The plugin, to be made.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing before it builds"]
pub struct Builder {
    world: World,
    dir: Option<PathBuf>,
    leave_signals: bool,
}

#[derive(Debug, Default)]
enum World {
    /// In the application's data directory.
    #[default]
    Usual,
    None,
    Open(Database),
    Config(Box<PersistenceConfig>),
}

impl Builder {
    /// The world is in the application's data directory under `world`, and the stores are there under `stores`.
    pub fn new() -> Self {
        Builder::default()
    }

    /// A database that is open already. It is closed when the application ends.
    pub fn database(mut self, world: Database) -> Self {
        self.world = World::Open(world);
        self
    }

    /// A world with these settings, opened when the application starts.
    pub fn config(mut self, config: PersistenceConfig) -> Self {
        self.world = World::Config(Box::new(config));
        self
    }

    /// Stores only: the commands of the world are refused.
    pub fn without_world(mut self) -> Self {
        self.world = World::None;
        self
    }

    /// A directory in the place of the application's data directory.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Lets `SIGTERM`, `SIGINT` and `SIGHUP` be: an application that listens to them itself ends by `AppHandle::exit`.
    pub fn leave_signals(mut self) -> Self {
        self.leave_signals = true;
        self
    }

    /// The plugin. The application does not start where the world or the stores cannot be opened; the error says why.
    pub fn build<R: Runtime>(self) -> TauriPlugin<R> {
        tauri::plugin::Builder::new("ecsdb")
            .invoke_handler(commands::handler())
            .setup(move |app, _| {
                let dir = self.dir.map_or_else(|| app.path().app_data_dir(), Ok)?;
                let world = match self.world {
                    World::Usual => Some(Database::open(dir.join("world"))?),
                    World::None => None,
                    World::Open(world) => Some(world),
                    World::Config(config) => Some(Database::new_with_persistence(*config)?),
                };
                let stores = Stores::open(dir)?;
                app.manage(Ecsdb::new(world, stores));
                lifecycle::close_at_the_end(app);
                if !self.leave_signals {
                    lifecycle::end_by_signal(app);
                }
                Ok(())
            })
            .on_page_load(|webview, load| {
                if load.event() == PageLoadEvent::Started {
                    webview.ecsdb().forget(webview.label());
                }
            })
            .on_event(|app, event| match event {
                RunEvent::Exit => app.ecsdb().close(),
                RunEvent::WindowEvent { label, event: WindowEvent::Destroyed, .. } => {
                    app.ecsdb().forget(label)
                }
                _ => {}
            })
            .build()
    }
}
