//! Limits: what is refused when it is registered or committed, by the same functions that reading uses, so that nothing is
//! acknowledged which cannot be read back (TX-2). `docs/limits.md` is the table.

use crate::component::{CodecError, StorageKind};
use crate::describe::Description;
use crate::error::{Error, Result};

/// Bytes of a plain component, and of a transient one. One so large is read on any stack, but whoever spawns it as a value moves it over its own.
pub(crate) const PLAIN_BYTES_MAX: usize = 1 << 20;
/// Bytes of an archived component in memory, without what it has on the heap.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;
/// Bytes in memory of an archived component's parts that lie one within another, boxed ones too. Reading a value in a debug build
/// was measured to take up to nine times as much of the stack, of which a thread has 2 MiB unless somebody says otherwise.
pub(crate) const NESTED_BYTES_MAX: usize = 128 << 10;
/// Alignment of a component, in memory and in an archive.
pub(crate) const ALIGN_MAX: usize = 64;
/// Bytes of the archive of one value.
pub(crate) const VALUE_BYTES_MAX: usize = 256 << 20;
/// Levels of nesting of one archived value.
pub(crate) const VALUE_DEPTH_MAX: usize = 128;
/// Bytes of a component's name.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Components of a database.
pub(crate) const COMPONENTS_MAX: u32 = 1 << 16;
/// Types in the description of one component.
pub(crate) const DESCRIBED_TYPES_MAX: usize = 4096;
/// Bytes of one description.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 1 << 20;

fn refuse(component: &str, what: &'static str, found: usize, max: usize) -> Result<()> {
    if found <= max {
        return Ok(());
    }
    Err(Error::Limit { component: component.into(), what, found, max })
}

/// A definition, whether it is registered by a program or read from a file.
pub(crate) fn check_definition(name: &str, plain_bytes: usize, description: &Description) -> Result<()> {
    refuse(name, "bytes of its name", name.len(), NAME_BYTES_MAX)?;
    refuse(name, "bytes of its type", plain_bytes, PLAIN_BYTES_MAX)?;
    refuse(name, "types in its description", description.types(), DESCRIBED_TYPES_MAX)?;
    refuse(name, "bytes of its description", description.to_bytes().len(), DESCRIPTION_BYTES_MAX)?;
    refuse(name, "alignment of a part of its type", description.align_max() as usize, ALIGN_MAX)
}

/// The Rust type of a component, with the greater alignment of it and its archive.
pub(crate) fn check_type(name: &str, kind: StorageKind, size: usize, align: usize) -> Result<()> {
    let bytes_max = match kind {
        StorageKind::Plain | StorageKind::Transient => PLAIN_BYTES_MAX,
        StorageKind::Archived => INLINE_BYTES_MAX,
    };
    refuse(name, "bytes of its type", size, bytes_max)?;
    refuse(name, "alignment of its type", align, ALIGN_MAX)
}

/// The parts of an archived component's Rust type.
pub(crate) fn check_parts(name: &str, nested_bytes: usize) -> Result<()> {
    refuse(name, "bytes in memory of its parts that lie one within another", nested_bytes, NESTED_BYTES_MAX)
}

/// The archive of one value, when it is written and when it is read.
pub(crate) fn check_value(bytes: usize) -> Result<(), CodecError> {
    if bytes <= VALUE_BYTES_MAX { Ok(()) } else { Err(CodecError::TooLarge { bytes, max: VALUE_BYTES_MAX }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_docs_has_the_numbers_that_hold() {
        let table = include_str!("../../../docs/limits.md");
        for (what, limit) in [
            ("bytes of a plain component", PLAIN_BYTES_MAX),
            ("bytes of an archived component's Rust type", INLINE_BYTES_MAX),
            ("bytes in memory of its parts", NESTED_BYTES_MAX),
            ("alignment of a component", ALIGN_MAX),
            ("bytes of the archive of one value", VALUE_BYTES_MAX),
            ("levels of nesting", VALUE_DEPTH_MAX),
            ("bytes of a component's name", NAME_BYTES_MAX),
            ("components of a database", COMPONENTS_MAX as usize),
            ("types in a component's description", DESCRIBED_TYPES_MAX),
            ("bytes of a component's description", DESCRIPTION_BYTES_MAX),
            ("entities of one operation", crate::change_set::IDS_MAX),
        ] {
            let row = table.lines().find(|line| line.starts_with(&format!("| {what}")));
            assert!(
                row.is_some_and(|row| row.ends_with(&format!("| {limit} |"))),
                "{what}: {row:?}, {limit}"
            );
        }
    }
}
