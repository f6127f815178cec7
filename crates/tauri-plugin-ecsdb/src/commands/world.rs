//! Snapshots, restoring, compaction, checking, questions, settings.

use std::time::Duration;

use ecsdb::{ErrorKind, Job, Moment, Progress, Step};
use ecsdb_query::{Components, Question, Search};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tauri::ipc::{Channel, JavaScriptChannelId};
use tauri::{AppHandle, Runtime, Webview};

use crate::args::{Args, Nothing, given};
use crate::blocking::blocking;
use crate::error::{Error, Result};
use crate::look;
use crate::state::EcsdbExt;

/// How often a page is told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Where to tell how far it is, if anywhere.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Followed {
    #[serde(default, deserialize_with = "given")]
    on_progress: Option<JavaScriptChannelId>,
}

fn channel<R: Runtime>(id: Option<JavaScriptChannelId>, webview: Webview<R>) -> Option<Channel<Json>> {
    id.map(|id| id.channel_on(webview))
}

/// Waits for the job, which goes on to its end when the page is gone.
async fn follow<T>(mut job: Job<T>, channel: Option<Channel<Json>>) -> Result<T> {
    let Some(channel) = channel else { return Ok(job.await?) };
    let tell = |progress: Progress| drop(channel.send(look::progress(&progress)));
    let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            result = &mut job => {
                tell(job.progress());
                return Ok(result?);
            }
            _ = tick.tick() => {}
        }
        tell(job.progress());
    }
}

#[tauri::command]
pub(crate) async fn create_snapshot<R: Runtime>(
    app: AppHandle<R>,
    webview: Webview<R>,
    args: Args<Followed>,
) -> Result<Json> {
    let db = app.ecsdb().world()?.clone();
    // Taking the view waits for the transaction under way.
    let job = blocking(move || Ok(db.snapshot()?)).await?;
    Ok(look::snapshot(&follow(job, channel(args.0.on_progress, webview)).await?))
}

