use super::*;
use crate::sam::training::EmbeddedImages;
use crate::sam::training::backward::may_rest;
use crate::{Augmentation, Checkpoint, Embedding, Sam};
use coral_core::NoProgress;

#[test]
fn an_image_is_learned_by_the_whole_network() {
    let mut trainer = trainer(SamPart::Whole);
    let losses: Vec<_> = (0..60).map(|seed| trainer.fit_epoch(&Reef(1), seed, &NoProgress).unwrap()).collect();
    let mean = |part: &[crate::sam::training::SamEpoch]| {
        part.iter().map(|epoch| f64::from(epoch.training.loss)).sum::<f64>() / part.len() as f64
    };
    let (first, last) = (mean(&losses[..5]), mean(&losses[55..]));
    assert!(last < 0.7 * first, "{first} {last}");
    let epoch = losses[59];
    assert_eq!((epoch.training.samples, epoch.images, epoch.vanished_masks), (3, 1, 0));
    assert!(epoch.semantic.unwrap() < losses[0].semantic.unwrap());
}

#[test]
fn only_the_part_that_is_trained_moves() {
    for part in [SamPart::Whole, SamPart::Decoder, SamPart::SemanticBranch, SamPart::ClassHead] {
        let mut trainer = trainer(part);
        let before = weights(&trainer);
        for seed in 0..4 {
            trainer.fit_epoch(&Reef(2), seed, &NoProgress).unwrap();
        }
        for (name, values) in weights(&trainer) {
            // What is added to every key leaves the attention as it is, but for rounding; some tokens are never the best.
            let idle = name.ends_with("k_proj.bias") || may_rest(&name);
            let (moved, trained) = (values != before[&name], part.contains(&name));
            assert!(moved == trained || idle && trained, "{part:?}: {name} moved: {moved}");
        }
    }
}

#[test]
fn embeddings_serve_as_well_as_photographs() {
    let folder = tempfile::tempdir().unwrap();
    let train = |embedded: Option<bool>| {
        let mut trainer = trainer(SamPart::Decoder);
        let report = match embedded {
            None => trainer.fit_epoch(&Reef(3), 5, &NoProgress).unwrap(),
            Some(on_disk) => {
                let folder = on_disk.then(|| folder.path());
                let images = EmbeddedImages::new(&trainer, &Reef(3), folder, &NoProgress).unwrap();
                trainer.fit_epoch_embedded(&images, 5, &NoProgress).unwrap()
            }
        };
        (report, weights(&trainer))
    };
    let plain = train(None);
    assert!(train(Some(false)) == plain && train(Some(true)) == plain);
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files
    };
    let (before, bytes) = (files(), std::fs::read(&files()[0]).unwrap());
    let features =
        |path| Embedding::load(path, &CPU).unwrap().features().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected = features(&before[0]);
    assert_eq!(before.len(), 3);
    // What is damaged is made anew, what is not stays.
    std::fs::write(&before[0], &bytes[..bytes.len() / 2]).unwrap();
    let changed = |at: usize| std::fs::metadata(&before[at]).unwrap().modified().unwrap();
    let kept = changed(1);
    assert!(train(Some(true)) == plain);
    assert!(features(&before[0]) == expected);
    assert_eq!((files(), changed(1)), (before.clone(), kept));
    // Another encoder has its own.
    let other = SamTrainer::new(config(SamPart::Decoder), 4, &CPU).unwrap();
    EmbeddedImages::new(&other, &Reef(1), Some(folder.path()), &NoProgress).unwrap();
    assert_eq!(files().len(), 4);
    let mut whole = trainer(SamPart::Whole);
    let error = EmbeddedImages::new(&whole, &Reef(1), None, &NoProgress).unwrap_err().to_string();
    assert!(error.contains("the image encoder is to be trained"), "{error}");
    let images = EmbeddedImages::new(&other, &Reef(1), None, &NoProgress).unwrap();
    assert!(whole.fit_epoch_embedded(&images, 1, &NoProgress).is_err());
}

