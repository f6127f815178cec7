//! Which images there are: every one of the exhaustive part by its number, and any number of random ones by the seed and theirs.

use std::fmt;
use std::str::FromStr;

use super::damage::{Damage, Fill, whole};
use super::subject::Subject;

const SECTOR: usize = 512;

/// One image, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Exhaustive(u64),
    Random(u64),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Exhaustive(number) => write!(f, "e{number}"),
            Case::Random(number) => write!(f, "r{number}"),
        }
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no image: e or r, and a number");
        let number = text.get(1..).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        match &text[..1] {
            "e" => Ok(Case::Exhaustive(number)),
            "r" => Ok(Case::Random(number)),
            _ => Err(wrong()),
        }
    }
}

/// The images of all subjects.
pub(super) struct Cases {
    pub(super) subjects: Vec<Subject>,
    seed: u64,
    /// For each file of each subject: the number of its first image, and the damages that take it whole.
    parts: Vec<Part>,
    pub(super) exhaustive: u64,
}

struct Part {
    first: u64,
    subject: usize,
    file: usize,
    whole: Vec<Damage>,
}

impl Cases {
    pub(super) fn new(subjects: Vec<Subject>, seed: u64) -> Self {
        let (mut parts, mut first) = (Vec::new(), 0);
        for (at, subject) in subjects.iter().enumerate() {
            for (file, one) in subject.files.iter().enumerate() {
                let part = Part { first, subject: at, file, whole: whole(subject, file) };
                let len = one.bytes.len();
                first += (9 * len + 2 * len.div_ceil(SECTOR) + part.whole.len()) as u64;
                parts.push(part);
            }
        }
        Cases { subjects, seed, parts, exhaustive: first }
    }

    /// The exhaustive part in an order that is spread over all of it, so that a part of the time is a part of everything.
    pub(super) fn spread(&self, at: u64) -> Case {
        // It has no factor in common with the number of images, unless that is a multiple of it.
        const PRIME: u64 = 2_654_435_761;
        debug_assert!(!self.exhaustive.is_multiple_of(PRIME), "each image comes once");
        Case::Exhaustive((u128::from(at) * u128::from(PRIME) % u128::from(self.exhaustive)) as u64)
    }

    pub(super) fn make(&self, case: Case) -> (&Subject, Vec<Damage>) {
        match case {
            Case::Exhaustive(number) => self.exhaustive(number % self.exhaustive),
            Case::Random(number) => self.random(number),
        }
    }

    fn exhaustive(&self, number: u64) -> (&Subject, Vec<Damage>) {
        let part = &self.parts[self.parts.partition_point(|part| part.first <= number) - 1];
        let (subject, file) = (&self.subjects[part.subject], part.file);
        let len = subject.files[file].bytes.len();
        let mut at = (number - part.first) as usize;
        let sector = |at: usize| at * SECTOR..((at + 1) * SECTOR).min(len);
        let sectors = len.div_ceil(SECTOR);
        let mut within = |count: usize| {
            let inside = at < count;
            let here = at;
            at = at.saturating_sub(count);
            inside.then_some(here)
        };
        let damage = if let Some(bit) = within(8 * len) {
            Damage::Flip { file, bit: bit as u64 }
        } else if let Some(len) = within(len) {
            Damage::Truncate { file, len: len as u64 }
        } else if let Some(at) = within(sectors) {
            Damage::Fill { file, bytes: sector(at), with: Fill::Zeros }
        } else if let Some(at) = within(sectors) {
            Damage::Fill { file, bytes: sector(at), with: Fill::Noise(at as u64) }
        } else {
            part.whole[at].clone()
        };
        (subject, vec![damage])
    }

    fn random(&self, number: u64) -> (&Subject, Vec<Damage>) {
        let mut random = fastrand::Rng::with_seed(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let at = random.usize(..self.subjects.len());
        let subject = &self.subjects[at];
        let parts: Vec<&Part> = self.parts.iter().filter(|part| part.subject == at).collect();
        let count = [1, 1, 1, 1, 2, 2, 2, 3][random.usize(..8)];
        let mut damages: Vec<Damage> = Vec::new();
        while damages.len() < count {
            let part = parts[random.usize(..parts.len())];
            let damage = random_damage(&mut random, subject, part);
            // Each to files of its own: a directory has no bits to flip.
            let taken: Vec<usize> = damages.iter().flat_map(Damage::targets).collect();
            if damage.targets().iter().all(|target| !taken.contains(target)) {
                damages.push(damage);
            }
        }
        (subject, damages)
    }
}

fn random_damage(random: &mut fastrand::Rng, subject: &Subject, part: &Part) -> Damage {
    let (file, bytes) = (part.file, &subject.files[part.file].bytes);
    let len = bytes.len();
    if len == 0 || random.u8(..6) == 0 {
        return part.whole[random.usize(..part.whole.len())].clone();
    }
    // The part that is not zero gets most of it: the rest of a segment is prepared, and all alike.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(len, |at| at + 1);
    let place = |random: &mut fastrand::Rng| {
        let anywhere = random.u8(..4) == 0;
        random.usize(..if anywhere { len } else { used.max(1) })
    };
    let size = |random: &mut fastrand::Rng| {
        let most = [8, 64, 512, 4096, len][random.usize(..5)];
        random.usize(1..=most.max(1))
    };
    let start = place(random);
    match random.u8(..8) {
        0 => Damage::Flip { file, bit: (start * 8 + random.usize(..8)) as u64 },
        1 => Damage::Truncate { file, len: start as u64 },
        2 => Damage::Longer { file, by: size(random), with: fill(random) },
        3 => {
            let (from, len) = (place(random), size(random));
            let to = if random.bool() { start } else { start / SECTOR * SECTOR };
            let fits = len.min(bytes.len() - from).min(bytes.len() - to);
            Damage::Astray { file, from, to, len: fits }
        }
        _ => Damage::Fill { file, bytes: start..(start + size(random)).min(len), with: fill(random) },
    }
}

fn fill(random: &mut fastrand::Rng) -> Fill {
    match random.u8(..3) {
        0 => Fill::Zeros,
        1 => Fill::Ones,
        _ => Fill::Noise(random.u64(..)),
    }
}
