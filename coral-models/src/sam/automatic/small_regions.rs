use coral_core::{ColumnRun, Result, RleMask};

use super::disjoint_sets::DisjointSets;

/// A mask after [`remove_small_regions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanedMask {
    /// The mask without small holes and islands.
    pub mask: RleMask,
    /// Whether there was a region below a limit. As published, that includes a mask that is nothing but one small
    /// island, which stays as it is.
    pub had_small_region: bool,
}

/// Fills the holes of `mask` that have fewer than `min_hole_area` pixels, then drops the islands of fewer than
/// `min_island_area`; 0 leaves them. When all islands are that small, the largest stays.
///
/// Regions are connected through 8 neighbours. A hole is any connected background, also at the image's border. The
/// work grows with the number of runs, not of pixels.
///
/// # Errors
/// Those of [`RleMask::from_counts`]; a mask that exists gives none.
///
/// # Examples
/// ```
/// use coral_core::{RleMask, ndarray::array};
/// use coral_models::remove_small_regions;
/// let rough = array![
///     [1, 1, 1, 0, 0, 0],
///     [1, 0, 1, 0, 0, 1],
///     [1, 1, 1, 0, 0, 0],
/// ];
/// let cleaned = remove_small_regions(&RleMask::encode(&rough.mapv(|v| v == 1)), 2, 2)?;
/// let smooth = array![
///     [1, 1, 1, 0, 0, 0],
///     [1, 1, 1, 0, 0, 0],
///     [1, 1, 1, 0, 0, 0],
/// ];
/// assert_eq!(cleaned.mask.decode(), smooth.mapv(|v| v == 1));
/// assert!(cleaned.had_small_region);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; equal to the published rule, to the choice among equally large
/// islands.
pub fn remove_small_regions(mask: &RleMask, min_hole_area: u32, min_island_area: u32) -> Result<CleanedMask> {
    let mut cleaned = CleanedMask { mask: mask.clone(), had_small_region: false };
    if min_hole_area > 0 {
        let holes = Regions::of(complement(mask)?.column_runs().collect());
        let small = holes.select(|region| region.area < u64::from(min_hole_area));
        if !small.is_empty() {
            cleaned.mask = cleaned.mask.union(&mask_of(mask, &small)?)?;
            cleaned.had_small_region = true;
        }
    }
    if min_island_area > 0 {
        let islands = Regions::of(cleaned.mask.column_runs().collect());
        let is_small = |region: &Region| region.area < u64::from(min_island_area);
        if islands.iter().any(is_small) {
            let largest = islands.iter().max_by_key(|region| (region.area, std::cmp::Reverse(region.first_block)));
            let all_small = islands.iter().all(is_small);
            let kept = islands.select(|region| if all_small { Some(region) == largest } else { !is_small(region) });
            cleaned.mask = mask_of(mask, &kept)?;
            cleaned.had_small_region = true;
        }
    }
    Ok(cleaned)
}

/// One connected region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    area: u64,
    /// Row and column of the region's first block of 2×2 pixels, in the order of rows. The published program takes the
    /// first of equally large islands in the order of OpenCV's labelling, which goes by such blocks.
    first_block: (u32, u32),
}

/// Runs and the connected regions that they form.
struct Regions {
    runs: Vec<ColumnRun>,
    /// The run that stands for each run's region.
    roots: Vec<usize>,
    /// What is known of a region, at its root.
    regions: Vec<Option<Region>>,
}

impl Regions {
    /// `runs` come column by column, from top to bottom.
    fn of(runs: Vec<ColumnRun>) -> Self {
        let mut sets = DisjointSets::singletons(runs.len());
        // `near` walks over the column to the left while `at` walks over this one.
        let mut near = 0;
        for (at, run) in runs.iter().enumerate() {
            let left_of = |other: &ColumnRun| other.x + 1 == run.x;
            while runs[near].x + 1 < run.x || (left_of(&runs[near]) && runs[near].y + runs[near].length < run.y) {
                near += 1;
            }
            let beside = runs[near..at].iter().take_while(|other| left_of(other) && other.y <= run.y + run.length);
            (near..).zip(beside).for_each(|(other, _)| sets.merge(at, other));
        }
        let roots: Vec<usize> = (0..runs.len()).map(|at| sets.root(at)).collect();
        let mut regions: Vec<Option<Region>> = vec![None; runs.len()];
        for (run, &root) in runs.iter().zip(&roots) {
            let block = (run.y / 2, run.x / 2);
            let region = regions[root].get_or_insert(Region { area: 0, first_block: block });
            region.area += u64::from(run.length);
            region.first_block = region.first_block.min(block);
        }
        Self { runs, roots, regions }
    }

    fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().flatten()
    }

    /// The runs of the regions that fulfil `condition`.
    fn select(&self, condition: impl Fn(&Region) -> bool) -> Vec<ColumnRun> {
        let chosen: Vec<bool> = self.regions.iter().map(|region| region.as_ref().is_some_and(&condition)).collect();
        self.runs.iter().zip(&self.roots).filter(|&(_, &root)| chosen[root]).map(|(&run, _)| run).collect()
    }
}

