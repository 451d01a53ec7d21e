use ndarray::{Array2, s};
use proptest::prelude::*;

use crate::{Rect, RleMask, Size};

fn masks(max: usize) -> impl Strategy<Value = Array2<bool>> {
    (0..=max, 0..=max).prop_flat_map(move |(height, width)| mask_of(height, width))
}

/// Noise, or smooth stripes with long runs, and sometimes all of one value.
fn mask_of(height: usize, width: usize) -> impl Strategy<Value = Array2<bool>> {
    let noise = (prop::collection::vec(any::<bool>(), height * width), 1usize..9, any::<bool>());
    noise.prop_map(move |(noise, coarse, inverted)| {
        let cell = |(y, x): (usize, usize)| noise[(y / coarse * width + x / coarse) % noise.len().max(1)] != inverted;
        Array2::from_shape_fn((height, width), cell)
    })
}

fn pairs() -> impl Strategy<Value = (Array2<bool>, Array2<bool>)> {
    (0usize..20, 0usize..80).prop_flat_map(|(height, width)| (mask_of(height, width), mask_of(height, width)))
}

fn edit() -> impl Strategy<Value = (prop::sample::Index, char)> {
    (any::<prop::sample::Index>(), any::<char>())
}

fn naive_counts(mask: &Array2<bool>) -> Vec<u32> {
    let mut counts = vec![0];
    let mut value = false;
    for &pixel in mask.t() {
        if pixel != value {
            counts.push(0);
            value = pixel;
        }
        *counts.last_mut().unwrap() += 1;
    }
    counts
}

fn zip(a: &Array2<bool>, b: &Array2<bool>, keep: impl Fn(bool, bool) -> bool) -> Array2<bool> {
    ndarray::Zip::from(a).and(b).map_collect(|&a, &b| keep(a, b))
}

fn count(mask: &Array2<bool>) -> u64 {
    mask.iter().filter(|&&pixel| pixel).count() as u64
}

proptest! {
    #[test]
    fn encoding_round_trips(mask in masks(70)) {
        let rle = RleMask::encode(&mask);
        prop_assert_eq!(rle.counts(), naive_counts(&mask));
        prop_assert_eq!(rle.decode(), &mask);
        prop_assert_eq!(RleMask::encode(&mask.t().to_owned()).decode(), mask.t());
        prop_assert_eq!(&RleMask::from_fn(rle.size(), |x, y| mask[[y as usize, x as usize]]), &rle);
        let plane = mask.mapv(|pixel| if pixel { 0.51 } else { 0.5 });
        prop_assert_eq!(&RleMask::from_threshold(plane.view(), 0.5), &rle);
        prop_assert_eq!(&RleMask::from_threshold(plane.t().to_owned().t(), 0.5), &rle);
        prop_assert_eq!(&RleMask::from_coco_string(rle.size(), &rle.to_coco_string()).unwrap(), &rle);
        prop_assert_eq!(&RleMask::from_counts(rle.size(), rle.counts()).unwrap(), &rle);
        let json = serde_json::to_string(&rle).unwrap();
        prop_assert_eq!(&serde_json::from_str::<RleMask>(&json).unwrap(), &rle);
    }

    #[test]
    fn queries_equal_those_of_pixels(mask in masks(40)) {
        let rle = RleMask::encode(&mask);
        prop_assert_eq!(rle.area(), count(&mask));
        prop_assert_eq!(rle.is_empty(), count(&mask) == 0);
        let pixels = mask.indexed_iter().filter(|&(_, &pixel)| pixel);
        let inside: Vec<_> = pixels.map(|((y, x), _)| (x as u32, y as u32)).collect();
        let range = |of: fn(&(u32, u32)) -> u32| Some((inside.iter().map(of).min()?, inside.iter().map(of).max()?));
        let expected = range(|p| p.0).zip(range(|p| p.1)).map(|((left, right), (top, bottom))| {
            Rect { x: left, y: top, width: right - left + 1, height: bottom - top + 1 }
        });
        prop_assert_eq!(rle.bounding_box(), expected);
        let mut painted = Array2::from_elem(mask.dim(), false);
        for run in rle.column_runs() {
            prop_assert!(run.length > 0);
            for y in run.y..run.y + run.length {
                prop_assert!(!painted[[y as usize, run.x as usize]], "painted twice");
                painted[[y as usize, run.x as usize]] = true;
            }
        }
        prop_assert_eq!(&painted, &mask);
        for y in 0..=rle.size().height {
            for x in 0..=rle.size().width {
                let expected = mask.get([y as usize, x as usize]).copied().unwrap_or(false);
                prop_assert_eq!(rle.contains(x, y), expected);
            }
        }
    }

    #[test]
    fn sets_equal_those_of_pixels((a, b) in pairs()) {
        let (x, y) = (RleMask::encode(&a), RleMask::encode(&b));
        let encoded = |keep: fn(bool, bool) -> bool| RleMask::encode(&zip(&a, &b, keep));
        prop_assert_eq!(x.union(&y).unwrap(), encoded(|a, b| a || b));
        prop_assert_eq!(x.intersection(&y).unwrap(), encoded(|a, b| a && b));
        prop_assert_eq!(x.difference(&y).unwrap(), encoded(|a, b| a && !b));
        prop_assert_eq!(RleMask::union_of(x.size(), [&x, &y, &x]).unwrap(), encoded(|a, b| a || b));
        let (both, either) = (count(&zip(&a, &b, |a, b| a && b)), count(&zip(&a, &b, |a, b| a || b)));
        prop_assert_eq!(x.intersection_area(&y).unwrap(), both);
        prop_assert_eq!(x.iou(&y).unwrap(), if both == 0 { 0.0 } else { both as f64 / either as f64 });
        prop_assert_eq!(x.crowd_iou(&y).unwrap(), if both == 0 { 0.0 } else { both as f64 / count(&a) as f64 });
    }

    #[test]
    fn crops_and_places_equal_slices(mask in masks(30), margins in prop::array::uniform4(0u32..9)) {
        let [left, top, right, bottom] = margins;
        let rle = RleMask::encode(&mask);
        let (height, width) = mask.dim();
        let size = Size { width: left + width as u32 + right, height: top + height as u32 + bottom };
        let placed = rle.place(left, top, size).unwrap();
        let mut expected = Array2::from_elem(size.shape(), false);
        let (y, x) = (top as usize, left as usize);
        expected.slice_mut(s![y..y + height, x..x + width]).assign(&mask);
        prop_assert_eq!(&placed, &RleMask::encode(&expected));
        let frame = Rect { x: left, y: top, width: width as u32, height: height as u32 };
        prop_assert_eq!(&placed.crop(frame).unwrap(), &rle);
        let (x0, y0) = (x.min(width), y.min(height));
        let part = mask.slice(s![y0.., x0..]).to_owned();
        let Size { width, height } = Size::of_map(&part);
        prop_assert_eq!(rle.crop(Rect { x: x0 as u32, y: y0 as u32, width, height }).unwrap(), RleMask::encode(&part));
    }

    #[test]
    fn mutated_strings_never_panic(mask in masks(20), edits in prop::collection::vec(edit(), 1..4)) {
        let rle = RleMask::encode(&mask);
        let mut text: Vec<char> = rle.to_coco_string().chars().collect();
        for (at, new) in edits {
            let at = at.index(text.len());
            match new as u32 % 3 {
                0 => text[at] = char::from(b'0' + (new as u32 % 64) as u8),
                1 => text.insert(at, new),
                _ if text.len() > 1 => drop(text.remove(at)),
                _ => {}
            }
        }
        if let Ok(read) = RleMask::from_coco_string(rle.size(), &text.into_iter().collect::<String>()) {
            prop_assert_eq!(Size::of_map(&read.decode()), rle.size());
        }
    }

    #[test]
    fn any_text_and_counts_are_read_or_refused(text in ".*", counts in prop::collection::vec(any::<u32>(), 0..5)) {
        let size = Size { width: 3, height: u32::MAX };
        let _ = RleMask::from_coco_string(size, &text);
        prop_assert!(RleMask::from_counts(size, &counts).is_err());
    }
}

