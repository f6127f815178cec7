//! The lines of a dump as `load` reads them: whatever the bytes are, each is bounded before it is kept, and each key is known.

use std::io::{self, BufRead};

use anyhow::Result;
use ecsdb_query::{JSON_DEPTH_MAX, brief, shortened, unknown};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::unique::Unique;
use crate::failure::Failure;

/// Bytes of a line: of one entity with all its values, of a resource, of the ids that are free. `docs/command-line.md` has it.
pub(crate) const LINE_BYTES_MAX: u64 = 4 << 30;
/// Levels of lists and objects of a line: those of a value, the entity's line and its components around it.
const DEPTH_MAX: usize = JSON_DEPTH_MAX + 2;
/// Bytes of the beginning and of the end of what is wrong with a line: whatever a dump has, an error of it is short.
const WRONG_BYTES: (usize, usize) = (600, 100);

pub(crate) fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(Failure::Usage(what.into()).into())
}

/// Reads a dump line by line.
pub(crate) struct Lines<'r> {
    from: &'r mut dyn BufRead,
    text: Vec<u8>,
    /// Of the line that was read last, from 1 on.
    number: u64,
    bytes_max: u64,
}

impl<'r> Lines<'r> {
    pub(crate) fn new(from: &'r mut dyn BufRead) -> Lines<'r> {
        Lines { from, text: Vec::new(), number: 0, bytes_max: LINE_BYTES_MAX }
    }

    /// What is wrong, with the line that was read last.
    pub(crate) fn at(&self, what: impl std::fmt::Display) -> Failure {
        let what = what.to_string();
        let (first, last) = WRONG_BYTES;
        let tail = what.char_indices().map(|(at, _)| at).find(|at| at + last >= what.len());
        match tail.filter(|tail| *tail > first) {
            Some(tail) => {
                let (head, tail) = (shortened(&what, first), &what[tail..]);
                Failure::Usage(format!("line {}: {head} {tail}", self.number))
            }
            None => Failure::Usage(format!("line {}: {what}", self.number)),
        }
    }

    /// The next line that has anything in it; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Json>> {
        loop {
            crate::interrupt::check()?;
            let ended = self.read()?;
            if self.text.is_empty() && !ended {
                return Ok(None);
            }
            if self.text.trim_ascii().is_empty() {
                continue;
            }
            let Ok(text) = std::str::from_utf8(self.text.trim_ascii_end()) else {
                return wrong(format!("line {} is no text: it is no dump of ecsdb", self.number));
            };
            let mut parser = serde_json::Deserializer::from_str(text);
            // The depth was looked at as the line was read.
            parser.disable_recursion_limit();
            let line = Unique::deserialize(&mut parser).and_then(|Unique(line)| parser.end().map(|()| line));
            return Ok(Some(line.map_err(|e| match (e.is_eof(), ended) {
                (true, false) => self.at("the dump ends too early, in the middle of this line"),
                (true, true) => self.at("the line ends in its middle: it was cut, or broken in two"),
                // It counts lines of its own.
                (false, _) => self.at(e.to_string().replace(" at line 1 column ", " at character ")),
            })?));
        }
    }

    /// Reads up to the end of a line, or to the first byte that no dump has there, and says whether it has an end.
    fn read(&mut self) -> Result<bool> {
        self.text.clear();
        self.number += 1;
        let mut check = Check::default();
        loop {
            let bytes = match self.from.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::IsADirectory => {
                    return wrong("it is a directory, and no dump of ecsdb");
                }
                bytes => bytes?,
            };
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let line = &bytes[..end.unwrap_or(bytes.len())];
            let checked = line.iter().try_for_each(|&byte| check.byte(byte));
            let (taken, is_last) = (end.map_or(bytes.len(), |end| end + 1), bytes.is_empty());
            if checked.is_ok() && self.text.len() as u64 + line.len() as u64 <= self.bytes_max {
                self.text.extend_from_slice(line);
                self.from.consume(taken);
            } else {
                let max = self.bytes_max;
                return Err(self
                    .at(checked.err().unwrap_or_else(|| format!("it is longer than {max} bytes")))
                    .into());
            }
            if end.is_some() || is_last {
                return Ok(end.is_some());
            }
            crate::interrupt::check()?;
        }
    }
}

/// What was seen of a line so far.
#[derive(Default)]
struct Check {
    bytes: u64,
    /// It has begun, with an object.
    begun: bool,
    /// There was a carriage return since.
    returned: bool,
    in_text: bool,
    escaped: bool,
    depth: usize,
}

