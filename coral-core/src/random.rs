use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Random numbers that depend on the seed alone: the same on every machine,
/// and in every later version of these crates.
///
/// # Examples
/// ```
/// use coral_core::SeededRng;
/// let mut a = SeededRng::new(7);
/// let mut b = SeededRng::new(7);
/// assert_eq!(a.below(100), b.below(100));
/// assert!((0.0..1.0).contains(&a.uniform()));
/// ```
#[derive(Debug, Clone)]
pub struct SeededRng {
    inner: ChaCha8Rng,
}

impl SeededRng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Self {
        Self { inner: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// An independent generator for part `stream` of a job, so that the parts can be
    /// done in any order or in parallel.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut inner = ChaCha8Rng::seed_from_u64(seed);
        inner.set_stream(stream);
        Self { inner }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// Uniform in 0.0..1.0.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `low..high`.
    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Uniform integer in 0..`bound` (0 when `bound` is 0).
    pub fn below(&mut self, bound: usize) -> usize {
        // The high half of a 64×64-bit product; the bias is below 2⁻⁶⁴·bound.
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Normal with mean 0 and standard deviation 1 (Box–Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Brings `items` into a uniformly random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `count` different numbers of 0..`len`, in random order; all of them when `count > len`.
    pub fn sample_indices(&mut self, len: usize, count: usize) -> Vec<usize> {
        // A sparse Fisher–Yates: memory grows with `count`, not with `len`.
        let mut moved = std::collections::HashMap::new();
        (0..count.min(len))
            .map(|i| {
                let j = i + self.below(len - i);
                let at_i = moved.get(&i).copied().unwrap_or(i);
                moved.insert(j, at_i).unwrap_or(j)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_never_changes() {
        let mut rng = SeededRng::new(1);
        let first: Vec<_> = (0..4).map(|_| rng.below(1000)).collect();
        assert_eq!(first, [402, 80, 596, 219]);
        assert_ne!(SeededRng::stream(1, 1).bits(), SeededRng::stream(1, 2).bits());
    }

    #[test]
    fn moments_are_right() {
        let mut rng = SeededRng::new(5);
        let n = 20_000;
        let (mut sum, mut squares, mut uniform) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let z = rng.normal();
            sum += z;
            squares += z * z;
            uniform += rng.uniform();
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.03 && (squares / n - 1.0).abs() < 0.05 && (uniform / n - 0.5).abs() < 0.01);
    }

    #[test]
    fn samples_are_distinct() {
        let mut rng = SeededRng::new(3);
        for (len, count) in [(10, 10), (1000, 50), (3, 9), (0, 4), (5, 0)] {
            let mut drawn = rng.sample_indices(len, count);
            assert_eq!(drawn.len(), count.min(len));
            drawn.sort_unstable();
            drawn.dedup();
            assert_eq!(drawn.len(), count.min(len));
            assert!(drawn.iter().all(|&i| i < len));
        }
    }

    #[test]
    fn shuffling_keeps_every_item() {
        let mut items: Vec<_> = (0..100).collect();
        SeededRng::new(2).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
