//! Sets of rows of one chunk.

/// Words of a chunk's largest number of rows, 4,096.
const WORDS: usize = 64;

/// Rows of one chunk, as bits. Going through it and clearing it costs as much as it has rows.
#[derive(Clone)]
pub(crate) struct RowSet {
    /// Bit `w`: `words[w]` is not zero.
    summary: u64,
    words: [u64; WORDS],
}

impl Default for RowSet {
    fn default() -> Self {
        RowSet { summary: 0, words: [0; WORDS] }
    }
}

impl RowSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.summary == 0
    }

    #[inline]
    pub(crate) fn contains(&self, row: usize) -> bool {
        self.words[row / 64] & (1 << (row % 64)) != 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, row: usize) {
        self.words[row / 64] |= 1 << (row % 64);
        self.summary |= 1 << (row / 64);
    }

    #[inline]
    pub(crate) fn remove(&mut self, row: usize) {
        let word = &mut self.words[row / 64];
        *word &= !(1 << (row % 64));
        if *word == 0 {
            self.summary &= !(1 << (row / 64));
        }
    }

    /// What [`crate::raw::Block::take_row`] does to the rows: `row` goes, and `last` takes its place.
    #[inline]
    pub(crate) fn swap_remove(&mut self, row: usize, last: usize) {
        let moves = row != last && self.contains(last);
        self.remove(last);
        if moves {
            self.insert(row);
        } else {
            self.remove(row);
        }
    }

    pub(crate) fn clear(&mut self) {
        let mut summary = std::mem::take(&mut self.summary);
        while summary != 0 {
            self.words[summary.trailing_zeros() as usize] = 0;
            summary &= summary - 1;
        }
    }

    /// The rows, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (mut summary, mut word, mut base) = (self.summary, 0u64, 0);
        std::iter::from_fn(move || {
            while word == 0 {
                if summary == 0 {
                    return None;
                }
                let index = summary.trailing_zeros() as usize;
                summary &= summary - 1;
                (word, base) = (self.words[index], index * 64);
            }
            let row = base + word.trailing_zeros() as usize;
            word &= word - 1;
            Some(row)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_of_rows(steps in proptest::collection::vec((0u8..4, 0usize..200), 0..200)) {
            let (mut set, mut model) = (RowSet::default(), BTreeSet::new());
            for (step, row) in steps {
                match step {
                    0 => {
                        set.insert(row);
                        model.insert(row);
                    }
                    1 => {
                        set.remove(row);
                        model.remove(&row);
                    }
                    2 => {
                        let last = row.max(199);
                        set.swap_remove(row, last);
                        let moved = model.remove(&last);
                        model.remove(&row);
                        if moved && row != last {
                            model.insert(row);
                        }
                    }
                    _ => prop_assert_eq!(set.contains(row), model.contains(&row)),
                }
                prop_assert!(set.iter().eq(model.iter().copied()));
                prop_assert_eq!(set.is_empty(), model.is_empty());
            }
            set.clear();
            prop_assert!(set.is_empty() && set.iter().next().is_none() && !set.contains(3));
        }
    }
}
