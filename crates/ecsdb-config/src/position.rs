//! Where in a file a setting stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml_edit::{ImDocument, TableLike};

use crate::error::{Origin, Problem};

/// Bytes of the text; `None` for what stands nowhere, such as a table that is only implied.
type Span = Option<Range<usize>>;

/// The text of a configuration file, and where in it what is.
pub(crate) struct Text {
    path: PathBuf,
    document: ImDocument<String>,
}

impl Text {
    /// Reads the text as TOML.
    pub(crate) fn parse(path: &Path, bytes: Vec<u8>) -> Result<Text, Problem> {
        let problem = |text: &str, at: usize, what: String| Problem {
            key: String::new(),
            origin: position(path, text, at),
            text: what,
        };
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&e.as_bytes()[..at]).into_owned();
            problem(&before, at, "a byte that is no UTF-8: save the file as UTF-8".into())
        })?;
        let document = ImDocument::parse(text.clone()).map_err(|e| {
            let at = e.span().map_or(0, |span| span.start);
            problem(&text, at, format!("this is no TOML: {}", e.message().replace('\n', ", ")))
        })?;
        Ok(Text { path: path.into(), document })
    }

    /// The text itself.
    pub(crate) fn as_str(&self) -> &str {
        self.document.raw()
    }

    /// Whether it says anything of a setting or a section.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key.split('.')).is_some()
    }

    /// Where the name of a setting or of a section stands.
    pub(crate) fn of_name(&self, key: &str) -> Origin {
        self.of_names(key.split('.'))
    }

    /// The same by the names of the tables that it is in, and its own.
    pub(crate) fn of_names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Origin {
        self.at(self.find(names).and_then(|(name, _)| name))
    }

    /// Where its value stands.
    pub(crate) fn of_value(&self, key: &str) -> Origin {
        self.at(self.find(key.split('.')).and_then(|(name, value)| value.or(name)))
    }

    fn at(&self, span: Span) -> Origin {
        position(&self.path, self.as_str(), span.map_or(0, |span| span.start))
    }

    /// The spans of its name and of its value.
    fn find<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<(Span, Span)> {
        let mut table: &dyn TableLike = self.document.as_table();
        let mut names = names.peekable();
        while let Some(name) = names.next() {
            let (key, item) = table.get_key_value(name)?;
            if names.peek().is_none() {
                return Some((key.span(), item.span()));
            }
            table = item.as_table_like()?;
        }
        None
    }
}

/// The line and the character in it at a byte of a text.
fn position(path: &Path, text: &str, at: usize) -> Origin {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Origin::File { path: path.into(), line, column }
}
