//! Checking settings as a whole, whoever made them.

use std::path::{Path, PathBuf};

use ecsdb_io::{Layout, Vfs};
use figment::value::Value;

use crate::check::wrong;
use crate::error::{Error, Origin, Problem, Result};
use crate::reference::settings;
use crate::settings::{PersistenceConfig, RetentionSettings};

/// Where a setting was written, and under which name; `None` where what it says is wrong already, so that no rule can go by it.
type Origins<'a> = &'a dyn Fn(&str) -> Option<(String, Origin)>;

/// Where directories were written that the settings name, and what they were then. It is no setting, and makes no settings others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(pub(crate) Vec<(&'static str, PathBuf, (String, Origin))>);

impl PartialEq for Written {
    fn eq(&self, _: &Written) -> bool {
        true
    }
}

impl PersistenceConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// [`Error::Invalid`], with every setting that is out of range.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let values = self.values();
        for setting in settings() {
            let value = values.find_ref(&setting.key);
            if let Some(value) = value.filter(|value| !setting.takes(value)) {
                let text = format!("{} {}", setting.key, wrong(setting, value));
                problems.push(Problem { key: setting.key.clone(), origin: Origin::Program, text });
            }
        }
        self.check_rules(&|key| Some(self.origin(key)), &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    /// All values, section by section, as they are written in a file.
    pub(crate) fn values(&self) -> Value {
        // Nothing in there fails to be serialized: paths are shown as far as they can be.
        Value::serialize(self).unwrap_or_else(|_| Value::from(figment::value::Dict::new()))
    }

    /// The rules that bind several settings together.
    pub(crate) fn check_rules(&self, origins: Origins<'_>, problems: &mut Vec<Problem>) {
        let mut refuse = |key: &str, beside: &[&str], what: String| {
            if beside.iter().any(|other| origins(other).is_none()) {
                return;
            }
            if let Some(written) = origins(key) {
                problems.push(Problem::of(written, &what));
            }
        };
        let is_to_blame = |key: &str, other: &str| self.is_to_blame(key, other, origins);
        let (first, max) = (self.wal.segment_bytes_first, self.wal.segment_bytes_max);
        if max < first {
            let (first, max) = (crate::text::show_size(first.0), crate::text::show_size(max.0));
            let [first_key, max_key] = ["wal.segment_bytes_first", "wal.segment_bytes_max"];
            let (key, other, what) = match is_to_blame(max_key, first_key) {
                true => (
                    max_key,
                    first_key,
                    format!("is {max}, but must be at least {first_key}, which is {first}"),
                ),
                false => {
                    (first_key, max_key, format!("is {first}, but must be at most {max_key}, which is {max}"))
                }
            };
            refuse(key, &[other], what);
        }
        let limits = RetentionSettings { unlimited: false, ..self.retention.clone() };
        if self.retention.unlimited && limits.is_said() {
            let what =
                "is true, but there is a limit beside it: set either `unlimited` or limits in `retention`";
            refuse("retention.unlimited", &[], what.into());
        }
        self.check_directories(origins, refuse);
    }

    /// Each directory has a name, and one of its own.
    fn check_directories(&self, origins: Origins<'_>, mut refuse: impl FnMut(&str, &[&str], String)) {
        let dirs = self.directories();
        for (key, _) in dirs.iter().filter(|(_, dir)| dir.as_os_str().is_empty()) {
            let what = "is empty, but has to name a directory: `.` is the working directory";
            refuse(key, &[], what.into());
        }
        let is_same = |one: &Path, other: &Path| !one.as_os_str().is_empty() && is_same_dir(one, other);
        self.refuse_shared(dirs.each_ref().map(|(key, dir)| (*key, &**dir)), is_same, origins, refuse);
    }

    /// Refuses directories that are the `same`.
    fn refuse_shared(
        &self,
        dirs: [(&'static str, &Path); 4],
        same: impl Fn(&Path, &Path) -> bool,
        origins: Origins<'_>,
        mut refuse: impl FnMut(&str, &[&str], String),
    ) {
        for (i, (key, dir)) in dirs.into_iter().enumerate() {
            if let Some((other, _)) = dirs[..i].iter().copied().find(|(_, other)| same(other, dir)) {
                let is_to_blame = self.is_to_blame(key, other, origins);
                let (key, other) = if is_to_blame { (key, other) } else { (other, key) };
                let what =
                    format!("is {}, which is {other}, too: each needs a directory of its own", dir.display());
                refuse(key, &[other], what);
            }
        }
    }

    /// Of two settings that do not go together, the one that was given is at fault, or else the one that somebody wrote.
    fn is_to_blame(&self, key: &str, other: &str, origins: Origins<'_>) -> bool {
        let weight = |key: &str| {
            let is_set = match key {
                "wal.dir" => self.wal.dir.is_some(),
                "snapshot.dir" => self.snapshot.dir.is_some(),
                "archive.dir" => self.archive.dir.is_some(),
                _ => false,
            };
            match origins(key) {
                Some((_, Origin::Given)) => 2,
                None | Some((_, Origin::Program)) => u8::from(is_set),
                Some(_) => 1,
            }
        };
        weight(key) >= weight(other)
    }

    /// Where a directory was written, under which name; what a program has changed since is its own.
    pub(crate) fn origin(&self, key: &str) -> (String, Origin) {
        let dirs = self.directories();
        let is_so = |key: &str, was: &PathBuf| dirs.iter().any(|(of, dir)| *of == key && dir == was);
        let written = self.written.0.iter().find(|(of, was, _)| *of == key && is_so(key, was));
        written.map_or_else(|| (key.into(), Origin::Program), |(_, _, origin)| origin.clone())
    }

    /// Notes where its directories were written.
    pub(crate) fn note(&mut self, origins: Origins<'_>) {
        let written = self.directories().into_iter().filter_map(|(key, dir)| Some((key, dir, origins(key)?)));
        self.written = Written(written.collect());
    }

    /// The directories, as they are named.
    pub(crate) fn directories(&self) -> [(&'static str, PathBuf); 4] {
        let or = |dir: &Option<PathBuf>, default: &Path| dir.clone().unwrap_or_else(|| default.into());
        let layout = Layout::new(&self.dir);
        [
            ("dir", self.dir.clone()),
            ("wal.dir", or(&self.wal.dir, layout.log_dir())),
            ("snapshot.dir", or(&self.snapshot.dir, layout.snapshot_dir())),
            ("archive.dir", or(&self.archive.dir, layout.archive_dir())),
        ]
    }

    /// Where the files lie, by names that hold wherever the program goes afterwards.
    ///
    /// # Errors
    /// When a directory has no name, or two of them are the same.
    pub fn layout(&self) -> Result<Layout> {
        let [(_, dir), (_, log), (_, snapshots), (_, archive)] = self.directories();
        let mut problems = Vec::new();
        let refuse = |key: &str, _: &[&str], what: String| {
            problems.push(Problem::of(self.origin(key), &what));
        };
        self.check_directories(&|key| Some(self.origin(key)), refuse);
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let layout = Layout::new(&dir);
        Ok(layout.with_log_dir(&log).with_snapshot_dir(&snapshots).with_archive_dir(&archive).absolute()?)
    }

    /// Where the files lie in `vfs`, whatever links lead there.
    ///
    /// # Errors
    /// As [`PersistenceConfig::layout`], or when the system refuses.
    pub fn layout_in(&self, vfs: &dyn Vfs) -> Result<Layout> {
        let layout = self.layout()?.real(vfs)?;
        let dirs = [
            ("dir", layout.root()),
            ("wal.dir", layout.log_dir()),
            ("snapshot.dir", layout.snapshot_dir()),
            ("archive.dir", layout.archive_dir()),
        ];
        let mut problems = Vec::new();
        let origins = |key: &str| Some(self.origin(key));
        self.refuse_shared(
            dirs,
            |one, other| one == other,
            &origins,
            |key, _, what| {
                problems.push(Problem::of(self.origin(key), &what));
            },
        );
        if problems.is_empty() { Ok(layout) } else { Err(Error::Invalid(problems)) }
    }
}

/// Whether two names are those of one directory, as far as names tell.
pub(crate) fn is_same_dir(one: &Path, other: &Path) -> bool {
    absolute(one) == absolute(other)
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.into())
}
