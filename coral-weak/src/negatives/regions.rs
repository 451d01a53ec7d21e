//! Regions grown of superpixels.

use coral_core::{Result, RleMask, SeededRng};
use ndarray::{Array2, Array3, s};

use crate::Superpixels;

/// What is known of a superpixel.
#[derive(Debug, Clone)]
struct Cell {
    /// Mean Lab.
    color: [f32; 3],
    /// All pixels, and those that a region may have.
    pixels: u32,
    free: u32,
    bounds: Bounds,
    neighbours: Vec<u32>,
    /// Whether a region may still take it.
    open: bool,
}

/// First and last column and row.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    left: usize,
    right: usize,
    top: usize,
    bottom: usize,
}

impl Bounds {
    const NONE: Self = Self { left: usize::MAX, right: 0, top: usize::MAX, bottom: 0 };

    fn joined(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            right: self.right.max(other.right),
            top: self.top.min(other.top),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

/// The superpixels of an image, of which regions take some.
pub(super) struct Regions<'a> {
    superpixels: &'a Superpixels,
    free: &'a Array2<bool>,
    cells: Vec<Cell>,
}

impl<'a> Regions<'a> {
    /// `lab` is 3×H×W, `free` H×W true where a region may be.
    pub(super) fn new(superpixels: &'a Superpixels, lab: &Array3<f32>, free: &'a Array2<bool>) -> Result<Self> {
        let means = superpixels.means(lab.view())?;
        let cell = |mean: ndarray::ArrayView1<'_, f32>| Cell {
            color: [mean[0], mean[1], mean[2]],
            pixels: 0,
            free: 0,
            bounds: Bounds::NONE,
            neighbours: Vec::new(),
            open: false,
        };
        let mut cells: Vec<Cell> = means.rows().into_iter().map(cell).collect();
        for (((y, x), &label), &is_free) in superpixels.labels().indexed_iter().zip(free) {
            let cell = &mut cells[label as usize];
            cell.pixels += 1;
            cell.free += u32::from(is_free);
            cell.bounds = cell.bounds.joined(Bounds { left: x, right: x, top: y, bottom: y });
        }
        for pair in superpixels.adjacency() {
            cells[pair.first as usize].neighbours.push(pair.second);
            cells[pair.second as usize].neighbours.push(pair.first);
        }
        Ok(Self { superpixels, free, cells })
    }

    /// Opens the superpixels of which at most a share of `max_overlap` is not free; returns them in random order.
    pub(super) fn starts(&mut self, max_overlap: f32, rng: &mut SeededRng) -> Vec<u32> {
        let mut starts = Vec::new();
        for (number, cell) in (0..).zip(&mut self.cells) {
            let taken = cell.pixels - cell.free;
            cell.open = cell.free > 0 && f64::from(taken) <= f64::from(max_overlap) * f64::from(cell.pixels);
            if cell.open {
                starts.push(number);
            }
        }
        rng.shuffle(&mut starts);
        starts
    }

    /// The region around superpixel `start`: joined by its neighbours of the most similar colour until it has `area`
    /// pixels, or all of them differ by more than `tolerance`. `None` when another region has `start` already.
    pub(super) fn grow(&mut self, start: u32, area: f64, tolerance: f32) -> Result<Option<RleMask>> {
        if !self.cells[start as usize].open {
            return Ok(None);
        }
        let (mut members, mut edge) = (Vec::new(), Vec::new());
        let (mut next, mut size, mut sums) = (start, 0.0, [0.0f64; 3]);
        loop {
            let cell = &mut self.cells[next as usize];
            cell.open = false;
            members.push(next);
            size += f64::from(cell.free);
            sums = std::array::from_fn(|c| sums[c] + f64::from(cell.color[c]) * f64::from(cell.free));
            edge.extend_from_slice(&cell.neighbours);
            edge.retain(|&neighbour| self.cells[neighbour as usize].open);
            let mean = sums.map(|sum| (sum / size) as f32);
            let difference = |&neighbour: &u32| distance(self.cells[neighbour as usize].color, mean);
            let nearest = edge.iter().map(|neighbour| (difference(neighbour), *neighbour));
            // The smaller number of equals, so that the order of neighbours does not matter.
            match nearest.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) {
                Some((difference, neighbour)) if size < area && difference <= tolerance => next = neighbour,
                _ => break,
            }
        }
        self.largest_part(&members).map(Some)
    }

    /// The largest connected part of the free pixels of some superpixels.
    fn largest_part(&self, members: &[u32]) -> Result<RleMask> {
        let bounds = members.iter().map(|&member| self.cells[member as usize].bounds);
        let Bounds { left, right, top, bottom } = bounds.fold(Bounds::NONE, Bounds::joined);
        let window = s![top..=bottom, left..=right];
        let (labels, free) = (self.superpixels.labels().slice(window), self.free.slice(window));
        let pixels = ndarray::Zip::from(&labels).and(&free).map_collect(|label, &free| free && members.contains(label));
        let parts = RleMask::encode(&pixels).components();
        let size = self.superpixels.size();
        match parts.iter().max_by_key(|part| part.area()) {
            Some(part) => part.place(left as u32, top as u32, size),
            None => Ok(RleMask::empty(size)),
        }
    }
}

/// The Euclidean distance of two colours in Lab.
fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}
