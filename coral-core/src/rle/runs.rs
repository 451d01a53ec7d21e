use crate::{RleMask, Size};

/// Collects runs in order and writes the shortest list of counts for them.
pub(super) struct RunWriter {
    size: Size,
    counts: Vec<u32>,
    /// Value and length of the run that may still grow.
    value: bool,
    length: u64,
    /// Pixels so far.
    position: u64,
}

impl RunWriter {
    pub(super) fn new(size: Size) -> Self {
        Self { size, counts: Vec::new(), value: false, length: 0, position: 0 }
    }

    /// Appends `length` pixels of `value`.
    pub(super) fn push(&mut self, value: bool, length: u64) {
        if length == 0 {
            return;
        }
        if value != self.value {
            self.flush();
            (self.value, self.length) = (value, 0);
        }
        self.length += length;
        self.position += length;
    }

    /// Appends foreground at pixels `start..start + length`, and background up to there. Pixels that were already
    /// written stay as they are.
    pub(super) fn push_foreground(&mut self, start: u64, length: u64) {
        self.push(false, start.saturating_sub(self.position));
        self.push(true, (start + length).saturating_sub(self.position));
    }

    /// Fills the rest with background.
    pub(super) fn finish(mut self) -> RleMask {
        let pixels = u64::from(self.size.width) * u64::from(self.size.height);
        self.push(false, pixels.saturating_sub(self.position));
        self.flush();
        RleMask { size: self.size, counts: self.counts }
    }

    fn flush(&mut self) {
        // A longer run than a count can hold is split by empty runs of the other value.
        while self.length > u64::from(u32::MAX) {
            self.counts.extend([u32::MAX, 0]);
            self.length -= u64::from(u32::MAX);
        }
        self.counts.push(self.length as u32);
        self.length = 0;
    }
}

/// The foreground runs as `(start, length)` in column-major pixel order; none is empty.
pub(super) fn foreground(counts: &[u32]) -> impl Iterator<Item = (u64, u64)> + Clone {
    let with_start = counts.iter().enumerate().scan(0u64, |position, (at, &count)| {
        let start = *position;
        *position += u64::from(count);
        Some((at, start, u64::from(count)))
    });
    with_start.filter(|&(at, _, count)| at % 2 == 1 && count > 0).map(|(_, start, count)| (start, count))
}

/// Walks two masks of one size at once: `visit(in_a, in_b, length)` for every stretch where both are constant.
pub(super) fn walk_both(a: &[u32], b: &[u32], mut visit: impl FnMut(bool, bool, u64)) {
    let (mut a, mut b) = (Cursor::new(a), Cursor::new(b));
    while a.fill() && b.fill() {
        let length = a.left.min(b.left);
        visit(a.value, b.value, length.into());
        a.left -= length;
        b.left -= length;
    }
}

struct Cursor<'a> {
    counts: std::slice::Iter<'a, u32>,
    value: bool,
    left: u32,
}

impl<'a> Cursor<'a> {
    fn new(counts: &'a [u32]) -> Self {
        // The first count turns the value to background.
        Self { counts: counts.iter(), value: true, left: 0 }
    }

    /// Goes to the next run that is not empty; false at the end.
    fn fill(&mut self) -> bool {
        while self.left == 0 {
            let Some(&count) = self.counts.next() else { return false };
            (self.left, self.value) = (count, !self.value);
        }
        true
    }
}
