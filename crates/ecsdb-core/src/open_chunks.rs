//! Which chunks of an archetype have room for a row.

/// In [`OpenChunks::places`]: the chunk is not listed.
const NOT_LISTED: u32 = u32::MAX;

/// Chunks with room, each once. That which got room last is filled first: what was written a moment ago is no longer shared, and in
/// the cache. O(1) each, whatever came before.
#[derive(Default)]
pub(crate) struct OpenChunks {
    list: Vec<u32>,
    /// By chunk: where it is in the list.
    places: Vec<u32>,
}

impl OpenChunks {
    /// The one to be filled next.
    #[inline]
    pub(crate) fn last(&self) -> Option<usize> {
        self.list.last().map(|&chunk| chunk as usize)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &u32> {
        self.list.iter()
    }

    fn place(&self, chunk: usize) -> Option<usize> {
        self.places.get(chunk).filter(|&&place| place != NOT_LISTED).map(|&place| place as usize)
    }

    /// A chunk has room: it is filled next, unless it was listed before.
    pub(crate) fn insert(&mut self, chunk: usize) {
        if self.place(chunk).is_some() {
            return;
        }
        if self.places.len() <= chunk {
            self.places.resize(chunk + 1, NOT_LISTED);
        }
        self.places[chunk] = self.list.len() as u32;
        self.list.push(chunk as u32);
    }

    /// A chunk has no room, or is no more.
    pub(crate) fn remove(&mut self, chunk: usize) {
        let Some(place) = self.place(chunk) else { return };
        self.list.swap_remove(place);
        if let Some(&moved) = self.list.get(place) {
            self.places[moved as usize] = place as u32;
        }
        self.places[chunk] = NOT_LISTED;
    }

    /// A chunk, if it is listed, is filled next.
    pub(crate) fn raise(&mut self, chunk: usize) {
        if self.place(chunk).is_some() {
            self.remove(chunk);
            self.insert(chunk);
        }
    }
}
