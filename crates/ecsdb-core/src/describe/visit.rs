//! Going through a value part by part: to bound its depth before anything recursive touches it, and to bring it into a form
//! that equal values share, whatever their containers' order.

use super::Describe;
use crate::limits;

/// The value is nested more deeply than is allowed.
#[derive(Debug)]
pub struct TooDeep;

/// What a value shows its parts to.
#[derive(Debug, Default)]
pub struct Visitor {
    /// The canonical form so far.
    out: Vec<u8>,
    /// False where only the depth counts.
    collect: bool,
    depth: usize,
}

impl Visitor {
    /// A part without parts.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.collect {
            self.out.extend_from_slice(bytes);
        }
    }

    /// A number of parts.
    #[inline]
    pub fn count(&mut self, n: usize) {
        self.bytes(&(n as u64).to_le_bytes());
    }

    /// Parts that lie one level deeper.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn nested(&mut self, visit: impl FnOnce(&mut Self) -> Result<(), TooDeep>) -> Result<(), TooDeep> {
        if self.depth >= limits::VALUE_DEPTH_MAX {
            return Err(TooDeep);
        }
        self.depth += 1;
        let visited = visit(self);
        self.depth -= 1;
        visited
    }

    /// Parts that have no order.
    ///
    /// # Errors
    /// [`TooDeep`].
    pub fn unordered<T>(
        &mut self,
        parts: impl ExactSizeIterator<Item = T>,
        visit: impl Fn(T, &mut Self) -> Result<(), TooDeep>,
    ) -> Result<(), TooDeep> {
        self.count(parts.len());
        let mut all = Vec::new();
        for part in parts {
            let mut one = Visitor { out: Vec::new(), collect: self.collect, depth: self.depth };
            one.nested(|one| visit(part, one))?;
            if self.collect {
                all.push(one.out);
            }
        }
        all.sort_unstable();
        for one in all {
            self.count(one.len());
            self.out.extend_from_slice(&one);
        }
        Ok(())
    }
}

/// Looks only how deep a value is. Its own depth is bounded, whatever the value's.
pub(crate) fn check_depth<T: Describe>(value: &T) -> Result<(), TooDeep> {
    value.visit(&mut Visitor::default())
}

/// Appends the form that equal values share.
pub(crate) fn canonical<T: Describe>(value: &T, out: &mut Vec<u8>) -> Result<(), TooDeep> {
    let mut visitor = Visitor { out: std::mem::take(out), collect: true, depth: 0 };
    let visited = value.visit(&mut visitor);
    *out = visitor.out;
    visited
}
