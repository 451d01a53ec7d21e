//! What is written as a picture reads back, and overlays agree with a plain reference.

use coral_core::image::{Rgb, RgbImage};
use coral_core::{Class, ClassSet, LabelMap, Size, UNLABELED};
use coral_io::{
    class_picture, image_size, overlay, read_image, read_label_map, write_image, write_label_map,
    write_palette_label_map,
};
use proptest::prelude::*;

/// Label maps of any shape, one row and one pixel included.
fn label_maps() -> impl Strategy<Value = LabelMap> {
    (1usize..12, 1usize..12, 1u8..=255).prop_flat_map(|(height, width, most)| {
        let ids = proptest::collection::vec(prop_oneof![0..most, Just(UNLABELED)], height * width);
        ids.prop_map(move |ids| LabelMap::from_shape_vec((height, width), ids).unwrap())
    })
}

/// One colour per class.
fn classes() -> ClassSet {
    let class = |id| Class { id, name: format!("class {id}"), color: [id, 255 - id, 7], parent: None };
    ClassSet::new((0..UNLABELED).map(class)).unwrap()
}

/// The overlay of an image below 1000 pixels, as its documentation describes it.
fn plain_overlay(image: &RgbImage, labels: &LabelMap, opacity: f64) -> Vec<[f64; 3]> {
    let (height, width) = labels.dim();
    let mut pixels = Vec::new();
    for y in 0..height as i64 {
        for x in 0..width as i64 {
            let id = labels[[y as usize, x as usize]];
            let below = image.get_pixel(x as u32, y as u32).0.map(f64::from);
            let neighbours = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)];
            let inside = |&(u, v): &(i64, i64)| (0..width as i64).contains(&u) && (0..height as i64).contains(&v);
            let border = neighbours.iter().filter(|p| inside(p)).any(|&(u, v)| labels[[v as usize, u as usize]] != id);
            let share = match (id, border) {
                (UNLABELED, _) => 0.0,
                (_, true) => 1.0,
                (_, false) => opacity,
            };
            let color = [id, 255 - id, 7].map(f64::from);
            pixels.push(std::array::from_fn(|c| below[c] * (1.0 - share) + color[c] * share));
        }
    }
    pixels
}

proptest! {
    #[test]
    fn label_maps_read_back(labels in label_maps()) {
        let folder = tempfile::tempdir().unwrap();
        let (grey, palette) = (folder.path().join("grey.png"), folder.path().join("palette.png"));
        write_label_map(&grey, &labels).unwrap();
        write_palette_label_map(&palette, &labels, &classes()).unwrap();
        prop_assert_eq!(&read_label_map(&grey).unwrap(), &labels);
        prop_assert_eq!(&read_label_map(&palette).unwrap(), &labels);
        prop_assert_eq!(image_size(&grey).unwrap(), Size::of_map(&labels));
        prop_assert_eq!(read_image(&palette).unwrap(), class_picture(&labels, &classes()));
    }

    #[test]
    fn images_read_back(width in 1u32..20, height in 1u32..20, seed in any::<u32>()) {
        let image = RgbImage::from_fn(width, height, |x, y| {
            Rgb((seed ^ (x * 7919 + y * 104_729)).wrapping_mul(2_654_435_761).to_be_bytes()[..3].try_into().unwrap())
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.png");
        write_image(&path, &image).unwrap();
        prop_assert_eq!(read_image(&path).unwrap(), image);
    }

    #[test]
    fn overlays_agree_with_the_plain_way(labels in label_maps(), opacity in 0.0f32..=1.0, seed in any::<u8>()) {
        let (height, width) = labels.dim();
        let image = RgbImage::from_fn(width as u32, height as u32, |x, y| {
            Rgb([seed, (x * 31) as u8, (y * 57) as u8 ^ seed])
        });
        let picture = overlay(&image, &labels, &classes(), opacity).unwrap();
        for (found, expected) in picture.pixels().zip(plain_overlay(&image, &labels, f64::from(opacity))) {
            for (found, expected) in found.0.iter().zip(expected) {
                prop_assert!((f64::from(*found) - expected).abs() <= 1.1, "{} {}", found, expected);
            }
        }
    }
}
