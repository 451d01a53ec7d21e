use std::ops::AddAssign;

use coral_core::{ClassId, LabelMap, Rect, UNLABELED};
use ndarray::{Array2, ArrayView3};

use crate::parallel::for_each_chunk;

/// Scores of the rows that tiles still add to: a window over the raster's rows that moves down.
pub(super) struct Band<T> {
    width: usize,
    rows: usize,
    classes: usize,
    /// First row of the raster that is still open.
    top: usize,
    /// Row y of the raster lies in row y modulo `rows`; row, column, class.
    scores: Vec<T>,
    /// Whether a tile said anything about a pixel.
    known: Vec<bool>,
}

impl<T: Copy + Default + PartialOrd + AddAssign + Send + Sync> Band<T> {
    /// For a raster of `width` columns and tiles of `rows` rows, from row `top` of the raster on.
    pub(super) fn new(width: usize, rows: usize, classes: usize, top: usize) -> Self {
        let (scores, known) = (vec![T::default(); width * rows * classes], vec![false; width * rows]);
        Self { width, rows, classes, top, scores, known }
    }

    /// The rows of a tile that begins at raster row `y` and are still open: their number in the tile and the first pixel.
    fn open_rows(&self, window: Rect) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let (y, x, rows, width) = (window.y as usize, window.x as usize, self.rows, self.width);
        (self.top.saturating_sub(y)..window.height as usize).map(move |row| (row, (y + row) % rows * width + x))
    }

    /// Adds C×h×w `scores` of the tile at `window` where `valid`.
    pub(super) fn add(&mut self, window: Rect, scores: ArrayView3<'_, T>, valid: &Array2<bool>) {
        for (row, start) in self.open_rows(window) {
            let valid = valid.row(row);
            for (known, valid) in self.known[start..].iter_mut().zip(valid) {
                *known |= valid;
            }
            let sums = &mut self.scores[start * self.classes..(start + valid.len()) * self.classes];
            for (class, plane) in scores.outer_iter().enumerate() {
                let sums = sums.iter_mut().skip(class).step_by(self.classes);
                for ((sum, score), _) in sums.zip(plane.row(row)).zip(valid).filter(|(_, valid)| **valid) {
                    *sum += *score;
                }
            }
        }
    }

    /// Adds one vote for each labelled pixel of the tile at `window`.
    pub(super) fn vote(&mut self, window: Rect, labels: &LabelMap, one: T) {
        for (row, start) in self.open_rows(window) {
            for (pixel, &class) in (start..).zip(&labels.row(row)).filter(|(_, class)| **class != UNLABELED) {
                self.known[pixel] = true;
                self.scores[pixel * self.classes + usize::from(class)] += one;
            }
        }
    }

    /// The classes of the rows above `bottom`, which no tile adds to any more; their place serves the rows below.
    pub(super) fn close(&mut self, bottom: usize) -> LabelMap {
        let bottom = bottom.max(self.top);
        let mut labels = LabelMap::from_elem((bottom - self.top, self.width), UNLABELED);
        if let Some(flat) = labels.as_slice_mut() {
            for_each_chunk(flat, self.width, |row, labels| {
                let start = (self.top + row) % self.rows * self.width;
                for (pixel, label) in (start..).zip(labels).filter(|(pixel, _)| self.known[*pixel]) {
                    *label = first_largest(&self.scores[pixel * self.classes..(pixel + 1) * self.classes]);
                }
            });
        }
        for row in self.top..bottom {
            let start = row % self.rows * self.width;
            self.known[start..start + self.width].fill(false);
            self.scores[start * self.classes..(start + self.width) * self.classes].fill(T::default());
        }
        self.top = bottom;
        labels
    }
}

fn first_largest<T: Copy + PartialOrd>(scores: &[T]) -> ClassId {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best as ClassId
}
