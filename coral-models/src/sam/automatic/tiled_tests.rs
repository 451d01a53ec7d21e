use coral_core::image::RgbImage;
use coral_core::{CountingProgress, InstanceMask, NoProgress, PointPrompt, Progress, Rect, RleMask, Size};
use proptest::prelude::*;

use super::fake::{TruthDecoder, discs};
use super::generate::generate;
use super::tiles::generate_on_tiles;
use super::{GeneratorConfig, TileConfig, TileMasks, join_tiles, tile_boxes};

fn tiled(image: &RgbImage, config: &TileConfig, progress: &dyn Progress) -> Vec<InstanceMask> {
    let generator = GeneratorConfig { points_per_side: 16, pred_iou_thresh: 0.1, ..GeneratorConfig::sam() };
    let generator = GeneratorConfig { multimask_output: false, ..generator };
    let segment = |tile: &RgbImage| generate(&TruthDecoder::default(), &generator, tile, &NoProgress);
    generate_on_tiles(image, config, progress, segment).unwrap()
}

/// The joined masks are the objects, each once; in any order.
fn assert_exact(image: &RgbImage, masks: &[InstanceMask], objects: u8) {
    let object = |mask: &InstanceMask| mask.features[0] as u8;
    let mut found: Vec<u8> = masks.iter().map(object).collect();
    found.sort_unstable();
    assert_eq!(found, (1..=objects).collect::<Vec<_>>());
    for mask in masks {
        let truth = RleMask::from_fn(Size::of(image), |x, y| image.get_pixel(x, y)[0] == object(mask));
        assert_eq!(mask.mask, truth, "object {}", object(mask));
        let point = mask.point.unwrap();
        assert!(mask.mask.contains(point.x as u32, point.y as u32));
    }
}

#[test]
fn discs_across_many_tiles_are_whole() {
    let image =
        discs(500, 380, &[(240, 190, 150), (60, 60, 55), (440, 60, 50), (440, 330, 45), (52, 320, 48), (10, 160, 9)]);
    let config = TileConfig { tile: 128, overlap: 40, ..TileConfig::default() };
    let progress = CountingProgress::default();
    let masks = tiled(&image, &config, &progress);
    assert_exact(&image, &masks, 6);
    assert_eq!(progress.done(), tile_boxes(Size::of(&image), 128, 40).unwrap().len() as u64);
    // The big disc covers the crops of all its tiles.
    let big = masks.iter().find(|mask| mask.features[0] == 1.0).unwrap();
    assert!(big.crop_box.width > 256 && big.crop_box.height > 256);
    assert!((big.predicted_iou - 0.89).abs() < 1e-6);
    // A disc well inside a tile comes from that tile alone.
    let small = masks.iter().find(|mask| mask.features[0] == 6.0).unwrap();
    assert_eq!((small.crop_box.width, small.crop_box.height), (128, 128));
}

