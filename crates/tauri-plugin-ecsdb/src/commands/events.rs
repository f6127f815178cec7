//! Being told of what happens in the background.

use serde::Deserialize;
use serde_json::Value as Json;
use tauri::ipc::{Channel, JavaScriptChannelId};
use tauri::{Runtime, Webview};

use crate::args::Args;
use crate::error::Result;
use crate::look;
use crate::state::{EcsdbExt, Listener};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Subscribe {
    on_event: JavaScriptChannelId,
}

/// Tells the channel of every event from now on; until `unsubscribe`, or until the page is gone. Not `async`, so that it is there before its page
/// can go.
#[tauri::command]
pub(crate) fn subscribe<R: Runtime>(webview: Webview<R>, args: Args<Subscribe>) -> Result<u32> {
    let ecsdb = webview.ecsdb();
    let mut events = ecsdb.world()?.events();
    let channel: Channel<Json> = args.0.on_event.channel_on(webview.clone());
    let listener = Listener(tauri::async_runtime::spawn(async move {
        while let Some(event) = events.next().await {
            if channel.send(look::event(&event)).is_err() {
                return;
            }
        }
    }));
    Ok(ecsdb.events().add(webview.label(), listener))
}

/// The number that a subscription got.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Id {
    pub(crate) id: u32,
}

/// Ends a subscription of this page; false where there is none of the number.
#[tauri::command]
pub(crate) async fn unsubscribe<R: Runtime>(webview: Webview<R>, args: Args<Id>) -> Result<bool> {
    Ok(webview.ecsdb().events().remove(webview.label(), args.0.id))
}
