use coral_core::{Error, InstanceMask, PointPrompt, Rect, Result, RleMask, Size};
use rayon::prelude::*;

use super::TileConfig;
use super::disjoint_sets::DisjointSets;

/// The masks found in one tile of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct TileMasks {
    /// The tile, in pixels of the image.
    pub tile: Rect,
    /// Its masks; their pixels, points and crops are in the frame of the tile.
    pub masks: Vec<InstanceMask>,
}

/// Joins the masks of overlapping tiles to masks of the whole image: each object once, in one piece.
///
/// 1. A mask that a tile's edge cuts is matched, one to one, with the mask of each overlapping tile that has the same
///    class and the largest IoU inside the overlap, if that is at least `match_iou`.
/// 2. Matched masks become their union, or the one of them that no edge cuts if it is about the union and the others
///    stay in its tile. A union has the click and features of its largest part and the mean scores, weighted by area.
/// 3. Of two masks whose IoU, as far as the tile of the worse one shows both, is above `duplicate_iou`, the better one
///    stays: one that no edge cuts, else a union, and among those the one farther from its tile's edges.
///
/// Masks keep the order of their first parts.
///
/// # Errors
/// [`Error::InvalidParameter`] naming a field of `config`, [`Error::InvalidInput`] when a tile lies outside the image
/// or that has more than [`u32::MAX`] pixels, [`Error::ShapeMismatch`] when a mask has not the size of its tile.
///
/// # Examples
/// ```
/// use coral_core::{InstanceMask, Rect, RleMask, Size};
/// use coral_models::{TileConfig, TileMasks, join_tiles};
/// // A bar from x = 2 to x = 17, seen through two tiles.
/// let (left, right) = (Rect { x: 0, y: 0, width: 12, height: 4 }, Rect { x: 8, y: 0, width: 12, height: 4 });
/// let bar = |tile: Rect| {
///     let size = Size { width: tile.width, height: tile.height };
///     let mask = RleMask::from_fn(size, |x, y| (2..18).contains(&(x + tile.x)) && y == 1);
///     TileMasks { tile, masks: vec![InstanceMask::new(mask)] }
/// };
/// let image = Size { width: 20, height: 4 };
/// let joined = join_tiles(image, vec![bar(left), bar(right)], &TileConfig::default())?;
/// assert_eq!(joined.len(), 1);
/// assert_eq!(joined[0].mask, RleMask::from_fn(image, |x, y| (2..18).contains(&x) && y == 1));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn join_tiles(image: Size, tiles: Vec<TileMasks>, config: &TileConfig) -> Result<Vec<InstanceMask>> {
    config.validate()?;
    let mut parts = Vec::new();
    let mut ranges = Vec::new();
    for TileMasks { tile, masks } in tiles {
        check_inside(tile, image)?;
        let first = parts.len();
        for mask in masks {
            parts.extend(Part::new(mask, tile, image, config.edge_tolerance)?);
        }
        ranges.push((tile, first..parts.len()));
    }
    let pairs: Vec<_> = (0..ranges.len())
        .flat_map(|a| (a + 1..ranges.len()).map(move |b| (a, b)))
        .filter_map(|(a, b)| Some((a, b, ranges[a].0.intersection(ranges[b].0)?)))
        .collect();
    let matches = pairs.par_iter().map(|&(a, b, overlap)| {
        let of = |range: &std::ops::Range<usize>| views(&parts, range.clone(), overlap);
        matched(&parts, (&of(&ranges[a].1)?, &of(&ranges[b].1)?), config.match_iou)
    });
    let mut sets = DisjointSets::singletons(parts.len());
    for (a, b) in matches.collect::<Result<Vec<_>>>()?.into_iter().flatten() {
        sets.merge(a, b);
    }
    let groups = sets.into_groups();
    let outcomes = groups.par_iter().map(|group| unite(image, &parts, group, config));
    let outcomes = outcomes.collect::<Result<Vec<_>>>()?;
    let mut parts: Vec<_> = parts.into_iter().map(Some).collect();
    let objects = outcomes.into_iter().filter_map(|outcome| match outcome {
        Outcome::Same(at) => parts[at].take(),
        Outcome::United(part) => Some(*part),
    });
    without_duplicates(objects.collect(), config.duplicate_iou)
}

fn check_inside(tile: Rect, image: Size) -> Result<()> {
    let end = |start: u32, length: u32| u64::from(start) + u64::from(length);
    let (right, bottom) = (end(tile.x, tile.width), end(tile.y, tile.height));
    if right <= image.width.into() && bottom <= image.height.into() {
        return Ok(());
    }
    let Rect { x, y, width, height } = tile;
    Err(Error::input("tiles", format!("{width}x{height} pixels at ({x}, {y}) do not lie inside the {image} image")))
}

