//! Borders that pass a corner twice, put together once it is known which pixels there are of one region.

use std::collections::HashMap;

use super::outlines::{Corner, Ring};
use super::regions::Regions;

/// A piece of border from one crossing to the next.
#[derive(Debug)]
struct Arc {
    /// Its first corner is a crossing; the one that it leads to is left out.
    corners: Vec<Corner>,
    /// The piece that follows as long as both pixels of the class at the crossing are of one region.
    next: usize,
}

/// Closed borders with crossings, cut there.
///
/// While a map is read row by row, two pixels that meet at a corner may turn out to be joined further down. Borders are
/// therefore traced as if they were.
#[derive(Debug, Default)]
pub(super) struct Arcs {
    arcs: Vec<Arc>,
    /// The pieces that start at a crossing.
    starts: HashMap<(u32, u32), Vec<usize>>,
}

impl Arcs {
    /// Takes a closed border, or gives it back when it has no crossing.
    pub(super) fn take(&mut self, mut corners: Vec<Corner>) -> Option<Vec<Corner>> {
        let Some(first) = corners.iter().position(|corner| corner.crossing) else {
            return Some(corners);
        };
        corners.rotate_left(first);
        let before = self.arcs.len();
        for corner in corners {
            if corner.crossing {
                let at = self.arcs.len();
                self.starts.entry((corner.x, corner.y)).or_default().push(at);
                self.arcs.push(Arc { corners: Vec::new(), next: at + 1 });
            }
            if let Some(arc) = self.arcs.last_mut() {
                arc.corners.push(corner);
            }
        }
        if let Some(last) = self.arcs.last_mut() {
            last.next = before;
        }
        None
    }

    /// The rings: at a crossing whose pixels are of two regions, each keeps to its own.
    pub(super) fn rings(mut self, regions: &mut Regions) -> Vec<Ring> {
        let owners: Vec<u32> = self.arcs.iter().map(|arc| regions.root(arc.corners[0].region)).collect();
        for at in 0..self.arcs.len() {
            let next = self.arcs[at].next;
            if owners[next] == owners[at] {
                continue;
            }
            let crossing = self.arcs[next].corners[0];
            let starting = self.starts.get(&(crossing.x, crossing.y)).into_iter().flatten();
            if let Some(&own) = starting.into_iter().find(|&&other| owners[other] == owners[at]) {
                self.arcs[at].next = own;
            }
        }
        let mut rings = Vec::new();
        for first in 0..self.arcs.len() {
            let (mut corners, mut at) = (Vec::new(), first);
            while !self.arcs[at].corners.is_empty() {
                corners.append(&mut self.arcs[at].corners);
                at = self.arcs[at].next;
            }
            if !corners.is_empty() {
                rings.push(Ring::new(&corners));
            }
        }
        rings
    }
}