#[test]
fn resuming_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for part in [SamPart::Whole, SamPart::ClassHead] {
            let mut whole = trainer(part);
            let mut reports: Vec<_> =
                (0..4).map(|seed| whole.fit_epoch(&Reef(3), seed, &NoProgress).unwrap()).collect();
            let mut first = trainer(part);
            for seed in 0..2u64 {
                first.fit_epoch(&Reef(3), seed, &NoProgress).unwrap();
                first.save_training(&path, &(seed + 1)).unwrap();
            }
            // Killed in the third epoch; another process, which began with other values, goes on.
            drop(first);
            let mut second = SamTrainer::new(config(part), 99, &CPU).unwrap();
            let next: u64 = second.resume(&path).unwrap();
            let rest: Vec<_> = (next..4).map(|seed| second.fit_epoch(&Reef(3), seed, &NoProgress).unwrap()).collect();
            assert_eq!((next, rest), (2, reports.split_off(2)));
            assert_eq!(weights(&second), weights(&whole));
        }
    });
    let mut other = config(SamPart::Whole);
    other.training.loss.dice_weight = 2.0;
    let mut other = SamTrainer::new(other, 3, &CPU).unwrap();
    let error = other.resume::<u64>(&path).unwrap_err().to_string();
    assert!(error.contains("config.training."), "{error}");
}

#[test]
fn a_saved_network_is_one_to_predict_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coral.safetensors");
    let mut trained = trainer(SamPart::Whole);
    trained.fit_epoch(&Reef(2), 1, &NoProgress).unwrap();
    trained.save(&path).unwrap();
    let again = SamTrainer::open(&path, &CPU).unwrap();
    assert_eq!((again.config(), weights(&again)), (trained.config(), weights(&trained)));
    let image = Reef(1).get(0).unwrap().image;
    let sam = Sam::open(&path).unwrap();
    // Heads and image size cannot be told from shapes.
    assert_eq!(sam.config(), &trained.config().network);
    let masks = |predictor: crate::Predictor| {
        let prompt = PromptConfig::single().first_prompt(&Reef(1).get(0).unwrap().masks[0].mask, 20, 1).unwrap();
        predictor.predict(&predictor.embed(&image).unwrap(), &prompt).unwrap()
    };
    assert_eq!(masks(crate::Predictor::new(sam)), masks(trained.predictor().unwrap()));
    assert!(Checkpoint::open(&path).unwrap().metadata().contains_key("coral_sam"));
}

/// The reef with other masks.
struct Changed<F>(usize, F);

impl<F: Fn(&mut AnnotatedImage) + Send + Sync> Dataset for Changed<F> {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.0
    }

    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let mut image = Reef(self.0).get(index)?;
        self.1(&mut image);
        Ok(image)
    }

    fn name(&self, index: usize) -> Result<String> {
        Reef(self.0).name(index)
    }
}

#[test]
fn masks_count_as_configured() {
    let run = |config: SamTrainerConfig, images: &dyn Dataset<Item = AnnotatedImage>| {
        SamTrainer::new(config, 3, &CPU).unwrap().fit_epoch(images, 1, &NoProgress)
    };
    let nameless = Changed(2, |image: &mut AnnotatedImage| image.masks.iter_mut().for_each(|mask| mask.class = None));
    let epoch = run(config(SamPart::Whole), &nameless).unwrap();
    assert!(epoch.semantic.is_none() && epoch.dice.is_some() && epoch.training.samples == 6);
    // Negatives teach the class alone.
    let mut negative = config(SamPart::Whole);
    negative.training.loss.background_masks = false;
    let negatives = Changed(1, |image: &mut AnnotatedImage| image.masks.retain(|mask| mask.class == Some(0)));
    let epoch = run(negative, &negatives).unwrap();
    assert!(epoch.semantic.is_some() && epoch.dice.is_none() && epoch.training.samples == 1);
    let mut few = config(SamPart::Decoder);
    few.training.masks_per_image = 2;
    assert_eq!(run(few, &Reef(3)).unwrap().training.samples, 6);
    // What is too small to be seen is counted and left out, as are photographs without a mask.
    let dust = Changed(2, |image: &mut AnnotatedImage| {
        let size = Size::of(&image.image);
        image.masks[0].mask = RleMask::from_fn(size, |x, y| x == 3 && y == 3);
        image.masks[1].mask = RleMask::empty(size);
    });
    let epoch = run(config(SamPart::Decoder), &dust).unwrap();
    assert_eq!((epoch.training.samples, epoch.vanished_masks, epoch.images), (2, 4, 2));
    let none = Changed(2, |image: &mut AnnotatedImage| image.masks.clear());
    assert!(run(config(SamPart::Decoder), &none).unwrap_err().to_string().contains("without steps"));
}