impl Check {
    fn byte(&mut self, byte: u8) -> Result<(), String> {
        self.bytes += 1;
        let at = self.bytes;
        match byte {
            b'\t' => {}
            b'\r' => self.returned = self.begun,
            // JSON has none of these, in text neither.
            0..b' ' => {
                return Err(format!("byte {byte:#04x} at character {at} is no text: it is no dump of ecsdb"));
            }
            b' ' if !self.begun => {}
            _ if self.returned && byte != b' ' => {
                return Err(format!(
                    "there is more at character {at}, after a carriage return: lines of a dump end with a line feed"
                ));
            }
            _ if !self.begun && byte != b'{' => {
                return Err("it does not begin with {, as each line of a dump of ecsdb does".into());
            }
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.in_text,
            b'"' => self.in_text = !self.in_text,
            _ if self.in_text => {}
            b'{' | b'[' => {
                (self.begun, self.depth) = (true, self.depth + 1);
                if self.depth > DEPTH_MAX {
                    return Err(format!(
                        "at character {at} it is nested more than {DEPTH_MAX} levels deep, which no value is"
                    ));
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Ok(())
    }
}

/// An object of a dump, all of whose keys are known.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'j> {
    what: &'static str,
    object: &'j Map<String, Json>,
}

impl<'j> Keys<'j> {
    /// `what` it is, for people, and what it may have.
    pub(crate) fn of(what: &'static str, json: &'j Json, allowed: &[&str]) -> Result<Keys<'j>> {
        let Json::Object(object) = json else {
            return wrong(format!("{what} is {}, but has to be an object", brief(json)));
        };
        match object.keys().find(|key| !allowed.contains(&key.as_str())) {
            Some(other) => {
                let none = unknown("key", other, allowed.iter().copied());
                wrong(format!("{what}: {none} (it may have {})", allowed.join(", ")))
            }
            None => Ok(Keys { what, object }),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'j Json> {
        self.object.get(key)
    }

    fn misfit<T>(&self, key: &str, found: &Json, wanted: &str) -> Result<T> {
        wrong(format!("{}: {key} is {}, but has to be {wanted}", self.what, brief(found)))
    }

    /// What has to be there.
    pub(crate) fn needed(&self, key: &str) -> Result<&'j Json> {
        self.get(key).map_or_else(|| wrong(format!("{}: {key} is missing", self.what)), Ok)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&'j str> {
        match self.needed(key)? {
            Json::String(text) => Ok(text),
            other => self.misfit(key, other, "text"),
        }
    }

    /// A time; `null` where none is known.
    pub(crate) fn time(&self, key: &str) -> Result<()> {
        match self.needed(key)? {
            Json::Null => Ok(()),
            Json::String(text) if crate::times::parse(text).is_ok() => Ok(()),
            other => self.misfit(key, other, "a time in RFC 3339, or null"),
        }
    }

    /// 128 bits.
    pub(crate) fn hexadecimal(&self, key: &str) -> Result<&'j str> {
        let text = self.text(key)?;
        if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text);
        }
        self.misfit(key, self.needed(key)?, "32 hexadecimal digits")
    }

    pub(crate) fn number(&self, key: &str, most: u64) -> Result<u64> {
        let found = self.needed(key)?;
        match found.as_u64().filter(|n| *n <= most) {
            Some(n) => Ok(n),
            None => self.misfit(key, found, &format!("a whole number of at most {most}")),
        }
    }

    pub(crate) fn u32(&self, key: &str) -> Result<u32> {
        Ok(self.number(key, u32::MAX.into())? as u32)
    }

    pub(crate) fn list(&self, key: &str) -> Result<&'j [Json]> {
        match self.needed(key)? {
            Json::Array(list) => Ok(list),
            other => self.misfit(key, other, "a list"),
        }
    }

    /// Pieces by names that are not known here; `None` where the key is not there.
    pub(crate) fn object(&self, key: &str) -> Result<Option<&'j Map<String, Json>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(object)),
            Some(other) => self.misfit(key, other, "an object"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_a_line_is_kept_than_a_dump_has() {
        let read = |bytes: &[u8]| {
            let mut from = io::BufReader::with_capacity(3, bytes);
            let mut lines = Lines { bytes_max: 8, ..Lines::new(&mut from) };
            let mut all = Vec::new();
            loop {
                match lines.next() {
                    Ok(Some(line)) => all.push(line.to_string()),
                    Ok(None) => return all.join(" "),
                    Err(e) => return e.to_string(),
                }
            }
        };
        assert_eq!(read(b"{\"a\":12}\n\n \r\n {\"b\":1}"), "{\"a\":12} {\"b\":1}");
        assert_eq!(read(b"\n{\"a\":123}\n"), "line 2: it is longer than 8 bytes");
        assert!(read(&[0; 99]).starts_with("line 1: byte 0x00 at character 1 is no text"));
        assert!(read(b"{\"\x07\"}").starts_with("line 1: byte 0x07 at character 3"));
        assert!(read(b"[1]").starts_with("line 1: it does not begin with {"));
        assert!(read(b"{\"a").contains("line 1: the dump ends too early"));
        assert!(read(b"{\"\xff\"}\n").contains("line 1 is no text"));
        assert_eq!(read(b"{\"a\":1}\r\n\r\n"), "{\"a\":1}");
        assert!(read(b"{\"a\r\n").contains("line 1: the line ends in its middle"));
        assert!(read(b"{}\r{}\r").contains("after a carriage return"));
        assert!(read(b"{\"a\":\r1}").contains("after a carriage return"));
    }

    /// Brackets count outside of text alone, however that is escaped.
    #[test]
    fn depth_is_bounded_before_anything_is_parsed() {
        let reader = std::thread::Builder::new().stack_size(64 << 20);
        reader.spawn(lines_about_as_deep_as_they_may_be).unwrap().join().unwrap();
    }

    fn lines_about_as_deep_as_they_may_be() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let depth = random.usize(DEPTH_MAX - 3..DEPTH_MAX + 4);
            let mut text = String::new();
            for _ in 0..depth {
                text.push_str(["{\"[\\\"[\\\\\":", "{\"}\": ", "{\"a\":[]  ,\"\":"][random.usize(..3)]);
            }
            text.push('1');
            text.extend(std::iter::repeat_n('}', depth));
            // The empty list lies a level deeper.
            let mut bytes = text.as_bytes();
            let read = Lines::new(&mut bytes).next().map(|line| line.unwrap().to_string());
            let levels = text.match_indices("[]").map(|(at, _)| 1 + text[..at].matches("{\"").count()).max();
            let is_fine = depth.max(levels.unwrap_or(0)) <= DEPTH_MAX;
            assert_eq!(read.is_ok(), is_fine, "{depth} {levels:?} {:?}", read.err());
        }
    }
}
