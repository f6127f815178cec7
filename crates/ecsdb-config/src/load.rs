//! Where settings come from: the defaults, a file over them, and the environment over both.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ecsdb_io::{FileOp, IoError};
use figment::providers::{Format, Serialized, Toml};
use figment::value::Dict;
use figment::{Figment, Profile, Provider};

use crate::check::{Said, check_layer};
use crate::environment::{Environment, Variable};
use crate::error::{Error, Origin, Problem, Result};
use crate::position::Text;
use crate::settings::PersistenceConfig;

impl PersistenceConfig {
    /// The settings of a TOML file, and over them those of the environment. `dir` is the file's own directory unless set; relative
    /// directories in the file are within that of the file. A variable that begins as ours do and names no setting is a warning in the
    /// `tracing` log.
    ///
    /// # Errors
    /// When the file cannot be read, or with everything that is wrong in it and in the environment.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        load(Some(path.as_ref()), None, Environment::read())?.warned()
    }

    /// As [`PersistenceConfig::from_file`], for the database in `dir`: that is where it is unless file or environment say otherwise, wherever the file
    /// lies.
    ///
    /// # Errors
    /// As [`PersistenceConfig::from_file`].
    pub fn from_file_for(path: impl AsRef<Path>, dir: impl AsRef<Path>) -> Result<Self> {
        load(Some(path.as_ref()), Some(dir.as_ref()), Environment::read())?.warned()
    }

    /// The defaults for a database in `dir`, and over them the environment's settings. A variable that begins as ours do and names no
    /// setting is a warning in the `tracing` log.
    ///
    /// # Errors
    /// With everything that is wrong in the environment.
    pub fn from_env(dir: impl AsRef<Path>) -> Result<Self> {
        load(None, Some(dir.as_ref()), Environment::read())?.warned()
    }

    /// As [`PersistenceConfig::from_file`], where what is only a warning there is an error: for checking a configuration.
    ///
    /// # Errors
    /// As [`PersistenceConfig::from_file`], and for a variable that names no setting.
    pub fn check_file(path: impl AsRef<Path>) -> Result<Self> {
        load(Some(path.as_ref()), None, Environment::read())?.strict()
    }

    /// As [`PersistenceConfig::from_file_for`], where what is only a warning there is an error: for checking a configuration.
    ///
    /// # Errors
    /// As [`PersistenceConfig::check_file`].
    pub fn check_file_for(path: impl AsRef<Path>, dir: impl AsRef<Path>) -> Result<Self> {
        load(Some(path.as_ref()), Some(dir.as_ref()), Environment::read())?.strict()
    }

    /// As [`PersistenceConfig::from_env`], where what is only a warning there is an error: for checking a configuration.
    ///
    /// # Errors
    /// As [`PersistenceConfig::from_env`], and for a variable that names no setting.
    pub fn check_env(dir: impl AsRef<Path>) -> Result<Self> {
        load(None, Some(dir.as_ref()), Environment::read())?.strict()
    }
}

/// What was found in all sources together.
struct Loaded {
    /// Valid, unless there are problems.
    config: Option<PersistenceConfig>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Loaded {
    fn warned(self) -> Result<PersistenceConfig> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        self.end()
    }

    fn strict(mut self) -> Result<PersistenceConfig> {
        self.problems.append(&mut self.warnings);
        self.end()
    }

    fn end(self) -> Result<PersistenceConfig> {
        match self.config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(Error::Invalid(self.problems)),
        }
    }
}