#[test]
fn masks_that_do_not_fit_are_named() {
    let text = |images: &dyn Dataset<Item = AnnotatedImage>| {
        trainer(SamPart::Decoder).fit_epoch(images, 1, &NoProgress).unwrap_err().to_string()
    };
    let unknown = Changed(1, |image: &mut AnnotatedImage| image.masks[1].class = Some(7));
    assert_eq!(text(&unknown), "invalid input `masks[1] of reef-0`: its class 7 is none of the classes");
    let other = Changed(1, |image: &mut AnnotatedImage| {
        image.masks[0].mask = RleMask::empty(Size { width: 3, height: 3 });
    });
    assert!(text(&other).contains("masks[0] of reef-0"), "{}", text(&other));
    // Also those that are not drawn: nobody wants to hear of them after days.
    let mut one = config(SamPart::Decoder);
    one.training.masks_per_image = 1;
    for seed in 0..6 {
        let mut trainer = SamTrainer::new(one.clone(), 3, &CPU).unwrap();
        let error = trainer.fit_epoch(&unknown, seed, &NoProgress).unwrap_err().to_string();
        assert!(error.contains("masks[1] of reef-0"), "{error}");
    }
}

#[test]
fn photographs_are_augmented_with_their_masks() {
    let flips = Augmentation { horizontal_flip: 1.0, vertical_flip: 1.0, ..Augmentation::default() };
    let sample = Reef(1).get(0).unwrap();
    let turned = flips.apply_annotated(&sample, 1).unwrap();
    assert_eq!(turned.masks.len(), 3);
    for (before, after) in sample.masks.iter().zip(&turned.masks) {
        let Size { width, height } = before.mask.size();
        let expected = RleMask::from_fn(before.mask.size(), |x, y| before.mask.contains(width - 1 - x, height - 1 - y));
        assert_eq!((&after.mask, after.class), (&expected, before.class));
    }
    assert_eq!(flips.apply_annotated(&turned, 1).unwrap(), sample);
    let mut config = config(SamPart::Decoder);
    config.training.augmentation = Some(Augmentation { horizontal_flip: 0.5, ..Augmentation::default() });
    let mut trainer = SamTrainer::new(config, 3, &CPU).unwrap();
    trainer.fit_epoch(&Reef(2), 1, &NoProgress).unwrap();
    assert!(EmbeddedImages::new(&trainer, &Reef(1), None, &NoProgress).unwrap_err().to_string().contains("augment"));
}

#[test]
fn blocks_near_the_image_learn_slower() {
    let config = config(SamPart::Whole);
    let expected = [
        ("image_encoder.pos_embed", 3),
        ("image_encoder.patch_embed.proj.weight", 3),
        ("image_encoder.blocks.0.mlp.lin1.weight", 2),
        ("image_encoder.blocks.1.norm1.bias", 1),
        ("image_encoder.neck.0.weight", 0),
        ("mask_decoder.iou_token.weight", 0),
    ];
    for (name, steps) in expected {
        assert_eq!(config.rate_scale(name), 0.8f64.powi(steps), "{name}");
    }
}
