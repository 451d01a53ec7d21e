use coral_core::{Error, Result, Size};
use ndarray::{Array2, ArrayView2, ArrayView3};

/// The exact geodesic distance of every pixel from its cheapest start, H×W.
///
/// `image` is C×H×W in any unit. A step to one of the 8 neighbours costs
/// (1 − `lambda`)·length + `lambda`·Σ|difference of the channels|, length 1 or √2. `start` is
/// H×W: what it costs to start at each pixel; 0 for a seed, infinite where no path may
/// start, anything between for soft seeds (a mask times a constant). With `lambda` 0 the
/// image does not matter, with 1 the length does not.
///
/// # Errors
/// [`Error::ShapeMismatch`] when `start` is not H×W, [`Error::InvalidInput`] for values that are NaN, negative
/// starts, an image that is not finite, or no finite start, [`Error::InvalidParameter`] for a `lambda` outside 0..=1.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_weak::geodesic_distance;
/// let image = array![[[0.0, 0.0, 9.0, 9.0]]];
/// let start = array![[0.0, f64::INFINITY, f64::INFINITY, f64::INFINITY]];
/// let distance = geodesic_distance(image.view(), start.view(), 0.5)?;
/// assert_eq!(distance, array![[0.0, 0.5, 5.5, 6.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// The generalised geodesic distance of Criminisi, Sharp and Blake, *GeoS* (2008), in the additive form of FastGeodis.
/// Agrees with a Dijkstra reference within 1e-6, relative (golden case `geodesic`).
pub fn geodesic_distance(image: ArrayView3<'_, f32>, start: ArrayView2<'_, f64>, lambda: f64) -> Result<Array2<f64>> {
    check_lambda(lambda)?;
    let planes = Planes::new(image, start)?;
    // Starts differ in cost only: one common origin spares the search its tie rule.
    let finite = start.iter().zip(0u32..).filter(|(cost, _)| cost.is_finite());
    let starts = finite.map(|(&cost, pixel)| Start { cost, pixel, origin: 0 }).collect();
    let costs = StepCosts::weighted(1.0 - lambda, lambda, planes.range());
    let paths = shortest_paths(planes.size, starts, costs, |a, b| f64::from(planes.difference(a, b)));
    Array2::from_shape_vec(planes.size.shape(), paths.distance).map_err(|e| Error::input("image", e.to_string()))
}

pub(super) fn check_lambda(lambda: f64) -> Result<()> {
    if (0.0..=1.0).contains(&lambda) {
        return Ok(());
    }
    Err(Error::parameter("lambda", format!("expected a number in 0..=1, got {lambda}")))
}

/// An image with the channels of a pixel side by side.
pub(super) struct Planes {
    pub(super) size: Size,
    channels: usize,
    values: Vec<f32>,
}

impl Planes {
    pub(super) fn new(image: ArrayView3<'_, f32>, start: ArrayView2<'_, f64>) -> Result<Self> {
        let (channels, height, width) = image.dim();
        if start.dim() != (height, width) {
            let (rows, columns) = start.dim();
            return Err(Error::shape("start", format!("{height}x{width}"), format!("{rows}x{columns}")));
        }
        if start.len() > u32::MAX as usize {
            return Err(Error::input("image", "too many pixels, tile it: at most 2^32 - 1 fit"));
        }
        if start.iter().any(|cost| cost.is_nan() || *cost < 0.0) {
            return Err(Error::input("start", "expected costs of at least 0, got a negative one or NaN"));
        }
        if !start.iter().any(|cost| cost.is_finite()) {
            return Err(Error::input("start", "at least one pixel needs a finite cost, got none"));
        }
        if !image.iter().all(|value| value.is_finite()) {
            return Err(Error::input("image", "expected finite values only"));
        }
        let values = image.permuted_axes([1, 2, 0]).iter().copied().collect();
        let size = Size { width: width as u32, height: height as u32 };
        Ok(Self { size, channels, values })
    }

    /// Σ|difference| between two pixels.
    pub(super) fn difference(&self, a: usize, b: usize) -> f32 {
        let pixel = |at: usize| &self.values[at * self.channels..][..self.channels];
        pixel(a).iter().zip(pixel(b)).map(|(a, b)| (a - b).abs()).sum()
    }

    /// A bound of all differences: the ranges of the channels, summed.
    fn range(&self) -> f64 {
        let span = |channel: usize| {
            let values = || self.values.iter().skip(channel).step_by(self.channels);
            values().fold(f32::MIN, |a, b| a.max(*b)) - values().fold(f32::MAX, |a, b| a.min(*b))
        };
        (0..self.channels).map(|channel| f64::from(span(channel))).sum()
    }
}

/// A place where paths may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) cost: f64,
    pub(super) pixel: u32,
    /// What the pixels reached from here remember.
    pub(super) origin: u32,
}

