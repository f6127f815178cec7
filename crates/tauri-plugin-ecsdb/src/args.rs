//! The arguments of a command, read at once, so that whatever a page sends gets an [`Error`] as every other fault does.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value as Json;
use tauri::Runtime;
use tauri::ipc::{CommandArg, CommandItem, InvokeBody, InvokeError};

use crate::error::Error;

/// All arguments of a command, by their names.
pub(crate) struct Args<T>(pub(crate) T);

impl<'de, R: Runtime, T: DeserializeOwned> CommandArg<'de, R> for Args<T> {
    fn from_command(item: CommandItem<'de, R>) -> Result<Self, InvokeError> {
        let refused = |what: &str| Err(Error::call(format!("{}: {what}", item.name)).into());
        let json = match item.message.payload() {
            InvokeBody::Json(Json::Null) => Json::Object(Default::default()),
            InvokeBody::Json(json @ Json::Object(_)) => json.clone(),
            InvokeBody::Json(_) => return refused("a value where arguments with names are expected"),
            InvokeBody::Raw(_) => return refused("bytes where arguments with names are expected"),
        };
        // With the way to what is wrong.
        match serde_path_to_error::deserialize(json) {
            Ok(args) => Ok(Args(args)),
            Err(e) if e.path().iter().len() == 0 => refused(&e.inner().to_string()),
            Err(e) => refused(&e.to_string()),
        }
    }
}

/// An argument that need not be there, `#[serde(default, deserialize_with = "given")]`; where it is, it says something. `null` does not: it is what
/// a number that is no number becomes on its way from a page.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A command without arguments, which are refused as they are where there are some.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}
