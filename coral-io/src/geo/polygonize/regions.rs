//! Numbers the regions of equal class, row by row.

use coral_core::{ClassId, Error, Result, UNLABELED};
use ndarray::ArrayView1;

/// Regions by provisional numbers, of which one region may get several before its parts meet.
#[derive(Debug)]
pub(super) struct Regions {
    width: usize,
    diagonals: bool,
    classes: Vec<ClassId>,
    /// Towards the smallest number of the region.
    parents: Vec<u32>,
    /// Towards the smallest number of the regions joined at corners.
    groups: Vec<u32>,
}

impl Regions {
    pub(super) fn new(width: usize, diagonals: bool) -> Self {
        Self { width, diagonals, classes: Vec::new(), parents: Vec::new(), groups: Vec::new() }
    }

    /// The numbers of a row's pixels, `u32::MAX` where there is no class.
    pub(super) fn row(&mut self, above: &[ClassId], numbers: &[u32], classes: ArrayView1<ClassId>) -> Result<Vec<u32>> {
        let mut row = vec![u32::MAX; self.width];
        for (x, &class) in classes.iter().enumerate().filter(|(_, class)| **class != UNLABELED) {
            let left = x.checked_sub(1).filter(|&left| classes[left] == class).map(|left| row[left]);
            let up = (above[x] == class).then_some(numbers[x]);
            row[x] = match (left, up) {
                (Some(left), Some(up)) => {
                    if self.diagonals {
                        join(&mut self.groups, left, up);
                    }
                    join(&mut self.parents, left, up)
                }
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => self.add(class)?,
            };
            if self.diagonals {
                for other in [x.checked_sub(1), Some(x + 1)].into_iter().flatten() {
                    if above.get(other) == Some(&class) {
                        join(&mut self.groups, row[x], numbers[other]);
                    }
                }
            }
        }
        Ok(row)
    }

    fn add(&mut self, class: ClassId) -> Result<u32> {
        let number = u32::try_from(self.classes.len()).ok().filter(|&number| number < u32::MAX);
        let number = number.ok_or_else(|| Error::input("labels", "the map has more than 4294967295 regions"))?;
        self.classes.push(class);
        self.parents.push(number);
        self.groups.push(number);
        Ok(number)
    }

    /// The smallest number of a region.
    pub(super) fn root(&mut self, region: u32) -> u32 {
        root(&mut self.parents, region)
    }

    /// The smallest number of the regions that are one polygon with it.
    pub(super) fn group(&mut self, region: u32) -> u32 {
        root(&mut self.groups, region)
    }

    pub(super) fn class(&self, region: u32) -> ClassId {
        self.classes[region as usize]
    }
}

fn root(parents: &mut [u32], number: u32) -> u32 {
    let mut at = number;
    while parents[at as usize] != at {
        let above = parents[parents[at as usize] as usize];
        parents[at as usize] = above;
        at = above;
    }
    at
}

/// Joins two regions under the smaller number, so that a region is named after the first of its pixels.
fn join(parents: &mut [u32], a: u32, b: u32) -> u32 {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b) as usize] = a.min(b);
    a.min(b)
}