/// What a step to a neighbour costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepCosts {
    /// For its length: straight and diagonal.
    step: [f64; 2],
    /// Per unit of difference.
    per_difference: f64,
    /// No step costs more.
    longest: f64,
}

impl StepCosts {
    /// Length weighs `per_length`, difference `per_difference`; no difference exceeds `greatest`.
    pub(super) fn weighted(per_length: f64, per_difference: f64, greatest: f64) -> Self {
        let step = [per_length, per_length * std::f64::consts::SQRT_2];
        Self { step, per_difference, longest: step[1] + per_difference * greatest }
    }
}

pub(super) struct Paths {
    /// Infinite where no start leads to.
    pub(super) distance: Vec<f64>,
    /// The origin of the cheapest start, the smallest of several equally cheap.
    pub(super) origin: Vec<u32>,
}

/// Cheapest paths on the 8-neighbour graph by a queue of buckets of equal width.
///
/// A pixel that gets cheaper while its own bucket is worked on is queued again, so the
/// result is exact for any width; with the width of the cheapest step no pixel is worked on twice.
pub(super) fn shortest_paths(
    size: Size,
    mut starts: Vec<Start>,
    costs: StepCosts,
    difference: impl Fn(usize, usize) -> f64,
) -> Paths {
    let (width, height) = (size.width as usize, size.height as usize);
    starts.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.origin.cmp(&b.origin)));
    let mut paths = Paths { distance: vec![f64::INFINITY; size.pixels()], origin: vec![u32::MAX; size.pixels()] };
    let mut queue = BucketQueue::new(costs.step[0], costs.longest);
    let mut pending = starts.into_iter().peekable();
    loop {
        if queue.is_empty() {
            let Some(next) = pending.peek() else { return paths };
            queue.current = queue.bucket(next.cost);
        }
        while let Some(start) = pending.next_if(|start| queue.bucket(start.cost) <= queue.current) {
            paths.improve(start.pixel as usize, start.cost, start.origin, &mut queue);
        }
        while let Some((distance, pixel)) = queue.pop_current() {
            let at = pixel as usize;
            if paths.distance[at] != distance {
                continue; // found a cheaper way since
            }
            let origin = paths.origin[at];
            let (x, y) = (at % width, at / width);
            for v in y.saturating_sub(1)..(y + 2).min(height) {
                for u in x.saturating_sub(1)..(x + 2).min(width) {
                    let neighbour = v * width + u;
                    // Most neighbours are settled: no step can be cheaper than its length.
                    let reached = distance + costs.step[usize::from(u != x && v != y)];
                    if reached <= paths.distance[neighbour] && neighbour != at {
                        let cost = reached + costs.per_difference * difference(at, neighbour);
                        paths.improve(neighbour, cost, origin, &mut queue);
                    }
                }
            }
        }
        queue.current = queue.current.saturating_add(1);
    }
}

impl Paths {
    fn improve(&mut self, pixel: usize, distance: f64, origin: u32, queue: &mut BucketQueue) {
        let held = self.distance[pixel];
        if distance < held || (distance == held && origin < self.origin[pixel]) {
            (self.distance[pixel], self.origin[pixel]) = (distance, origin);
            queue.push(distance, pixel as u32);
        }
    }
}

/// Pixels by distance in buckets of equal width, a ring that covers the longest step.
struct BucketQueue {
    ring: Vec<Vec<(f64, u32)>>,
    per_unit: f64,
    /// The bucket worked on, counted from distance 0.
    current: u64,
    queued: usize,
}

impl BucketQueue {
    fn new(shortest: f64, longest: f64) -> Self {
        // Without a positive shortest step, or a tiny one, wider buckets keep the ring short.
        const MOST_BUCKETS: f64 = 4096.0;
        let width = shortest.max(longest / MOST_BUCKETS);
        let width = if width > 0.0 { width } else { 1.0 };
        let buckets = (longest / width) as usize + 3;
        Self { ring: vec![Vec::new(); buckets], per_unit: 1.0 / width, current: 0, queued: 0 }
    }

    fn bucket(&self, distance: f64) -> u64 {
        (distance * self.per_unit) as u64
    }

    fn is_empty(&self) -> bool {
        self.queued == 0
    }

    fn push(&mut self, distance: f64, pixel: u32) {
        // Never behind the bucket that is worked on. Should rounding of huge distances put an entry in
        // a wrong place, it only costs time: improvements are always queued.
        let slot = self.bucket(distance).max(self.current) % self.ring.len() as u64;
        self.ring[slot as usize].push((distance, pixel));
        self.queued += 1;
    }

    fn pop_current(&mut self) -> Option<(f64, u32)> {
        let slot = self.current % self.ring.len() as u64;
        let entry = self.ring[slot as usize].pop();
        match entry {
            Some(_) => self.queued -= 1,
            // A front that has passed must not keep its memory in every bucket.
            None => self.ring[slot as usize].shrink_to(256),
        }
        entry
    }
}
