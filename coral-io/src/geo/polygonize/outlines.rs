//! Traces the borders between classes row by row.
//!
//! Borders are directed so that their region lies on the right, which on a picture is clockwise around it. A line of
//! corners between two rows is visited from left to right; at each corner, every class around it has edges that lead to
//! the corner and edges that lead away, and the pieces of border that end in the one are continued by the other.

use std::collections::VecDeque;

use coral_core::{ClassId, UNLABELED};

/// A corner of an outline and the region on the right of the edge that leaves it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Corner {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) region: u32,
    /// Whether the class covers two pixels here that meet at the corner alone, so that its border passes twice.
    pub(super) crossing: bool,
}

/// A closed border that meets itself nowhere.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) region: u32,
    /// Pixels inside; negative for a hole.
    pub(super) area: i64,
    /// Without the first one again at the end.
    pub(super) corners: Vec<(u32, u32)>,
}

/// A row of pixels: their classes and regions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) classes: &'a [ClassId],
    pub(super) regions: &'a [u32],
}

/// A piece of border whose two ends are still open, and where the tracer keeps them.
#[derive(Debug)]
struct Chain {
    corners: VecDeque<Corner>,
    start: Place,
    end: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Below the corner of this column.
    Column(usize),
    /// Right of the current corner.
    Line,
}

/// The directions at a corner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Up,
    Right,
    Down,
    Left,
}

/// The pixels around a corner, as bits.
const NORTH_WEST: u8 = 1;
const NORTH_EAST: u8 = 2;
const SOUTH_EAST: u8 = 4;
const SOUTH_WEST: u8 = 8;

/// Open pieces of border along the current line of corners.
#[derive(Debug)]
pub(super) struct Tracer {
    chains: Vec<Chain>,
    free: Vec<usize>,
    /// At each corner, the piece that reaches it from above and the one that leaves it upwards.
    ends: Vec<Option<usize>>,
    starts: Vec<Option<usize>>,
    /// Between two corners of the line, the piece that runs right and the one that runs left.
    eastward: Option<usize>,
    westward: Option<usize>,
}

impl Tracer {
    /// For rows of `width` pixels.
    pub(super) fn new(width: usize) -> Self {
        let none = || vec![None; width + 1];
        Self { chains: Vec::new(), free: Vec::new(), ends: none(), starts: none(), eastward: None, westward: None }
    }

    /// Visits the corners between two rows, the lower of which is row `y`, and hands over the corners of the borders that close.
    pub(super) fn line(&mut self, y: u32, above: Row, below: Row, close: &mut impl FnMut(Vec<Corner>)) {
        let pixel = |row: Row, x: usize| match x.checked_sub(1) {
            Some(x) if x < row.classes.len() => (row.classes[x], row.regions[x]),
            _ => (UNLABELED, u32::MAX),
        };
        for x in 0..self.ends.len() {
            // Clockwise from the north west, in the order of the bits.
            let around = [pixel(above, x), pixel(above, x + 1), pixel(below, x + 1), pixel(below, x)];
            if around.iter().all(|pixel| pixel.0 == around[0].0) {
                continue;
            }
            let mut seen = 0u8;
            let (ends, starts) = (self.ends[x].take(), self.starts[x].take());
            let (eastward, westward) = (self.eastward.take(), self.westward.take());
            let mut open = [(Side::Up, ends, starts), (Side::Left, eastward, westward)];
            for nth in 0..4 {
                let class = around[nth].0;
                if seen >> nth & 1 == 1 || class == UNLABELED {
                    continue;
                }
                let mask = (0..4).filter(|&other| around[other].0 == class).fold(0, |mask, other| mask | 1 << other);
                seen |= mask;
                let passes = passes(mask);
                for &(from, to) in passes {
                    let (region, crossing) = (around[owner(to)].1, passes.len() > 1);
                    self.pass((from, to), Corner { x: x as u32, y, region, crossing }, &mut open, close);
                }
            }
        }
    }

    /// Lets a border pass a corner; `open` are the pieces that reach the corner from a side and that leave it there.
    fn pass(
        &mut self,
        (from, to): (Side, Side),
        corner: Corner,
        open: &mut [(Side, Option<usize>, Option<usize>); 2],
        close: &mut impl FnMut(Vec<Corner>),
    ) {
        let arriving = open.iter_mut().find(|one| one.0 == from).and_then(|one| one.1.take());
        let leaving = open.iter_mut().find(|one| one.0 == to).and_then(|one| one.2.take());
        let at = arriving.or(leaving).unwrap_or_else(|| self.add());
        if !from.is_opposite(to) {
            let corners = &mut self.chains[at].corners;
            if arriving.is_some() { corners.push_back(corner) } else { corners.push_front(corner) }
        }
        match (arriving, leaving) {
            (Some(first), Some(second)) if first == second => {
                self.free.push(at);
                close(std::mem::take(&mut self.chains[at].corners).into());
            }
            (Some(first), Some(second)) => self.join(first, second),
            _ => self.keep(at, (from, to), corner.x as usize),
        }
    }

