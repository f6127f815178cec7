//! Kinds of damage, and how each is done to an image.

use std::ops::Range;
use std::path::PathBuf;

use ecsdb_io::FileOp;
use ecsdb_sim::{Failure, Fault, SimDisk};

use super::subject::{Class, File, Subject};

/// Damage to one file, named by its place in the subject's list.
#[derive(Clone, PartialEq)]
pub(super) enum Damage {
    Flip {
        file: usize,
        bit: u64,
    },
    Truncate {
        file: usize,
        len: u64,
    },
    /// Bytes that are something else.
    Fill {
        file: usize,
        bytes: Range<usize>,
        with: Fill,
    },
    /// A write that went astray: bytes of the same file over others of it.
    Astray {
        file: usize,
        from: usize,
        to: usize,
        len: usize,
    },
    /// Something behind its end.
    Longer {
        file: usize,
        by: usize,
        with: Fill,
    },
    Missing {
        file: usize,
    },
    /// A directory in its place.
    Directory {
        file: usize,
    },
    /// The disk gives an error for each of its bytes.
    Unreadable {
        file: usize,
    },
    Stale {
        file: usize,
        generation: usize,
    },
    Foreign {
        file: usize,
    },
    Swapped {
        file: usize,
        other: usize,
    },
    /// A second copy under another name, which may be that of another file.
    Copied {
        file: usize,
        to: PathBuf,
        onto: Option<usize>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fill {
    Zeros,
    Ones,
    Noise(u64),
}

impl Fill {
    fn bytes(self, len: usize) -> Vec<u8> {
        let mut bytes = vec![if self == Fill::Ones { 0xff } else { 0 }; len];
        if let Fill::Noise(seed) = self {
            fastrand::Rng::with_seed(seed).fill(&mut bytes);
        }
        bytes
    }
}

impl Damage {
    pub(super) fn apply(&self, disk: &SimDisk, subject: &Subject) -> Result<(), ecsdb_io::IoError> {
        let path = |file: usize| &subject.files[file].path;
        match self {
            Damage::Flip { file, bit } => disk.flip_bit(path(*file), bit / 8, (bit % 8) as u32),
            Damage::Truncate { file, len } => disk.truncate(path(*file), *len),
            Damage::Fill { file, bytes, with } => {
                disk.corrupt(path(*file), bytes.start as u64, &with.bytes(bytes.len()))
            }
            Damage::Astray { file, from, to, len } => {
                disk.corrupt(path(*file), *to as u64, &subject.files[*file].bytes[*from..*from + *len])
            }
            Damage::Longer { file, by, with } => {
                let end = subject.files[*file].bytes.len() as u64;
                disk.corrupt(path(*file), end, &with.bytes(*by))
            }
            Damage::Missing { file } => disk.erase(path(*file)),
            Damage::Directory { file } => {
                disk.erase(path(*file))?;
                disk.put_dir(path(*file))
            }
            Damage::Unreadable { file } => {
                let name = path(*file).to_string_lossy();
                disk.inject(
                    Fault::on(FileOp::Read).of_names_ending(&name).times(u64::MAX).failing(Failure::Io),
                );
                Ok(())
            }
            Damage::Stale { file, generation } => {
                disk.put(path(*file), &subject.files[*file].older[*generation])
            }
            Damage::Foreign { file } => {
                disk.put(path(*file), subject.files[*file].foreign.as_deref().unwrap_or_default())
            }
            Damage::Swapped { file, other } => {
                disk.put(path(*file), &subject.files[*other].bytes)?;
                disk.put(path(*other), &subject.files[*file].bytes)
            }
            Damage::Copied { file, to, .. } => disk.put(to, &subject.files[*file].bytes),
        }
    }

    pub(super) fn file(&self) -> usize {
        match self {
            Damage::Flip { file, .. }
            | Damage::Truncate { file, .. }
            | Damage::Fill { file, .. }
            | Damage::Astray { file, .. }
            | Damage::Longer { file, .. }
            | Damage::Missing { file }
            | Damage::Directory { file }
            | Damage::Unreadable { file }
            | Damage::Stale { file, .. }
            | Damage::Foreign { file }
            | Damage::Swapped { file, .. }
            | Damage::Copied { file, .. } => *file,
        }
    }

    /// The files that it changes.
    pub(super) fn targets(&self) -> Vec<usize> {
        match self {
            Damage::Swapped { file, other } => vec![*file, *other],
            Damage::Copied { onto, .. } => onto.iter().copied().collect(),
            _ => vec![self.file()],
        }
    }

    /// Whether any of these bytes of a file may be others now.
    pub(super) fn touches(&self, file: usize, bytes: &Range<usize>) -> bool {
        let overlaps = |other: Range<usize>| other.start < bytes.end && bytes.start < other.end;
        if !self.targets().contains(&file) {
            return false;
        }
        match self {
            Damage::Flip { bit, .. } => bytes.contains(&(*bit as usize / 8)),
            Damage::Truncate { len, .. } => (*len as usize) < bytes.end,
            Damage::Fill { bytes: filled, .. } => overlaps(filled.clone()),
            Damage::Astray { to, len, .. } => overlaps(*to..*to + *len),
            Damage::Longer { .. } => false,
            _ => true,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Damage::Flip { .. } => "a flipped bit",
            Damage::Truncate { .. } => "cut",
            Damage::Fill { with: Fill::Zeros, .. } => "zeroed",
            Damage::Fill { .. } => "overwritten",
            Damage::Astray { .. } => "a write gone astray",
            Damage::Longer { .. } => "longer",
            Damage::Missing { .. } => "missing",
            Damage::Directory { .. } => "a directory",
            Damage::Unreadable { .. } => "unreadable",
            Damage::Stale { .. } => "stale",
            Damage::Foreign { .. } => "foreign",
            Damage::Swapped { .. } => "swapped",
            Damage::Copied { .. } => "copied",
        }
    }

    /// Smaller damage of the same kind, to see whether that is enough.
    pub(super) fn smaller(&self) -> Vec<Damage> {
        match self {
            Damage::Fill { file, bytes, with } if bytes.len() > 1 => {
                let middle = bytes.start + bytes.len() / 2;
                let halves = [bytes.start..middle, middle..bytes.end];
                halves.map(|bytes| Damage::Fill { file: *file, bytes, with: *with }).to_vec()
            }
            Damage::Longer { file, by, with } if *by > 1 => {
                vec![Damage::Longer { file: *file, by: by / 2, with: *with }]
            }
            Damage::Astray { file, from, to, len } if *len > 1 => {
                let half = len / 2;
                [(*from, *to, half), (from + half, to + half, len - half)]
                    .map(|(from, to, len)| Damage::Astray { file: *file, from, to, len })
                    .to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// For people: the file, and what is done to it.
    pub(super) fn describe(&self, subject: &Subject) -> String {
        let file = &subject.files[self.file()];
        let more = match self {
            Damage::Flip { bit, .. } => format!(" (bit {} of byte {})", bit % 8, bit / 8),
            Damage::Truncate { len, .. } => format!(" to {len} bytes"),
            Damage::Fill { bytes, with, .. } => format!(" at {bytes:?} with {with:?}"),
            Damage::Astray { from, to, len, .. } => format!(": {len} bytes of {from} at {to}"),
            Damage::Longer { by, with, .. } => format!(" by {by} bytes of {with:?}"),
            Damage::Stale { generation, .. } => format!(" (generation {generation})"),
            Damage::Swapped { other, .. } => format!(" with {}", subject.files[*other].path.display()),
            Damage::Copied { to, .. } => format!(" to {}", to.display()),
            _ => String::new(),
        };
        format!("{} ({} bytes): {}{more}", file.path.display(), file.bytes.len(), self.kind())
    }
}

/// The damages that take a whole file.
pub(super) fn whole(subject: &Subject, at: usize) -> Vec<Damage> {
    let File { path, class, older, foreign, .. } = &subject.files[at];
    let mut all = vec![
        Damage::Missing { file: at },
        Damage::Directory { file: at },
        Damage::Unreadable { file: at },
        Damage::Longer { file: at, by: 1, with: Fill::Ones },
        Damage::Longer { file: at, by: 512, with: Fill::Zeros },
        Damage::Longer { file: at, by: 4096, with: Fill::Noise(1) },
    ];
    all.extend((0..older.len()).map(|generation| Damage::Stale { file: at, generation }));
    all.extend(foreign.as_ref().map(|_| Damage::Foreign { file: at }));
    let alike = |other: &usize| *other != at && subject.files[*other].class == *class;
    let others: Vec<usize> = (0..subject.files.len()).filter(alike).collect();
    all.extend(others.iter().filter(|other| **other > at).map(|&other| Damage::Swapped { file: at, other }));
    // Under the names of its like, under numbers that are still to come or long gone, and beside itself.
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut names: Vec<PathBuf> = others.iter().map(|other| subject.files[*other].path.clone()).collect();
    if *class != Class::Other {
        let digits = name.split('.').next().unwrap_or_default();
        let ending = &name[digits.len()..];
        let number: u64 = digits.parse().unwrap_or(0);
        for near in [number + 1, number + 2, number + 100, number.saturating_sub(1)] {
            names.push(path.with_file_name(format!("{near:016}{ending}")));
        }
    }
    names.push(path.with_file_name(format!("{name}.tmp")));
    names.push(path.with_file_name(format!("copy of {name}")));
    names.retain(|to| to != path);
    names.sort();
    names.dedup();
    all.extend(names.into_iter().map(|to| {
        let onto = subject.files.iter().position(|file| file.path == to);
        Damage::Copied { file: at, to, onto }
    }));
    all
}