/// `dir` is where the database lies if neither says so; without it, that is where the file lies.
fn load(file: Option<&Path>, dir: Option<&Path>, environment: Environment) -> Result<Loaded> {
    let mut problems = Vec::new();
    let text = match file.map(|path| read(path).map(|bytes| Text::parse(path, bytes))).transpose()? {
        Some(Err(problem)) => {
            problems.push(problem);
            None
        }
        Some(Ok(text)) => Some(text),
        None => None,
    };
    let mut said = Said::default();
    if let Some(text) = &text {
        said = check_layer(&values(&Toml::string(text.as_str())), Some(text), &mut problems);
        problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, column, .. } => (line, column),
            _ => (0, 0),
        });
    }
    let Environment { variables, mut refused, mut wrong, warnings } = environment;
    problems.append(&mut refused);
    said.wrong.append(&mut wrong);
    if file.is_some() && text.is_none() {
        return Ok(Loaded { config: None, problems, warnings });
    }
    let mut figment = Figment::from(Serialized::default("dir", "."));
    for (key, value) in said.right {
        figment = figment.merge(Serialized::default(key, value));
    }
    for variable in &variables {
        if let Some(value) = variable.value() {
            figment = figment.merge(Serialized::default(&variable.setting.key, value));
        }
    }
    // Every value has been looked at: this is for what is missed there.
    let mut config: PersistenceConfig = match figment.extract() {
        Ok(config) => config,
        Err(e) => {
            let found = e.into_iter().map(|e| Problem {
                key: e.path.join("."),
                origin: text.as_ref().map_or(Origin::Program, |text| text.of_value(&e.path.join("."))),
                text: format!("{}: {}", e.path.join("."), e.kind),
            });
            problems.extend(found);
            return Ok(Loaded { config: None, problems, warnings });
        }
    };
    place(&mut config, text.as_ref(), file, dir, &variables);
    // Where a setting was written last: that is the one that holds.
    let origin = |key: &str| match variables.iter().find(|variable| variable.setting.key == key) {
        _ if said.wrong.iter().any(|wrong| wrong == key || key.split('.').next() == Some(&**wrong)) => None,
        Some(variable) => Some((variable.name.clone(), Origin::Environment)),
        None => match text.as_ref().filter(|text| text.has(key)) {
            Some(text) => Some((key.into(), text.of_value(key))),
            None => Some((key.into(), Origin::Program)),
        },
    };
    config.check_rules(&origin, &mut problems);
    config.note(&origin);
    Ok(Loaded { config: Some(config), problems, warnings })
}

/// More than any file of settings has.
const BYTES_MAX: u64 = 1 << 20;

/// A pipe or a device is not waited for, and no file is read without end.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Error::NoFile(path.into()),
        _ => Error::Io(IoError::new(FileOp::Read, path, e)),
    };
    #[expect(clippy::disallowed_methods, reason = "a configuration is read before there is a database")]
    let (there, open) = (std::fs::metadata(path).map_err(failed)?, || std::fs::File::open(path));
    if !there.is_file() {
        return Err(Error::NoSettings { path: path.into(), what: "is no file" });
    }
    let mut bytes = Vec::new();
    open().and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Error::NoSettings { path: path.into(), what: "has more than 1 MiB" });
    }
    Ok(bytes)
}

fn values(toml: &impl Provider) -> Dict {
    toml.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default()
}

/// Directories: those of the file are within its own, and those of the environment are paths, whatever they look like.
fn place(
    config: &mut PersistenceConfig,
    text: Option<&Text>,
    file: Option<&Path>,
    dir: Option<&Path>,
    variables: &[Variable],
) {
    let beside = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let of_file = |key: &str| text.is_some_and(|text| text.has(key));
    if !of_file("dir") {
        // A file in the database's own directory need not name it.
        let beside = Some(beside).filter(|dir| !dir.as_os_str().is_empty());
        config.dir = dir.or(beside).unwrap_or(Path::new(".")).into();
    }
    let set = |key: &str, dir: &mut PathBuf| {
        let variable = variables.iter().find(|variable| variable.setting.key == key);
        match variable {
            Some(variable) => *dir = variable.text.clone().into(),
            // An empty one stays what it is, and is refused.
            None if of_file(key) && !dir.as_os_str().is_empty() => *dir = beside.join(&*dir),
            None => {}
        }
    };
    set("dir", &mut config.dir);
    let sections = [
        ("wal.dir", &mut config.wal.dir),
        ("snapshot.dir", &mut config.snapshot.dir),
        ("archive.dir", &mut config.archive.dir),
    ];
    for (key, dir) in sections {
        if variables.iter().any(|variable| variable.setting.key == key) {
            dir.get_or_insert_default();
        }
        if let Some(dir) = dir {
            set(key, dir);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn a_path_of_the_environment_need_not_be_utf_8() {
        let odd = OsString::from_vec(b"/data/w\xffrld".to_vec());
        let environment = Environment::of([
            ("ECDB_DIR".into(), odd.clone()),
            ("ECDB_WAL_FLUSH_INTERVAL".into(), OsString::from_vec(b"10\xffms".to_vec())),
        ]);
        let config = load(None, Some(Path::new("w")), environment).unwrap();
        let told = config.problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        let told = told.join("\n");
        assert!(
            told.starts_with("environment variable ECDB_WAL_FLUSH_INTERVAL is \"10\u{fffd}ms\", but"),
            "{told}"
        );
        let environment = Environment::of([("ECDB_DIR".into(), odd.clone())]);
        let config = load(None, Some(Path::new("w")), environment).unwrap().warned().unwrap();
        assert_eq!(config.dir, Path::new(&odd));
        assert_eq!(config.layout().unwrap().root(), Path::new(&odd));
        config.validate().unwrap();
    }
}