#[tauri::command]
pub(crate) async fn list_snapshots<R: Runtime>(app: AppHandle<R>, _args: Args<Nothing>) -> Result<Json> {
    let snapshots = app.ecsdb().world()?.snapshots()?;
    Ok(snapshots.iter().map(look::entry).collect())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Restore {
    /// The snapshot's number; the newest unless given.
    #[serde(default, deserialize_with = "given")]
    number: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    on_progress: Option<JavaScriptChannelId>,
}

#[tauri::command]
pub(crate) async fn restore_snapshot<R: Runtime>(
    app: AppHandle<R>,
    webview: Webview<R>,
    args: Args<Restore>,
) -> Result<Json> {
    let Restore { number: asked, on_progress } = args.0;
    let db = app.ecsdb().world()?;
    let channel = channel(on_progress, webview);
    let restore = async |number| follow(db.restore(Moment::Snapshot(number))?, channel.clone()).await;
    let mut tried = None;
    loop {
        let newest = || db.snapshots().map(|all| all.last().map(|newest| newest.sequence));
        let Some(number) = asked.map_or_else(newest, |number| Ok(Some(number)))? else {
            return Err(Error {
                kind: ErrorKind::NotFound,
                message: "there is no snapshot yet: take one first".into(),
            });
        };
        match restore(number).await {
            Ok(lsn) => return Ok(json!({ "number": number, "lsn": lsn.0 })),
            // A compaction has put another in the place of the newest.
            Err(e) if e.kind == ErrorKind::NotFound && asked.or(tried) != Some(number) => {
                tried = Some(number)
            }
            Err(e) if e.kind == ErrorKind::NotFound && asked.is_some() => return Err(e.of("number")),
            Err(e) => return Err(e),
        }
    }
}

#[tauri::command]
pub(crate) async fn compact<R: Runtime>(
    app: AppHandle<R>,
    webview: Webview<R>,
    args: Args<Followed>,
) -> Result<Json> {
    let job = app.ecsdb().world()?.compact()?;
    Ok(look::compaction(&follow(job, channel(args.0.on_progress, webview)).await?))
}

/// Bytes of a database's files, as they are read.
struct Reading {
    done: u64,
    total: u64,
    /// Of the file that is being read.
    next: u64,
}

impl Reading {
    /// How far it is when a step begins. What changes meanwhile is read anew, from the first step on.
    fn at(&mut self, step: &Step) -> Progress {
        self.done += std::mem::take(&mut self.next);
        match step {
            Step::Snapshot { bytes, .. } | Step::Segment { bytes, .. } => self.next = *bytes,
            Step::Done => self.done = self.total,
            _ => {}
        }
        let mut progress = Progress::default();
        (progress.done, progress.total) = (self.done.min(self.total), self.total);
        if *step == Step::Done {
            self.done = 0;
        }
        progress
    }
}

#[tauri::command]
pub(crate) async fn verify<R: Runtime>(
    app: AppHandle<R>,
    webview: Webview<R>,
    args: Args<Followed>,
) -> Result<Json> {
    let db = app.ecsdb().world()?.clone();
    let channel = channel(args.0.on_progress, webview);
    blocking(move || {
        let mut read =
            Reading { done: 0, total: db.stats()?.store.map_or(0, |files| files.total_bytes()), next: 0 };
        let verified = db.verify(|step| {
            let progress = read.at(step);
            if let Some(channel) = &channel {
                drop(channel.send(look::progress(&progress)));
            }
        })?;
        Ok(look::verified(&verified))
    })
    .await
}

#[tauri::command]
pub(crate) async fn stats<R: Runtime>(app: AppHandle<R>, _args: Args<Nothing>) -> Result<Json> {
    let db = app.ecsdb().world()?.clone();
    blocking(move || Ok(look::stats(&db.stats()?))).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Query {
    #[serde(default)]
    with: Vec<String>,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default, rename = "where")]
    conditions: Vec<String>,
    #[serde(default)]
    select: Vec<String>,
    #[serde(default, deserialize_with = "given")]
    limit: Option<usize>,
}

/// What is wrong with a question is told of the argument that has it.
fn check(question: &Question, components: &Components) -> Result<()> {
    let Question { with, without, conditions, select, .. } = question.clone();
    let parts = [
        ("with", Question { with, ..Question::default() }),
        ("without", Question { without, ..Question::default() }),
        ("where", Question { conditions, ..Question::default() }),
        ("select", Question { select, ..Question::default() }),
    ];
    for (argument, part) in &parts {
        Search::parse(part, components).map_err(|e| Error::from(e).of(argument))?;
    }
    Ok(())
}

#[tauri::command]
pub(crate) async fn query<R: Runtime>(app: AppHandle<R>, args: Args<Query>) -> Result<Json> {
    let db = app.ecsdb().world()?.clone();
    let Query { with, without, conditions, select, limit } = args.0;
    let question = Question { with, without, conditions, select, limit };
    blocking(move || {
        let view = db.view()?;
        let components = Components::of(&view);
        check(&question, &components)?;
        let search = Search::parse(&question, &components)?;
        let mut rows = Vec::new();
        search.each(&view, |row| -> Result<()> {
            let values: Vec<Json> = row.values.into_iter().map(look::exact).collect();
            Ok(rows.push(json!({ "entity": row.entity.to_string(), "values": values })))
        })?;
        let columns: Vec<&str> = search.columns().collect();
        Ok(json!({ "lsn": view.lsn().0, "columns": columns, "rows": rows }))
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reconfigure {
    settings: Map<String, Json>,
}

#[tauri::command]
pub(crate) async fn reconfigure<R: Runtime>(app: AppHandle<R>, args: Args<Reconfigure>) -> Result<Json> {
    let ecsdb = app.ecsdb().clone();
    blocking(move || {
        let changes = ecsdb.reconfigure(args.0.settings)?;
        Ok(json!({ "live": changes.live, "atNextOpening": changes.at_next_opening }))
    })
    .await
}
