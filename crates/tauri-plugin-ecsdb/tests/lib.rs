//! An application for the tests, as they need one: windows named `reader…` have the plugin's default permissions, `settings…` those of
//! the stores, `manager…` all.

use std::sync::Mutex;

use serde_json::Value as Json;
use tauri::ipc::{CallbackFn, InvokeBody, InvokeResponseBody};
use tauri::test::{INVOKE_KEY, MockRuntime, get_ipc_response, mock_builder};
use tauri::webview::InvokeRequest;
use tauri::{App, Manager, WebviewWindow, WebviewWindowBuilder};
use tauri_plugin_ecsdb::Builder;

/// What was sent through channels: label of the window, number of the channel, message.
#[derive(Default)]
struct Heard(Mutex<Vec<(String, u32, Json)>>);

/// The application, with its real capabilities.
///
/// # Errors
/// When the plugin refuses to start.
pub fn app(plugin: Builder) -> tauri::Result<App<MockRuntime>> {
    mock_builder()
        .manage(Heard::default())
        .channel_interceptor(|webview, channel, _, message| {
            if let InvokeResponseBody::Json(text) = message
                && let Ok(json) = serde_json::from_str(text)
                && let Ok(mut heard) = webview.state::<Heard>().0.lock()
            {
                heard.push((webview.label().into(), channel.0, json));
            }
            true
        })
        .plugin(plugin.leave_signals().build())
        .build(tauri::generate_context!())
}

/// What a channel of the window was told so far.
pub fn heard(window: &WebviewWindow<MockRuntime>, channel: u32) -> Vec<Json> {
    let Ok(heard) = window.state::<Heard>().inner().0.lock() else { return Vec::new() };
    let of_it = heard.iter().filter(|(label, number, _)| label == window.label() && *number == channel);
    of_it.map(|(_, _, message)| message.clone()).collect()
}

/// A channel as a page gives it.
pub fn channel(number: u32) -> Json {
    format!("__CHANNEL__:{number}").into()
}

/// A window of this label.
///
/// # Panics
/// When it cannot be made.
pub fn window(app: &App<MockRuntime>, label: &str) -> WebviewWindow<MockRuntime> {
    WebviewWindowBuilder::new(app, label, Default::default()).build().expect("a window of the mock runtime")
}

/// A call of the page in the window, as Tauri gets it.
pub fn request(command: &str, body: impl Into<InvokeBody>) -> InvokeRequest {
    InvokeRequest {
        cmd: format!("plugin:ecsdb|{command}"),
        callback: CallbackFn(0),
        error: CallbackFn(1),
        url: "tauri://localhost".parse().expect("a URL"),
        body: body.into(),
        headers: Default::default(),
        invoke_key: INVOKE_KEY.to_string(),
    }
}

/// What the page in the window gets for a call.
///
/// # Errors
/// What it gets as an error.
pub fn call(window: &WebviewWindow<MockRuntime>, command: &str, arguments: Json) -> Result<Json, Json> {
    let answer = get_ipc_response(window, request(command, arguments))?;
    answer.deserialize().map_err(|e| e.to_string().into())
}
