//! A persistent vector: the directory of chunks, copied on write along one path.
//!
//! A tree of nodes of 32, each behind an `Arc`. Cloning the vector is one reference count, whatever its length;
//! the first write after a clone copies one node per level (at most 32 reference counts each), and every later
//! write finds nodes that nobody shares. That is what makes the capture of a view O(1) and its aftermath O(log n),
//! in safe code.

use arrayvec::ArrayVec;
use triomphe::Arc;

const BITS: u32 = 5;
const WIDTH: usize = 1 << BITS;

#[derive(Debug)]
pub(crate) struct Spine<T> {
    root: Arc<Node<T>>,
    /// Levels of branches above the leaves' level.
    depth: u32,
    len: usize,
}

#[derive(Debug)]
enum Node<T> {
    Branch(ArrayVec<Arc<Node<T>>, WIDTH>),
    Leaves(ArrayVec<Arc<T>, WIDTH>),
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        match self {
            Node::Branch(nodes) => Node::Branch(nodes.clone()),
            Node::Leaves(leaves) => Node::Leaves(leaves.clone()),
        }
    }
}

impl<T> Clone for Spine<T> {
    fn clone(&self) -> Self {
        Spine { root: self.root.clone(), depth: self.depth, len: self.len }
    }
}

impl<T> Default for Spine<T> {
    fn default() -> Self {
        Spine { root: Arc::new(Node::Leaves(ArrayVec::new())), depth: 0, len: 0 }
    }
}

impl<T> Spine<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        if index >= self.len {
            return None;
        }
        let mut node = &*self.root;
        let mut shift = self.depth * BITS;
        loop {
            let slot = (index >> shift) & (WIDTH - 1);
            match node {
                Node::Branch(nodes) => node = nodes.get(slot)?,
                Node::Leaves(leaves) => return leaves.get(slot).map(|leaf| &**leaf),
            }
            shift = shift.saturating_sub(BITS);
        }
    }

    /// The leaf's handle, its path unshared. The leaf itself is unshared by `Arc::make_mut` if it is to change.
    #[inline]
    pub(crate) fn leaf_mut(&mut self, index: usize) -> Option<&mut Arc<T>> {
        if index >= self.len {
            return None;
        }
        let mut node = Arc::make_mut(&mut self.root);
        let mut shift = self.depth * BITS;
        loop {
            let slot = (index >> shift) & (WIDTH - 1);
            match node {
                Node::Branch(nodes) => node = Arc::make_mut(nodes.get_mut(slot)?),
                Node::Leaves(leaves) => return leaves.get_mut(slot),
            }
            shift = shift.saturating_sub(BITS);
        }
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len == WIDTH << (self.depth * BITS) {
            let old = std::mem::replace(&mut self.root, Arc::new(Node::Branch(ArrayVec::new())));
            if let Node::Branch(nodes) = Arc::make_mut(&mut self.root) {
                nodes.push(old);
            }
            self.depth += 1;
        }
        let index = self.len;
        let mut node = Arc::make_mut(&mut self.root);
        let mut level = self.depth;
        loop {
            match node {
                Node::Leaves(leaves) => {
                    leaves.push(Arc::new(value));
                    break;
                }
                Node::Branch(nodes) => {
                    let slot = (index >> (level * BITS)) & (WIDTH - 1);
                    level -= 1;
                    if slot == nodes.len() {
                        nodes.push(Arc::new(match level {
                            0 => Node::Leaves(ArrayVec::new()),
                            _ => Node::Branch(ArrayVec::new()),
                        }));
                    }
                    node = Arc::make_mut(&mut nodes[slot]);
                }
            }
        }
        self.len += 1;
    }

    /// Takes the last leaf off. The tree keeps its depth: what it grew to once it will grow to again.
    pub(crate) fn pop(&mut self) -> Option<Arc<T>> {
        fn pop<T>(node: &mut Arc<Node<T>>) -> Option<Arc<T>> {
            match Arc::make_mut(node) {
                Node::Leaves(leaves) => leaves.pop(),
                Node::Branch(nodes) => {
                    let leaf = pop(nodes.last_mut()?);
                    let empty = match nodes.last().map(|node| &**node) {
                        Some(Node::Leaves(leaves)) => leaves.is_empty(),
                        Some(Node::Branch(nodes)) => nodes.is_empty(),
                        None => false,
                    };
                    if empty {
                        nodes.pop();
                    }
                    leaf
                }
            }
        }
        let leaf = pop(&mut self.root)?;
        self.len -= 1;
        Some(leaf)
    }

    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter { stack: ArrayVec::from_iter([Level::of(&self.root)]) }
    }

    /// The leaves' handles, with the branches above them unshared.
    pub(crate) fn iter_mut(&mut self) -> IterMut<'_, T> {
        IterMut { stack: ArrayVec::from_iter([LevelMut::of(&mut self.root)]) }
    }
}

impl<T: Clone> Spine<T> {
    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.leaf_mut(index).map(Arc::make_mut)
    }
}

/// Levels of a tree at most, for 2^32 leaves.
const DEPTH_MAX: usize = 8;

pub(crate) struct Iter<'a, T> {
    stack: ArrayVec<Level<'a, T>, DEPTH_MAX>,
}

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Iter { stack: self.stack.clone() }
    }
}

