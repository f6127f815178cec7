//! The stores.

use ecsdb::ErrorKind;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tauri::ipc::JavaScriptChannelId;
use tauri::{AppHandle, Runtime, Webview};

use super::events::Id;
use crate::args::Args;
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::state::EcsdbExt;
use crate::stores::{Import, Options, StoreName, Stores};

fn named(name: String) -> Result<StoreName> {
    StoreName::new(name).map_err(|e| e.of("store"))
}

/// Runs `work` with the stores.
async fn with<R: Runtime, T: Send + 'static>(
    app: &AppHandle<R>,
    name: String,
    work: impl FnOnce(&Stores, &StoreName) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (stores, name) = (app.ecsdb().stores().clone(), named(name)?);
    blocking(move || work(&stores, &name)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    store: String,
    #[serde(default)]
    options: Options,
}

#[tauri::command]
pub(crate) async fn store_load<R: Runtime>(app: AppHandle<R>, args: Args<Load>) -> Result<Json> {
    let Load { store, options } = args.0;
    let loaded = with(&app, store, |stores, name| stores.load(name, options)).await?;
    let (taken, refused) = match loaded.import {
        Import::Nothing => (None, None),
        Import::Taken(entries) => (Some(entries), None),
        Import::Refused(why) => (None, Some(why)),
    };
    Ok(json!({ "isNew": loaded.is_new, "imported": taken, "refused": refused }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    store: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    store: String,
    key: String,
}

#[tauri::command]
pub(crate) async fn store_is_known<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<bool> {
    with(&app, args.0.store, |stores, name| Ok(stores.is_known(name))).await
}

/// A value that is `null` is there, so that it is not enough to give the value.
#[tauri::command]
pub(crate) async fn store_get<R: Runtime>(app: AppHandle<R>, args: Args<Key>) -> Result<Json> {
    let Key { store, key } = args.0;
    let value = with(&app, store, move |stores, name| stores.get(name, &key)).await?;
    Ok(json!({ "exists": value.is_some(), "value": value }))
}

#[tauri::command]
pub(crate) async fn store_has<R: Runtime>(app: AppHandle<R>, args: Args<Key>) -> Result<bool> {
    let Key { store, key } = args.0;
    with(&app, store, move |stores, name| Ok(stores.get(name, &key)?.is_some())).await
}

#[tauri::command]
pub(crate) async fn store_keys<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<Vec<String>> {
    with(&app, args.0.store, |stores, name| Ok(stores.keys(name))).await
}

#[tauri::command]
pub(crate) async fn store_values<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<Vec<Json>> {
    with(&app, args.0.store, |stores, name| {
        Ok(stores.entries(name)?.into_iter().map(|(_, value)| value).collect())
    })
    .await
}

#[tauri::command]
pub(crate) async fn store_entries<R: Runtime>(
    app: AppHandle<R>,
    args: Args<Store>,
) -> Result<Vec<(String, Json)>> {
    with(&app, args.0.store, |stores, name| stores.entries(name)).await
}

#[tauri::command]
pub(crate) async fn store_length<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<usize> {
    with(&app, args.0.store, |stores, name| Ok(stores.keys(name).len())).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    store: String,
    key: String,
    value: Json,
}

#[tauri::command]
pub(crate) async fn store_set<R: Runtime>(app: AppHandle<R>, args: Args<Set>) -> Result<()> {
    let Set { store, key, value } = args.0;
    let set = move |stores: &Stores, name: &StoreName| stores.set(name, &key, value);
    // What is refused of it is its size.
    let of_value = |e: Error| if e.kind == ErrorKind::Call { e.of("value") } else { e };
    with(&app, store, move |stores, name| set(stores, name).map_err(of_value)).await
}

#[tauri::command]
pub(crate) async fn store_delete<R: Runtime>(app: AppHandle<R>, args: Args<Key>) -> Result<bool> {
    let Key { store, key } = args.0;
    with(&app, store, move |stores, name| stores.delete(name, &key)).await
}

#[tauri::command]
pub(crate) async fn store_clear<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<()> {
    with(&app, args.0.store, |stores, name| stores.clear(name)).await
}

#[tauri::command]
pub(crate) async fn store_reset<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<()> {
    with(&app, args.0.store, |stores, name| stores.reset(name)).await
}

#[tauri::command]
pub(crate) async fn store_save<R: Runtime>(app: AppHandle<R>, args: Args<Store>) -> Result<()> {
    with(&app, args.0.store, |stores, _| stores.save()).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Watch {
    store: String,
    on_change: JavaScriptChannelId,
}

/// Tells the channel of every change from now on, each once it is durable; until `store_unwatch`, or until the page is gone. Not
/// `async`, so that it is there before its page can go.
#[tauri::command]
pub(crate) fn store_watch<R: Runtime>(webview: Webview<R>, args: Args<Watch>) -> Result<u32> {
    let Watch { store, on_change } = args.0;
    let channel = on_change.channel_on(webview.clone());
    Ok(webview.ecsdb().stores().watch(webview.label(), named(store)?, channel))
}

#[tauri::command]
pub(crate) async fn store_unwatch<R: Runtime>(webview: Webview<R>, args: Args<Id>) -> Result<bool> {
    Ok(webview.ecsdb().stores().unwatch(webview.label(), args.0.id))
}