/// How much of an object a mask is likely to be, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Completeness {
    /// The tile's edge cuts it.
    Cut,
    /// Several cut ones together.
    United,
    /// One tile shows it whole, this many pixels from the nearest edge that is not the image's.
    Whole(u32),
}

/// A mask in the frame of the image.
#[derive(Debug)]
struct Part {
    mask: InstanceMask,
    bounds: Rect,
    /// What was visible when the mask was made.
    tile: Rect,
    completeness: Completeness,
}

impl Part {
    /// From a mask in the frame of `tile`; none if it is empty.
    fn new(mask: InstanceMask, tile: Rect, image: Size, tolerance: u32) -> Result<Option<Self>> {
        Size { width: tile.width, height: tile.height }.expect("mask of a tile", mask.mask.size())?;
        let placed = mask.mask.place(tile.x, tile.y, image)?;
        let Some(bounds) = placed.bounding_box() else { return Ok(None) };
        let crop_box = Rect {
            x: mask.crop_box.x.saturating_add(tile.x),
            y: mask.crop_box.y.saturating_add(tile.y),
            ..mask.crop_box
        };
        let shift = |p: PointPrompt| PointPrompt { x: p.x + tile.x as f32, y: p.y + tile.y as f32, ..p };
        let margin = margin(bounds, tile, image);
        let completeness = if margin <= tolerance { Completeness::Cut } else { Completeness::Whole(margin) };
        let mask = InstanceMask { mask: placed, point: mask.point.map(shift), crop_box, ..mask };
        Ok(Some(Self { mask, bounds, tile, completeness }))
    }
}

/// Pixels between a mask and the nearest edge of its tile that is not the image's.
fn margin(bounds: Rect, tile: Rect, image: Size) -> u32 {
    let side = |start: u32, length: u32, tile_start: u32, tile_length: u32, total: u32| {
        let before = if tile_start > 0 { start - tile_start } else { u32::MAX };
        let after = (tile_start + tile_length) - (start + length);
        before.min(if tile_start + tile_length < total { after } else { u32::MAX })
    };
    let across = side(bounds.x, bounds.width, tile.x, tile.width, image.width);
    across.min(side(bounds.y, bounds.height, tile.y, tile.height, image.height))
}

/// Those of the parts that reach into `overlap`, and what of them lies there.
fn views(parts: &[Part], range: std::ops::Range<usize>, overlap: Rect) -> Result<Vec<(usize, RleMask)>> {
    let mut views = Vec::new();
    for at in range.filter(|&at| parts[at].bounds.intersection(overlap).is_some()) {
        let view = parts[at].mask.mask.crop(overlap)?;
        views.extend((!view.is_empty()).then_some((at, view)));
    }
    Ok(views)
}

type Views<'a> = &'a [(usize, RleMask)];

/// The pairs of parts of two tiles that show one object, each part at most once, the best pairs first.
fn matched(parts: &[Part], (a, b): (Views<'_>, Views<'_>), threshold: f64) -> Result<Vec<(usize, usize)>> {
    let is_cut = |at: usize| parts[at].completeness == Completeness::Cut;
    let mut candidates = Vec::new();
    for (i, view) in a {
        for (j, other) in b {
            let may_match = (is_cut(*i) || is_cut(*j)) && parts[*i].mask.class == parts[*j].mask.class;
            if may_match && parts[*i].bounds.intersection(parts[*j].bounds).is_some() {
                let iou = view.iou(other)?;
                candidates.extend((iou >= threshold && iou > 0.0).then_some((iou, *i, *j)));
            }
        }
    }
    candidates.sort_by(|x, y| y.0.total_cmp(&x.0));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (_, i, j) in candidates {
        if pairs.iter().all(|&(a, b)| a != i && b != j) {
            pairs.push((i, j));
        }
    }
    Ok(pairs)
}

/// What becomes of matched parts.
enum Outcome {
    /// This part shows the object.
    Same(usize),
    /// All of them together show it.
    United(Box<Part>),
}

