//! How conditions are written: `PATH COMPARISON VALUE`, joined by `and`. A value is one word, or text in quotes, in which a quote of its kind is
//! written twice. Nothing is passed over: what else stands there is an error that says where.

use crate::error::{Error, Result, refuse_more};
use crate::search::PARTS_MAX;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    pub(crate) const WRITTEN: [(&'static str, Comparison); 7] = [
        ("=", Comparison::Equal),
        ("==", Comparison::Equal),
        ("!=", Comparison::Unequal),
        ("<", Comparison::Less),
        ("<=", Comparison::LessEqual),
        (">", Comparison::Greater),
        (">=", Comparison::GreaterEqual),
    ];

    pub(crate) fn is_of_order(self) -> bool {
        !matches!(self, Comparison::Equal | Comparison::Unequal)
    }
}

/// One condition, as it is written.
#[derive(Debug, PartialEq)]
pub(crate) struct Clause<'t> {
    pub(crate) path: &'t str,
    pub(crate) comparison: Comparison,
    pub(crate) value: Word,
}

/// What is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) quoted: bool,
}

impl Word {
    /// The word, or nothing where it is text in quotes.
    pub(crate) fn bare(&self) -> Option<&str> {
        (!self.quoted).then_some(&*self.text)
    }
}

/// The conditions of a text. Names of components may have what no word has, where such a component is known.
pub(crate) fn clauses<'t>(text: &'t str, names: &[&str]) -> Result<Vec<Clause<'t>>> {
    let mut rest = Rest { text, at: 0 };
    let mut clauses = Vec::new();
    loop {
        clauses.push(rest.clause(names)?);
        refuse_more("conditions", clauses.len(), PARTS_MAX)?;
        let ended = rest.at;
        rest.space();
        if rest.left().is_empty() {
            return Ok(clauses);
        }
        let (from, word) = (rest.at, rest.word());
        if from == ended || word.is_empty() {
            return Err(rest.wrong(
                ended,
                "the value ends, and more follows: write text that is no single word in quotes",
            ));
        }
        if word.eq_ignore_ascii_case("or") {
            return Err(
                rest.wrong(from, "there is `or`, and conditions are joined by `and` alone: ask twice")
            );
        }
        if !word.eq_ignore_ascii_case("and") {
            return Err(rest
                .wrong(from, "`and` was expected, or the end: write text that is no single word in quotes"));
        }
    }
}

fn is_of_a_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | ':')
}

/// A text, read up to somewhere.
struct Rest<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Rest<'t> {
    fn left(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn wrong(&self, at: usize, what: &str) -> Error {
        let character = self.text[..at].chars().count() + 1;
        Error::NoCondition { text: self.text.into(), character, what: what.into() }
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let taken = &self.left()[..bytes];
        self.at += bytes;
        taken
    }

    fn while_it_is(&mut self, is: impl Fn(char) -> bool) -> &'t str {
        let left = self.left();
        self.take(left.find(|c| !is(c)).unwrap_or(left.len()))
    }

    fn space(&mut self) {
        self.while_it_is(char::is_whitespace);
    }

    fn word(&mut self) -> &'t str {
        self.while_it_is(is_of_a_word)
    }

    fn clause(&mut self, names: &[&str]) -> Result<Clause<'t>> {
        self.space();
        let path = self.path(names)?;
        self.space();
        let comparison = self.comparison()?;
        self.space();
        Ok(Clause { path, comparison, value: self.value()? })
    }

    fn path(&mut self, names: &[&str]) -> Result<&'t str> {
        let (from, left) = (self.at, self.left());
        let whole = |name: &&&str| {
            left.strip_prefix(**name).is_some_and(|rest| !rest.starts_with(|c| is_of_a_word(c) && c != '.'))
        };
        let named = names.iter().filter(whole).map(|name| name.len()).max();
        self.take(named.unwrap_or(0));
        self.word();
        let path = &self.text[from..self.at];
        if path.is_empty() || is_joint(path) {
            return Err(self.wrong(from, "a component or one of its fields was expected"));
        }
        Ok(path)
    }

    fn comparison(&mut self) -> Result<Comparison> {
        let from = self.at;
        let sign = self.while_it_is(|c| matches!(c, '<' | '>' | '=' | '!'));
        let found = Comparison::WRITTEN.iter().find(|(written, _)| *written == sign);
        found.map(|(_, comparison)| *comparison).ok_or_else(|| {
            self.wrong(from, "a comparison was expected: =, !=, <, <=, > or >=, as in 'game.health.now < 10'")
        })
    }

    fn value(&mut self) -> Result<Word> {
        let from = self.at;
        if let Some(quote) = self.left().chars().next().filter(|c| matches!(c, '\'' | '"')) {
            self.take(1);
            return self.quoted(from, quote);
        }
        let word = self.word();
        if word.is_empty() || is_joint(word) {
            return Err(self.wrong(from, "a value was expected: a word, or text in quotes"));
        }
        Ok(Word { text: word.into(), quoted: false })
    }

    fn quoted(&mut self, from: usize, quote: char) -> Result<Word> {
        let mut text = String::new();
        loop {
            text += self.while_it_is(|c| c != quote);
            if self.left().is_empty() {
                return Err(self.wrong(from, &format!("a quote begins that has no closing {quote}")));
            }
            self.take(1);
            if !self.left().starts_with(quote) {
                return Ok(Word { text, quoted: true });
            }
            text += self.take(1);
        }
    }
}

fn is_joint(word: &str) -> bool {
    word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_all_that_is_written() {
        const PARTS: [&str; 22] = [
            "a", "b.c", "odd name", "and", "AND", "or", "=", "==", "!=", "<", "<=", ">", ">=", "<>", "!",
            "1", "-2.5e3", "1_000", "'x y'", "\"it's\"", "'", "(",
        ];
        let mut random = fastrand::Rng::with_seed(3);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let mut text = String::new();
            // In the right order, but for a slip now and then.
            const ORDER: [&[&str]; 4] = [
                &["a", "b.c", "odd name"],
                &["=", "<", ">="],
                &["1", "-2.5e3", "'x y'", "\"it's\""],
                &["and", "AND"],
            ];
            for place in 0..random.usize(1..12) {
                let slips = random.u8(..15) == 0;
                text += random.choice(if slips { &PARTS } else { ORDER[place % ORDER.len()] }).unwrap();
                text += random.choice(["", " ", " ", "  "]).unwrap();
            }
            // Two quotes in a row are one within a text.
            text = text.replace("\"\"", "\" \"").replace("''", "' '");
            let Ok(clauses) = clauses(&text, &["odd name"]) else {
                refused += 1;
                continue;
            };
            read += 1;
            let mut again: Vec<String> = Vec::new();
            for Clause { path, comparison, value } in clauses {
                let signs = Comparison::WRITTEN.iter().filter(|(_, of)| *of == comparison);
                let sign = signs.map(|(sign, _)| *sign).next().unwrap();
                let value = match value.quoted {
                    false => value.text,
                    true => format!("'{}'", value.text.replace('\'', "''")),
                };
                again.push(format!("{path}{sign}{value}"));
            }
            let plain = |text: &str| {
                let text = text.replace("==", "=").replace("\"it's\"", "'it''s'").replace("AND", "and");
                text.chars().filter(|c| !c.is_whitespace()).collect::<String>()
            };
            assert_eq!(plain(&again.join("and")), plain(&text), "{text}");
        }
        assert!(read > 1_000 && refused > 1_000, "{read} read, {refused} refused");
    }
}
