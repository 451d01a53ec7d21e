//! Regions grown of superpixels.

use coral_core::{Result, RleMask, SeededRng};
use ndarray::{Array2, Array3, s};

use crate::Superpixels;

/// What a step of one radius away from a region's middle weighs against one unit of Lab: enough that regions are lumps
/// like colonies, not threads along the seams of the ground.
const ROUNDNESS: f64 = 12.0;

/// What is known of a superpixel.
#[derive(Debug, Clone)]
struct Cell {
    /// Mean Lab.
    color: [f32; 3],
    /// Mean position, in pixels.
    centre: [f32; 2],
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
        let cell = |(mean, centre): (ndarray::ArrayView1<'_, f32>, [f32; 2])| Cell {
            color: [mean[0], mean[1], mean[2]],
            centre,
            pixels: 0,
            free: 0,
            bounds: Bounds::NONE,
            neighbours: Vec::new(),
            open: false,
        };
        let mut cells: Vec<Cell> = means.rows().into_iter().zip(superpixels.centroids()).map(cell).collect();
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

    /// The region around superpixel `start`: joined by neighbours of similar colour that are near its middle, until it
    /// has `area` pixels, or all neighbours differ in colour by more than `tolerance` or make it larger than `largest`.
    /// `None` when another region has `start` already, or that alone is too large.
    pub(super) fn grow(&mut self, start: u32, (area, largest): (f64, f64), tolerance: f32) -> Result<Option<RleMask>> {
        let first = &self.cells[start as usize];
        if !first.open || f64::from(first.free) > largest {
            return Ok(None);
        }
        let radius = (area / std::f64::consts::PI).sqrt();
        let (mut members, mut edge) = (Vec::new(), Vec::new());
        let mut mean = Mean::default();
        let mut next = Some(start);
        while let Some(member) = next {
            let cell = &mut self.cells[member as usize];
            cell.open = false;
            members.push(member);
            mean.add(cell);
            edge.extend_from_slice(&cell.neighbours);
            edge.retain(|&neighbour| self.cells[neighbour as usize].open);
            let similar = edge.iter().filter_map(|&neighbour| {
                let cell = &self.cells[neighbour as usize];
                let (color, away) = mean.distances(cell);
                let fits = color <= f64::from(tolerance) && mean.pixels + f64::from(cell.free) <= largest;
                fits.then_some((color + ROUNDNESS * away / radius, neighbour))
            });
            // The smaller number of equals, so that the order of neighbours does not matter.
            let best = similar.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            next = best.filter(|_| mean.pixels < area).map(|(_, neighbour)| neighbour);
        }
        self.largest_part(&members).map(Some)
    }

    /// The largest connected part of the free pixels of some superpixels.
    fn largest_part(&self, members: &[u32]) -> Result<RleMask> {
        let bounds = members.iter().map(|&member| self.cells[member as usize].bounds);
        let Bounds { left, right, top, bottom } = bounds.fold(Bounds::NONE, Bounds::joined);
        let window = s![top..=bottom, left..=right];
        let (labels, free) = (self.superpixels.labels().slice(window), self.free.slice(window));
        let mut is_member = vec![false; self.cells.len()];
        members.iter().for_each(|&member| is_member[member as usize] = true);
        let inside = |&label: &u32, &free: &bool| free && is_member[label as usize];
        let pixels = ndarray::Zip::from(&labels).and(&free).map_collect(inside);
        let parts = RleMask::encode(&pixels).components();
        let size = self.superpixels.size();
        match parts.iter().max_by_key(|part| part.area()) {
            Some(part) => part.place(left as u32, top as u32, size),
            None => Ok(RleMask::empty(size)),
        }
    }
}

/// Colour and middle of a region that grows.
#[derive(Debug, Default)]
struct Mean {
    pixels: f64,
    /// Sums over the pixels.
    color: [f64; 3],
    centre: [f64; 2],
}

impl Mean {
    fn add(&mut self, cell: &Cell) {
        let pixels = f64::from(cell.free);
        self.pixels += pixels;
        self.color.iter_mut().zip(cell.color).for_each(|(sum, value)| *sum += f64::from(value) * pixels);
        self.centre.iter_mut().zip(cell.centre).for_each(|(sum, value)| *sum += f64::from(value) * pixels);
    }

    /// How far a superpixel is, in Lab and in pixels.
    fn distances(&self, cell: &Cell) -> (f64, f64) {
        let norm = |sums: &[f64], values: &[f32]| {
            let squares = sums.iter().zip(values).map(|(sum, &value)| (sum / self.pixels - f64::from(value)).powi(2));
            squares.sum::<f64>().sqrt()
        };
        (norm(&self.color, &cell.color), norm(&self.centre, &cell.centre))
    }
}