/// One object from the parts that show it.
fn unite(image: Size, parts: &[Part], group: &[usize], config: &TileConfig) -> Result<Outcome> {
    let members = || group.iter().map(|&at| &parts[at]);
    let (&[first, _, ..], Some(largest)) = (group, members().max_by_key(|part| part.mask.area())) else {
        return group
            .first()
            .map(|&at| Outcome::Same(at))
            .ok_or_else(|| Error::input("tiles", "an object without parts"));
    };
    let union = RleMask::union_of(image, members().map(|part| &part.mask.mask))?;
    // A whole view is better than pieces, unless it is the view of something else: a branch of a large object, or one
    // that ends early although another tile shows how it goes on.
    let is_alone = |whole: &Part| members().all(|part| reach(part.bounds, whole.tile) <= config.edge_tolerance);
    let whole = group.iter().max_by_key(|&&at| parts[at].completeness);
    if let Some(&at) = whole.filter(|&&at| parts[at].completeness > Completeness::United)
        && is_alone(&parts[at])
        && parts[at].mask.mask.iou(&union)? >= config.match_iou
    {
        return Ok(Outcome::Same(at));
    }
    let total: f64 = members().map(|part| part.mask.area() as f64).sum();
    let mean = |score: fn(&InstanceMask) -> f32| {
        let weighted = members().map(|part| f64::from(score(&part.mask)) * part.mask.area() as f64);
        (weighted.sum::<f64>() / total) as f32
    };
    let mask = InstanceMask {
        predicted_iou: mean(|mask| mask.predicted_iou),
        stability_score: mean(|mask| mask.stability_score),
        crop_box: members().fold(parts[first].mask.crop_box, |all, part| around(all, part.mask.crop_box)),
        mask: union,
        ..largest.mask.clone()
    };
    Ok(Outcome::United(Box::new(Part {
        mask,
        bounds: members().fold(parts[first].bounds, |all, part| around(all, part.bounds)),
        tile: members().fold(parts[first].tile, |all, part| around(all, part.tile)),
        completeness: Completeness::United,
    })))
}

/// How many pixels a box reaches out of a tile.
fn reach(bounds: Rect, tile: Rect) -> u32 {
    let beyond = |start: u32, length: u32, from: u32, side: u32| {
        from.saturating_sub(start).max((start + length).saturating_sub(from + side))
    };
    beyond(bounds.x, bounds.width, tile.x, tile.width).max(beyond(bounds.y, bounds.height, tile.y, tile.height))
}

/// The smallest box around two boxes.
fn around(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let end = |start: u32, length: u32| start.saturating_add(length);
    let (right, bottom) = (end(a.x, a.width).max(end(b.x, b.width)), end(a.y, a.height).max(end(b.y, b.height)));
    Rect { x, y, width: right - x, height: bottom - y }
}

/// Mask NMS: drops what a better object of other tiles shows too. In one tile, that was the generator's part.
fn without_duplicates(objects: Vec<Part>, threshold: f64) -> Result<Vec<InstanceMask>> {
    let better = |a: &Part, b: &Part| {
        b.completeness.cmp(&a.completeness).then(b.mask.predicted_iou.total_cmp(&a.mask.predicted_iou))
    };
    let mut by_left: Vec<usize> = (0..objects.len()).collect();
    by_left.sort_by_key(|&at| objects[at].bounds.x);
    // Pairs of overlapping boxes, by a sweep from left to right.
    let mut rivals: Vec<Vec<usize>> = vec![Vec::new(); objects.len()];
    for (place, &a) in by_left.iter().enumerate() {
        let end = objects[a].bounds.x + objects[a].bounds.width;
        for &b in by_left[place + 1..].iter().take_while(|&&b| objects[b].bounds.x < end) {
            let other_tile = objects[a].tile != objects[b].tile;
            if other_tile && objects[a].bounds.intersection(objects[b].bounds).is_some() {
                rivals[a].push(b);
                rivals[b].push(a);
            }
        }
    }
    let mut order: Vec<usize> = (0..objects.len()).collect();
    order.sort_by(|&a, &b| better(&objects[a], &objects[b]));
    let mut kept = vec![false; objects.len()];
    for at in order {
        let Part { mask, bounds, tile, .. } = &objects[at];
        let view = mask.mask.crop(*tile)?;
        // Cropping a mask takes long, so only those are cropped whose box lets them overlap enough.
        let least = threshold * view.area() as f64;
        let may_cover = |other: Rect| bounds.intersection(other).is_some_and(|shared| shared.area() as f64 >= least);
        let mut is_duplicate = false;
        for &rival in rivals[at].iter().filter(|&&rival| kept[rival] && may_cover(objects[rival].bounds)) {
            is_duplicate = view.iou(&objects[rival].mask.mask.crop(*tile)?)? > threshold;
            if is_duplicate {
                break;
            }
        }
        kept[at] = !is_duplicate;
    }
    Ok(objects.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(object, _)| object.mask).collect())
}