impl<T> Clone for Level<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Level::Branch(nodes) => Level::Branch(nodes.clone()),
            Level::Leaves(leaves) => Level::Leaves(leaves.clone()),
        }
    }
}

enum Level<'a, T> {
    Branch(std::slice::Iter<'a, Arc<Node<T>>>),
    Leaves(std::slice::Iter<'a, Arc<T>>),
}

impl<'a, T> Level<'a, T> {
    fn of(node: &'a Node<T>) -> Self {
        match node {
            Node::Branch(nodes) => Level::Branch(nodes.iter()),
            Node::Leaves(leaves) => Level::Leaves(leaves.iter()),
        }
    }
}

impl<T> Iter<'_, T> {
    /// The leaf that comes `n` after the next, if it is of the same node.
    pub(crate) fn ahead(&self, n: usize) -> Option<&T> {
        match self.stack.last()? {
            Level::Leaves(leaves) => leaves.as_slice().get(n).map(|leaf| &**leaf),
            Level::Branch(_) => None,
        }
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            match self.stack.last_mut()? {
                Level::Leaves(leaves) => match leaves.next() {
                    Some(leaf) => return Some(leaf),
                    None => self.stack.pop(),
                },
                Level::Branch(nodes) => match nodes.next() {
                    Some(node) => {
                        self.stack.push(Level::of(node));
                        None
                    }
                    None => self.stack.pop(),
                },
            };
        }
    }
}

pub(crate) struct IterMut<'a, T> {
    stack: ArrayVec<LevelMut<'a, T>, DEPTH_MAX>,
}

enum LevelMut<'a, T> {
    Branch(std::slice::IterMut<'a, Arc<Node<T>>>),
    Leaves(std::slice::IterMut<'a, Arc<T>>),
}

impl<'a, T> LevelMut<'a, T> {
    fn of(node: &'a mut Arc<Node<T>>) -> Self {
        match Arc::make_mut(node) {
            Node::Branch(nodes) => LevelMut::Branch(nodes.iter_mut()),
            Node::Leaves(leaves) => LevelMut::Leaves(leaves.iter_mut()),
        }
    }
}

impl<T> IterMut<'_, T> {
    /// The leaves that are still to come.
    pub(crate) fn rest(&self) -> Iter<'_, T> {
        let levels = self.stack.iter().map(|level| match level {
            LevelMut::Branch(nodes) => Level::Branch(nodes.as_slice().iter()),
            LevelMut::Leaves(leaves) => Level::Leaves(leaves.as_slice().iter()),
        });
        Iter { stack: levels.collect() }
    }

    /// As [`Iter::ahead`].
    pub(crate) fn ahead(&self, n: usize) -> Option<&T> {
        match self.stack.last()? {
            LevelMut::Leaves(leaves) => leaves.as_slice().get(n).map(|leaf| &**leaf),
            LevelMut::Branch(_) => None,
        }
    }
}

impl<'a, T> Iterator for IterMut<'a, T> {
    type Item = &'a mut Arc<T>;

    fn next(&mut self) -> Option<&'a mut Arc<T>> {
        loop {
            match self.stack.last_mut()? {
                LevelMut::Leaves(leaves) => match leaves.next() {
                    Some(leaf) => return Some(leaf),
                    None => self.stack.pop(),
                },
                LevelMut::Branch(nodes) => match nodes.next() {
                    Some(node) => {
                        self.stack.push(LevelMut::of(node));
                        None
                    }
                    None => self.stack.pop(),
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_through_the_levels_and_reads_back() {
        let mut spine = Spine::default();
        for i in 0..40_000usize {
            spine.push(i);
            if i < 2_000 || i % 1_000 == 0 {
                assert_eq!(spine.get(i), Some(&i));
                assert_eq!(spine.get(i + 1), None);
            }
        }
        assert_eq!(spine.len(), 40_000);
        assert!(spine.iter().copied().eq(0..40_000));
        assert!(spine.iter_mut().map(|leaf| **leaf).eq(0..40_000));
    }

    #[test]
    fn it_shrinks_through_the_levels_and_grows_again() {
        let mut spine = Spine::default();
        (0..2_100).for_each(|i| spine.push(i));
        let before = spine.clone();
        for i in (5..2_100).rev() {
            assert_eq!(spine.pop().map(|leaf| *leaf), Some(i));
            assert_eq!((spine.len(), spine.get(i)), (i, None));
        }
        (5..1_100).for_each(|i| spine.push(i));
        assert!(spine.iter().copied().eq(0..1_100));
        assert!((0..1_100).all(|i| spine.get(i) == Some(&i)));
        while spine.pop().is_some() {}
        spine.push(7);
        assert!(spine.iter().copied().eq([7]));
        assert!(before.iter().copied().eq(0..2_100));
    }

    #[test]
    fn a_clone_keeps_its_values_while_the_original_is_written() {
        let mut spine = Spine::default();
        (0..3_000).for_each(|i| spine.push(i));
        let before = spine.clone();
        *spine.get_mut(1_234).unwrap() = -1;
        spine.push(3_000);
        for leaf in spine.iter_mut().take(5) {
            *Arc::make_mut(leaf) = -2;
        }
        assert!(before.iter().copied().eq(0..3_000));
        assert_eq!(spine.get(1_234), Some(&-1));
        assert_eq!(spine.get(4), Some(&-2));
        assert_eq!(spine.len(), 3_001);
        assert!(spine.get_mut(3_001).is_none());
    }
}
