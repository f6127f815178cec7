//! The file of a store as others keep it: one JSON object.

use std::io::ErrorKind as Io;
use std::path::Path;

use ecsdb_io::{Disk, OpenMode, Vfs};
use serde_json::{Map, Value as Json};

use super::name::StoreName;
use crate::error::Result;

/// What is larger is no file of settings.
const BYTES_MAX: u64 = 64 << 20;

/// What became of an older store's file of the same name. It is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Import {
    /// There is none, or it was looked at before.
    Nothing,
    /// So many entries were taken over.
    Taken(usize),
    /// It was not taken, and will not be: it says nothing that is known here.
    Refused(String),
}

/// What is in such a file; or why it is none.
pub(super) fn read(dir: &Path, name: &StoreName) -> Result<Result<Option<Map<String, Json>>, String>> {
    let path = dir.join(name.as_str());
    let file = match Disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.cause.kind() == Io::NotFound => return Ok(Ok(None)),
        // A link may lead out of the directory.
        Err(e) if !is_file(dir, name)? => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    let bytes = file.len()?;
    if bytes > BYTES_MAX {
        return Ok(Err(format!("{} has {bytes} bytes, and at most {BYTES_MAX} are read", path.display())));
    }
    let mut text = vec![0; bytes as usize];
    file.read_exact_at(&mut text, 0)?;
    Ok(match serde_json::from_slice(&text) {
        Ok(Json::Object(entries)) => Ok(Some(entries)),
        Ok(_) => Err(format!("{} is no JSON object", path.display())),
        Err(e) => Err(format!("{} is no JSON: {e}", path.display())),
    })
}

fn is_file(dir: &Path, name: &StoreName) -> Result<bool> {
    let entries = Disk.read_dir(dir)?;
    Ok(entries.iter().any(|entry| entry.name == name.as_str() && entry.kind == ecsdb_io::EntryKind::File))
}
