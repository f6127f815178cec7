//! `ecsdb query`

use anyhow::Result;
use clap::Args;
use ecsdb_query::{Components, Question, Search};
use serde_json::{Map, Value as Json, json};

use crate::output::{Output, Rows, many};
use crate::place::{Place, When};

/// Options of `query`.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    place: Place,
    /// Entities that have these components.
    #[arg(long, value_delimiter = ',')]
    with: Vec<String>,
    /// Entities that have none of these components.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Entities of which this holds: a component or one of its fields, `=` (or `==`), `!=`, `<`, `<=`, `>` or `>=`, and a value. Several are joined
    /// by `and`, or given one by one.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// What is shown of each: components and fields. All components that are asked for unless said otherwise.
    #[arg(long, value_delimiter = ',')]
    select: Vec<String>,
    /// At most so many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    when: When,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let seen = options.place.settle()?.see(options.when.moment())?;
    let components = Components::of(&seen.view);
    let question = Question {
        with: options.with.clone(),
        without: options.without.clone(),
        conditions: options.conditions.clone(),
        select: options.select.clone(),
        // One more, to say whether there are more.
        limit: options.limit.map(|limit| limit.saturating_add(1)),
    };
    let search = Search::parse(&question, &components)?;
    let head: Vec<&str> = std::iter::once("entity").chain(search.columns()).collect();
    if out.is_json() {
        out.json(&json!({ "state": seen.json() }))?;
    }
    let (mut rows, mut found, mut more) = (Rows::new(&head), 0, false);
    search.each(&seen.view, |row| -> Result<()> {
        if options.limit == Some(found) {
            more = true;
            return Ok(());
        }
        found += 1;
        if out.is_json() {
            let names = search.columns().map(String::from);
            let values: Map<String, Json> = names.zip(row.values).collect();
            out.json(&json!({ "entity": row.entity.to_string(), "values": values }))?;
        } else {
            let mut cells = vec![row.entity.to_string()];
            cells.extend(row.values.into_iter().map(|json| match json {
                // With its ends where it is of several lines, say.
                Json::String(text) if !text.contains(char::is_control) => text,
                other => other.to_string(),
            }));
            rows.push(cells, out)?;
        }
        Ok(())
    })?;
    if out.is_json() {
        return out.json(&json!({ "entities": found, "more": more }));
    }
    rows.finish(out)?;
    let more = if more { ", and there are more" } else { "" };
    out.line(format_args!("{}{more}, {}", many(found as u64, "entity", "entities"), seen.line()))
}