#[test]
fn one_tile_changes_nothing() {
    let image = discs(120, 90, &[(20, 20, 12), (70, 30, 20), (90, 70, 15)]);
    let masks = tiled(&image, &TileConfig::default(), &NoProgress);
    assert_exact(&image, &masks, 3);
    assert!(masks.iter().all(|mask| mask.crop_box == Rect { x: 0, y: 0, width: 120, height: 90 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn random_discs_are_whole(
        (width, height) in (150u32..420, 150u32..420),
        places in proptest::collection::vec((0f64..1.0, 0f64..1.0, 14i64..120), 1..9),
        (tile, overlap) in (96u32..160, 36u32..48),
    ) {
        let mut apart: Vec<(i64, i64, i64)> = Vec::new();
        for (x, y, r) in places {
            let (x, y) = ((x * f64::from(width)) as i64, (y * f64::from(height)) as i64);
            if apart.iter().all(|&(u, v, s)| (x - u).pow(2) + (y - v).pow(2) > (r + s + 2).pow(2)) {
                apart.push((x, y, r));
            }
        }
        let image = discs(width, height, &apart);
        let masks = tiled(&image, &TileConfig { tile, overlap, ..TileConfig::default() }, &NoProgress);
        assert_exact(&image, &masks, apart.len() as u8);
    }
}

const IMAGE: Size = Size { width: 60, height: 20 };
const LEFT: Rect = Rect { x: 0, y: 0, width: 36, height: 20 };
const RIGHT: Rect = Rect { x: 24, y: 0, width: 36, height: 20 };

/// Columns `from..to` of rows 5 to 14, as far as `tile` shows them.
fn block(tile: Rect, from: u32, to: u32) -> InstanceMask {
    let inside = |x: u32, y: u32| (from..to).contains(&(x + tile.x)) && (5..15).contains(&(y + tile.y));
    InstanceMask::new(RleMask::from_fn(Size { width: tile.width, height: tile.height }, inside))
}

fn join(left: Vec<InstanceMask>, right: Vec<InstanceMask>) -> Vec<InstanceMask> {
    let tiles = vec![TileMasks { tile: LEFT, masks: left }, TileMasks { tile: RIGHT, masks: right }];
    // The tiles are small.
    join_tiles(IMAGE, tiles, &TileConfig { edge_tolerance: 2, ..TileConfig::default() }).unwrap()
}

/// First and last column and the area.
fn extent(mask: &InstanceMask) -> (u32, u32, u64) {
    let bounds = mask.bounding_box().unwrap();
    (bounds.x, bounds.x + bounds.width, mask.area())
}

fn extents(masks: &[InstanceMask]) -> Vec<(u32, u32, u64)> {
    masks.iter().map(extent).collect()
}

#[test]
fn a_whole_view_replaces_a_cut_one() {
    // The left tile shows the object to its edge at 36, one column too far to the left; the right one all of it.
    let joined = join(vec![block(LEFT, 27, 36)], vec![block(RIGHT, 28, 44)]);
    assert_eq!(extents(&joined), [(28, 44, 160)]);
    assert_eq!(joined[0].crop_box, RIGHT);
}

#[test]
fn a_whole_view_of_a_part_replaces_nothing() {
    // The right tile shows an end of the object and misses where the tile begins.
    let joined = join(vec![block(LEFT, 2, 36)], vec![block(RIGHT, 27, 38)]);
    assert_eq!(extents(&joined), [(2, 38, 360)]);
}

#[test]
fn a_view_that_ends_early_replaces_nothing() {
    // The right mask begins 3 columns behind its tile's edge, so that no edge seems to cut it, and is most of the union.
    let joined = join(vec![block(LEFT, 14, 36)], vec![block(RIGHT, 27, 56)]);
    assert_eq!(extents(&joined), [(14, 56, 420)]);
}

#[test]
fn masks_that_end_before_both_edges_are_one() {
    let image = discs(200, 120, &[(100, 60, 50)]);
    let tiles = tile_boxes(Size::of(&image), 120, 40).unwrap();
    // As a network that stops 4 pixels before every edge of a tile.
    let seen = |tile: Rect| {
        let size = Size { width: tile.width, height: tile.height };
        let inside =
            |x: u32, y: u32| (4..tile.width - 4).contains(&x) && image.get_pixel(x + tile.x, y + tile.y)[0] == 1;
        TileMasks { tile, masks: vec![InstanceMask::new(RleMask::from_fn(size, inside))] }
    };
    let joined = join_tiles(Size::of(&image), tiles.into_iter().map(seen).collect(), &TileConfig::default()).unwrap();
    let truth = RleMask::from_fn(Size::of(&image), |x, y| image.get_pixel(x, y)[0] == 1);
    assert_eq!(joined.into_iter().map(|mask| mask.mask).collect::<Vec<_>>(), [truth]);
}

#[test]
fn neighbours_that_touch_at_a_border_stay_apart() {
    // One ends where the left tile does, the next begins there.
    let (near, far) = (block(RIGHT, 24, 36), block(RIGHT, 36, 50));
    assert_eq!(extents(&join(vec![block(LEFT, 2, 36)], vec![near, far])), [(2, 36, 340), (36, 50, 140)]);
}

#[test]
fn nested_and_lonely_masks_stay() {
    // A polyp inside of the overlap, seen by both tiles, on a colony across both.
    let joined = join(vec![block(LEFT, 2, 36), block(LEFT, 28, 32)], vec![block(RIGHT, 24, 50), block(RIGHT, 28, 32)]);
    assert_eq!(extents(&joined), [(2, 50, 480), (28, 32, 40)]);
    // What only one tile has found, cut by its edge.
    assert_eq!(extents(&join(vec![block(LEFT, 2, 36)], vec![])), [(2, 36, 340)]);
    assert_eq!(extents(&join(vec![], vec![block(RIGHT, 24, 30)])), [(24, 30, 60)]);
}

#[test]
fn a_union_averages_scores_by_area() {
    let point = PointPrompt { x: 3.0, y: 9.0, foreground: true };
    let left = InstanceMask { predicted_iou: 0.5, features: vec![1.0], ..block(LEFT, 26, 36) };
    let right = InstanceMask { predicted_iou: 0.8, features: vec![2.0], point: Some(point), ..block(RIGHT, 24, 44) };
    let joined = join(vec![left], vec![InstanceMask { stability_score: 0.4, ..right }]);
    assert_eq!(extents(&joined), [(24, 44, 200)]);
    assert!((joined[0].predicted_iou - 0.7).abs() < 1e-6 && (joined[0].stability_score - 0.6).abs() < 1e-6);
    // The larger part's click, in the frame of the image.
    assert_eq!((joined[0].point, joined[0].features.as_slice()), (Some(PointPrompt { x: 27.0, ..point }), &[2.0][..]));
}

#[test]
fn different_objects_stay_apart() {
    let coral = |mask| InstanceMask { class: Some(1), ..mask };
    let sponge = |mask| InstanceMask { class: Some(2), ..mask };
    assert_eq!(join(vec![coral(block(LEFT, 2, 36))], vec![sponge(block(RIGHT, 24, 50))]).len(), 2);
    assert_eq!(join(vec![coral(block(LEFT, 2, 36))], vec![coral(block(RIGHT, 24, 50))]).len(), 1);
    // Both tiles cut something, but of little overlap.
    assert_eq!(join(vec![block(LEFT, 33, 36)], vec![block(RIGHT, 24, 35)]).len(), 2);
}

#[test]
fn a_cut_mask_joins_one_mask_of_a_tile() {
    // The right tile shows the object and a part of it.
    let joined = join(vec![block(LEFT, 2, 36)], vec![block(RIGHT, 24, 34), block(RIGHT, 24, 50)]);
    assert_eq!(extents(&joined), [(2, 50, 480), (24, 34, 100)]);
}

#[test]
fn of_two_whole_views_the_one_farther_from_the_edge_stays() {
    // The left mask ends 2 columns from its tile's edge, the right one begins 4 from its own.
    let tolerance = TileConfig { edge_tolerance: 0, ..TileConfig::default() };
    let tiles = vec![
        TileMasks { tile: LEFT, masks: vec![block(LEFT, 28, 34)] },
        TileMasks { tile: RIGHT, masks: vec![block(RIGHT, 28, 35)] },
    ];
    let joined = join_tiles(IMAGE, tiles, &tolerance).unwrap();
    assert_eq!(extents(&joined), [(28, 35, 70)]);
}

#[test]
fn bad_tiles_are_refused() {
    let refuse = |tile: Rect, mask: InstanceMask| {
        let tiles = vec![TileMasks { tile, masks: vec![mask] }];
        join_tiles(IMAGE, tiles, &TileConfig::default()).unwrap_err().to_string()
    };
    let outside = Rect { x: 30, ..RIGHT };
    assert!(refuse(outside, block(outside, 30, 40)).contains("36x20 pixels at (30, 0) do not lie inside the 60x20"));
    let small = Rect { width: 9, ..LEFT };
    assert_eq!(refuse(LEFT, block(small, 2, 5)), "mask of a tile: expected shape 36x20, got 9x20");
    let empty = TileMasks { tile: LEFT, masks: vec![block(LEFT, 50, 55)] };
    assert_eq!(join_tiles(IMAGE, vec![empty], &TileConfig::default()).unwrap(), []);
}