/// Background and foreground exchanged.
fn complement(mask: &RleMask) -> Result<RleMask> {
    let counts: Vec<u32> = std::iter::once(0).chain(mask.counts().iter().copied()).collect();
    RleMask::from_counts(mask.size(), &counts)
}

/// A mask of the size of `frame` from sorted runs.
fn mask_of(frame: &RleMask, runs: &[ColumnRun]) -> Result<RleMask> {
    let size = frame.size();
    let mut counts = Vec::with_capacity(2 * runs.len() + 1);
    let mut end = 0;
    for run in runs {
        let start = run.x * size.height + run.y;
        counts.extend([start - end, run.length]);
        end = start + run.length;
    }
    counts.push(size.pixels() as u32 - end);
    RleMask::from_counts(size, &counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    fn picture(rows: &[&str]) -> RleMask {
        let pixels: Vec<bool> = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#')).collect();
        RleMask::encode(&Array2::from_shape_vec((rows.len(), rows[0].len()), pixels).unwrap())
    }

    /// The connected pixels of `value`, by flooding, in the order of 2×2 blocks.
    fn flood(mask: &Array2<bool>, value: bool) -> Vec<Vec<(usize, usize)>> {
        let (height, width) = mask.dim();
        let mut seen = mask.mapv(|v| v != value);
        let mut regions = Vec::new();
        let blocks = (0..height.div_ceil(2)).flat_map(|y| (0..width.div_ceil(2)).map(move |x| (2 * y, 2 * x)));
        for start in blocks.flat_map(|(y, x)| [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)]) {
            let mut region = Vec::new();
            let mut open = vec![start];
            while let Some((y, x)) = open.pop() {
                if y < height && x < width && !std::mem::replace(&mut seen[[y, x]], true) {
                    region.push((y, x));
                    let around = |v: usize| v.saturating_sub(1)..=v + 1;
                    open.extend(around(y).flat_map(|y| around(x).map(move |x| (y, x))));
                }
            }
            regions.extend((!region.is_empty()).then_some(region));
        }
        regions
    }

    fn naive(mask: &Array2<bool>, min_hole: usize, min_island: usize) -> (Array2<bool>, bool) {
        let mut result = mask.clone();
        let holes: Vec<_> = flood(mask, false).into_iter().filter(|hole| hole.len() < min_hole).collect();
        holes.iter().flatten().for_each(|&(y, x)| result[[y, x]] = true);
        let islands = flood(&result, true);
        let most = islands.iter().map(Vec::len).max().unwrap_or(0);
        let largest = islands.iter().position(|island| island.len() == most);
        let changed = !holes.is_empty() || islands.iter().any(|island| island.len() < min_island);
        for (at, island) in islands.iter().enumerate().filter(|(_, island)| island.len() < min_island) {
            if most >= min_island || Some(at) != largest {
                island.iter().for_each(|&(y, x)| result[[y, x]] = false);
            }
        }
        (result, changed)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn equals_flooding(
            (height, width) in (1usize..14, 1usize..14),
            bits in proptest::collection::vec(0u8..100, 14 * 14),
            (density, min_hole, min_island) in (1u8..100, 0u32..12, 0u32..12),
        ) {
            let mask = Array2::from_shape_fn((height, width), |(y, x)| bits[y * 14 + x] < density);
            let (expected, changed) = naive(&mask, min_hole as usize, min_island as usize);
            let cleaned = remove_small_regions(&RleMask::encode(&mask), min_hole, min_island).unwrap();
            prop_assert_eq!(cleaned.mask.decode(), expected);
            prop_assert_eq!(cleaned.had_small_region, changed);
        }
    }

    #[test]
    fn diagonal_neighbours_are_connected() {
        let chain = picture(&["#....", ".#...", "..#..", "...##"]);
        let cleaned = remove_small_regions(&chain, 0, 5).unwrap();
        assert_eq!(cleaned, CleanedMask { mask: chain, had_small_region: false });
    }

    #[test]
    fn one_small_island_stays_but_counts_as_changed() {
        let dot = picture(&["....", ".#..", "...."]);
        let cleaned = remove_small_regions(&dot, 0, 9).unwrap();
        assert_eq!(cleaned, CleanedMask { mask: dot, had_small_region: true });
    }

    #[test]
    fn the_first_block_wins_among_equal_islands() {
        // Row by row, the right one comes first; by blocks of two rows, the left one.
        let pair = picture(&["....#", "#....", "....."]);
        let cleaned = remove_small_regions(&pair, 0, 4).unwrap();
        assert_eq!(cleaned.mask, picture(&[".....", "#....", "....."]));
    }

    #[test]
    fn masks_of_one_value() {
        let empty = picture(&["...", "..."]);
        let full = picture(&["###", "###"]);
        assert_eq!(
            remove_small_regions(&empty, 3, 3).unwrap(),
            CleanedMask { mask: empty.clone(), had_small_region: false }
        );
        assert_eq!(remove_small_regions(&empty, 7, 3).unwrap().mask, full);
        assert_eq!(remove_small_regions(&full, 7, 3).unwrap(), CleanedMask { mask: full, had_small_region: false });
    }
}