    /// Notes where the open ends of a piece are, of which one or both are new.
    fn keep(&mut self, at: usize, (from, to): (Side, Side), x: usize) {
        match from {
            Side::Down => (self.starts[x], self.chains[at].start) = (Some(at), Place::Column(x)),
            Side::Right => (self.westward, self.chains[at].start) = (Some(at), Place::Line),
            Side::Up | Side::Left => {}
        }
        match to {
            Side::Down => (self.ends[x], self.chains[at].end) = (Some(at), Place::Column(x)),
            Side::Right => (self.eastward, self.chains[at].end) = (Some(at), Place::Line),
            Side::Up | Side::Left => {}
        }
    }

    fn add(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.chains.push(Chain { corners: VecDeque::new(), start: Place::Line, end: Place::Line });
            self.chains.len() - 1
        })
    }

    /// Appends a piece to another; the shorter one moves.
    fn join(&mut self, first: usize, second: usize) {
        let (start, end) = (self.chains[first].start, self.chains[second].end);
        let mut front = std::mem::take(&mut self.chains[first].corners);
        let mut back = std::mem::take(&mut self.chains[second].corners);
        let (kept, gone) = if front.len() >= back.len() { (first, second) } else { (second, first) };
        let corners = if kept == first {
            front.append(&mut back);
            front
        } else {
            front.into_iter().rev().for_each(|corner| back.push_front(corner));
            back
        };
        self.chains[kept] = Chain { corners, start, end };
        self.free.push(gone);
        match start {
            Place::Column(x) => self.starts[x] = Some(kept),
            Place::Line => self.westward = Some(kept),
        }
        match end {
            Place::Column(x) => self.ends[x] = Some(kept),
            Place::Line => self.eastward = Some(kept),
        }
    }
}

impl Side {
    fn is_opposite(self, other: Self) -> bool {
        matches!((self, other), (Self::Up, Self::Down) | (Self::Down, Self::Up))
            || matches!((self, other), (Self::Left, Self::Right) | (Self::Right, Self::Left))
    }
}

/// How the border of a class that covers the pixels of `mask` passes the corner: from which side, to which side.
///
/// Where two pixels meet at the corner alone, the border turns so that they stay joined there. If they are of one region,
/// it so meets itself nowhere: a hole that touches the outline stays a hole. If they are not, it is cut later.
fn passes(mask: u8) -> &'static [(Side, Side)] {
    use Side::{Down, Left, Right, Up};
    const NW_SE: u8 = NORTH_WEST | SOUTH_EAST;
    const NE_SW: u8 = NORTH_EAST | SOUTH_WEST;
    match mask {
        NW_SE => &[(Up, Right), (Down, Left)],
        NE_SW => &[(Right, Down), (Left, Up)],
        1 => &[(Up, Left)],
        2 => &[(Right, Up)],
        3 => &[(Right, Left)],
        4 => &[(Down, Right)],
        6 => &[(Down, Up)],
        7 => &[(Down, Left)],
        8 => &[(Left, Down)],
        9 => &[(Up, Down)],
        11 => &[(Right, Down)],
        12 => &[(Left, Right)],
        13 => &[(Up, Right)],
        14 => &[(Left, Up)],
        _ => &[],
    }
}

/// Which pixel around the corner, counted clockwise from the north west, lies right of the edge that leaves to a side.
fn owner(to: Side) -> usize {
    match to {
        Side::Left => 0,
        Side::Up => 1,
        Side::Right => 2,
        Side::Down => 3,
    }
}

impl Ring {
    pub(super) fn new(corners: &[Corner]) -> Self {
        let next = corners.iter().cycle().skip(1);
        let product = |a: u32, b: u32| i64::from(a) * i64::from(b);
        let twice: i64 = corners.iter().zip(next).map(|(a, b)| product(a.x, b.y) - product(b.x, a.y)).sum();
        Self {
            region: corners.first().map_or(u32::MAX, |corner| corner.region),
            area: twice / 2,
            corners: corners.iter().map(|corner| (corner.x, corner.y)).collect(),
        }
    }
}