#[test]
fn bad_input_is_named() {
    let size = Size { width: 2, height: 2 };
    let text = |counts: &str| RleMask::from_coco_string(size, counts).unwrap_err().to_string();
    assert!(text("0 4").contains("character 2: expected one of"), "{}", text("0 4"));
    assert!(text("2P").contains("cut short"));
    assert!(text("N").contains("negative or beyond 32 bits"));
    assert!(text("ooooooooooooooooooo0").contains("too long"));
    assert!(text("").contains("hold 0 pixels, expected 4 for a 2x2 mask"));
    assert!(RleMask::empty(Size { width: 1 << 16, height: 1 << 17 }).is_empty());
    let huge = RleMask::from_counts(Size { width: 1 << 16, height: 1 << 16 }, &[]).unwrap_err().to_string();
    assert!(huge.contains("expected at most 4294967295"), "{huge}");
    let mask = RleMask::empty(size);
    assert!(mask.place(1, 0, size).unwrap_err().to_string().contains("2x2 pixels at (1, 0)"));
    assert!(mask.place(u32::MAX, 0, size).is_err());
    assert!(mask.crop(Rect { x: 0, y: u32::MAX, width: 1, height: 2 }).is_err());
    assert!(mask.union(&RleMask::empty(Size { width: 4, height: 1 })).is_err());
    assert!(RleMask::union_of(size, [&mask, &RleMask::empty(Size { width: 1, height: 4 })]).is_err());
    let json = r#"{"size": [2, 2], "counts": [0, 5]}"#;
    assert!(serde_json::from_str::<RleMask>(json).unwrap_err().to_string().contains("hold 5 pixels"));
    let json = r#"{"size": [2, 3], "counts": [0, 5, 1]}"#;
    assert_eq!(serde_json::from_str::<RleMask>(json).unwrap().size(), Size { width: 3, height: 2 });
}

#[test]
fn bad_polygons_are_named() {
    let size = Size { width: 9, height: 9 };
    let text = |polygon: Vec<(f64, f64)>| {
        RleMask::from_polygons(&[vec![(0.0, 0.0); 3], polygon], size).unwrap_err().to_string()
    };
    assert!(text(vec![(0.0, 1.0); 2]).contains("`polygons[1]`: expected at least 3 points, got 2"));
    for bad in [f64::NAN, f64::INFINITY, 1e12] {
        assert!(text(vec![(1.0, 1.0), (5.0, bad), (4.0, 0.0)]).contains("expected finite coordinates"));
    }
    assert!(RleMask::from_polygons(&[], size).unwrap().is_empty());
}

#[test]
fn far_outlines_take_no_time() {
    let far = 3.9e8;
    let everything = vec![(-far, -far), (far, -far), (far, far), (-far, far)];
    let size = Size { width: 50, height: 40 };
    assert_eq!(RleMask::from_polygons(&[everything], size).unwrap().counts(), [0, 2000]);
}
