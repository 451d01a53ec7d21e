use super::*;
use coral_core::Segmenter;
use coral_core::testing::check_segmenter;

#[test]
fn the_contract_of_segmenters_is_kept() {
    let mut sized = config(3);
    sized.image_size = Some(size(40, 33));
    for config in [config(3), sized] {
        check_segmenter(&segmenter(config), size(37, 29)).unwrap();
    }
}

#[test]
fn batches_give_what_single_images_give() {
    let network = segmenter(config(3));
    let images: Vec<_> = (0..5).map(|seed| scene(size(45, 40), seed).image).collect();
    let maps = network.segment_batch(&images).unwrap();
    let logits = network.logits(&images).unwrap();
    for ((image, map), logits) in images.iter().zip(&maps).zip(&logits) {
        let alone = network.segment(image).unwrap();
        assert!(alone.iter().zip(map).all(|(a, b)| (a - b).abs() < 1e-5));
        for ((class, y, x), &probability) in map.indexed_iter() {
            let powers = [0, 1, 2].map(|other| (logits[[other, y, x]] - logits[[class, y, x]]).exp());
            assert!((probability - 1.0 / powers.iter().sum::<f32>()).abs() < 1e-5);
        }
    }
    assert!(network.segment_batch(&[]).unwrap().is_empty());
}

#[test]
fn images_that_are_too_small_are_named() {
    let network = segmenter(config(2));
    for (width, height) in [(1, 1), (28, 64), (64, 28), (0, 5), (5, 0)] {
        let error = text(network.segment(&RgbImage::new(width, height)));
        assert!(error.contains(&format!("{width}x{height} pixels are too few")), "{error}");
    }
    // In a size of its own the network sees enough of any image.
    let mut sized = config(2);
    sized.image_size = Some(size(32, 32));
    assert_eq!(segmenter(sized).segment(&RgbImage::new(3, 1)).unwrap().dim(), (2, 1, 3));
}

#[test]
fn settings_out_of_range_are_named() {
    let error = |change: &dyn Fn(&mut SegFormerSegmenterConfig)| {
        let mut config = config(2);
        change(&mut config);
        text(SegFormerSegmenter::new(config, 1, &Device::Cpu))
    };
    assert!(error(&|c| c.network.num_labels = 1).contains("`num_labels`: 1; expected 2 to 255"));
    assert!(error(&|c| c.network.num_labels = 256).contains("`num_labels`"));
    assert!(error(&|c| c.network.num_attention_heads[2] = 5).contains("5 heads do not divide the 12 channels"));
    assert!(error(&|c| c.network.num_attention_heads[2] = 0).contains("num_attention_heads"));
    assert!(error(&|c| c.network.depths[1] = 0).contains("`depths`"));
    assert!(error(&|c| c.network.strides[0] = 0).contains("`strides`"));
    assert!(error(&|c| c.network.hidden_sizes[0] = 0).contains("`hidden_sizes`"));
    assert!(error(&|c| c.network.layer_norm_eps = f64::NAN).contains("`layer_norm_eps`"));
    assert!(error(&|c| c.network.drop_path_rate = 1.0).contains("`drop_path_rate`"));
    assert!(error(&|c| c.network.classifier_dropout = f64::NAN).contains("`classifier_dropout`"));
    assert!(error(&|c| c.training.batch = 0).contains("`training.batch`"));
    assert!(error(&|c| c.training.loss.dice_weight = 0.0).contains("`dice_weight`"));
    assert!(error(&|c| c.image_size = Some(size(0, 4))).contains("`image_size`"));
    assert!(error(&|c| c.class_names = vec!["sand".into()]).contains("1 names for 2 classes"));
}
