//! Tuning on a user's own classes.

use super::*;
use crate::sam::training::{EmbeddedImage, EmbeddedImages, SamFitConfig, TunedHead};
use crate::weights::write_safetensors;
use crate::{Checkpoint, GeneratorConfig, MaskGenerator, Predictor, Sam};
use coral_core::{ClassId, NoProgress, Remapping};

/// Five classes: sand (1) and coral (2), of which 0 and 4 are corals, and the background.
fn genera() -> ClassSet {
    let mut classes = ClassSet::from_names(["Acropora", "sand", "coral", "background", "Porites"]).unwrap();
    for id in [0, 4] {
        classes.set_parent(id, Some(2)).unwrap();
    }
    classes.set_color(4, [1, 2, 3]).unwrap();
    classes
}

/// The reef with those classes.
struct Genera(usize);

impl Dataset for Genera {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.0
    }

    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let mut image = Reef(self.0).get(index)?;
        for (mask, class) in image.masks.iter_mut().zip([0, 4, 3]) {
            mask.class = Some(class);
        }
        Ok(image)
    }

    fn name(&self, index: usize) -> Result<String> {
        Reef(self.0).name(index)
    }
}

/// The same with coarser classes.
struct Coarse(Remapping);

impl Dataset for Coarse {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        2
    }

    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let mut image = Genera(2).get(index)?;
        for mask in &mut image.masks {
            mask.class = mask.class.map(|class| self.0.get(class));
        }
        Ok(image)
    }

    fn name(&self, index: usize) -> Result<String> {
        Reef(2).name(index)
    }
}

/// One image.
struct InMemory(EmbeddedImage);

impl Dataset for InMemory {
    type Item = EmbeddedImage;

    fn len(&self) -> usize {
        1
    }

    fn get(&self, _: usize) -> Result<EmbeddedImage> {
        Ok(self.0.clone())
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(index.to_string())
    }
}

fn base(folder: &tempfile::TempDir, seed: u64) -> Checkpoint {
    let path = folder.path().join(format!("base-{seed}.safetensors"));
    SamTrainer::new(config(SamPart::Whole), seed, &CPU).unwrap().save(&path).unwrap();
    Checkpoint::open(path).unwrap()
}

fn tuning(part: SamPart) -> SamTrainerConfig {
    let training = SamFitConfig { part, loader: config(part).training.loader, ..SamFitConfig::tuning() };
    SamTrainerConfig { background: 3, ..SamTrainerConfig::new(tiny(3), genera(), training) }
}

#[test]
fn a_tuned_head_goes_onto_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let (base, other) = (base(&folder, 1), base(&folder, 2));
    let path = folder.path().join("head.safetensors");
    for part in [SamPart::ClassHead, SamPart::SemanticBranch, SamPart::Decoder] {
        let mut trainer = SamTrainer::fine_tune(tuning(part), &base, 7, &CPU).unwrap();
        for seed in 0..3 {
            trainer.fit_epoch(&Genera(2), seed, &NoProgress).unwrap();
        }
        TunedHead::of(&trainer).unwrap().save(&path).unwrap();
        let head = TunedHead::open(&path).unwrap();
        assert_eq!((head.classes(), head.background()), (&genera(), 3));
        assert!(head.tensors().keys().all(|name| part.contains(name)));
        let sam = head.load_onto(&base, &CPU).unwrap();
        assert_eq!(sam.config().semantic.unwrap().classes, 5);
        let image = Genera(1).get(0).unwrap();
        let prompt = PromptConfig::single().first_prompt(&image.masks[0].mask, 20, 1).unwrap();
        let masks =
            |predictor: &Predictor| predictor.predict(&predictor.embed(&image.image).unwrap(), &prompt).unwrap();
        assert_eq!(masks(&Predictor::new(sam.clone())), masks(&trainer.predictor().unwrap()));
        let error = head.load_onto(&other, &CPU).unwrap_err().to_string();
        assert!(error.contains("head.safetensors: was tuned on weights of fingerprint"), "{error}");
        assert!(error.contains(head.base()) && error.contains("base-2.safetensors has "), "{error}");
    }
    let size = |path: &std::path::Path| std::fs::metadata(path).unwrap().len();
    let small = SamTrainer::fine_tune(tuning(SamPart::ClassHead), &base, 7, &CPU).unwrap();
    TunedHead::of(&small).unwrap().save(&path).unwrap();
    assert!(4 * size(&path) < size(base.path()));
}

#[test]
fn damaged_heads_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(&folder, 1);
    let path = folder.path().join("head.safetensors");
    let trainer = SamTrainer::fine_tune(tuning(SamPart::ClassHead), &base, 7, &CPU).unwrap();
    TunedHead::of(&trainer).unwrap().save(&path).unwrap();
    let (bytes, good) = (std::fs::read(&path).unwrap(), Checkpoint::open(&path).unwrap());
    let cut = folder.path().join("cut.safetensors");
    for keep in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&cut, &bytes[..keep]).unwrap();
        assert!(matches!(TunedHead::open(&cut).unwrap_err(), Error::Format { .. }), "{keep}");
    }
    assert!(TunedHead::open(base.path()).unwrap_err().to_string().contains("expected a tuned head"));
    let mut tensors = TunedHead::open(&path).unwrap().tensors().clone();
    let last = "mask_decoder.cate_prediction_head.layers.2.bias";
    let mut with = |tensor: &[f32]| {
        tensors.insert(last.to_owned(), candle_core::Tensor::new(tensor, &CPU).unwrap());
        write_safetensors(&cut, &tensors, good.metadata()).unwrap();
        TunedHead::open(&cut).and_then(|head| head.load_onto(&base, &CPU)).unwrap_err().to_string()
    };
    let text = with(&[0.0; 4]);
    assert!(text.contains("cut.safetensors") && text.contains(&format!("{last}: expected 5, got 4")), "{text}");
    let text = with(&[0.0, 1.0, f32::NAN, 0.0, 0.0]);
    assert!(text.contains(last) && text.contains("NaN"), "{text}");
    let whole = SamTrainer::new(config(SamPart::Whole), 1, &CPU).unwrap();
    assert!(TunedHead::of(&whole).unwrap_err().to_string().contains("save it as a whole"));
}

#[test]
fn classes_can_be_coarse_and_generated_masks_have_them() {
    let folder = tempfile::tempdir().unwrap();
    let base = base(&folder, 1);
    // Both genera are coral there, and the background is number 0.
    let (classes, remapping) = genera().objects_at_level(2, 0).unwrap();
    let training = tuning(SamPart::SemanticBranch).training;
    let config = SamTrainerConfig::new(tiny(3), classes, training);
    let mut trainer = SamTrainer::fine_tune(config, &base, 7, &CPU).unwrap();
    let reef = Coarse(remapping);
    trainer.trainer_mut().optimizer_mut().scale_learning_rate(|_| 3.0).unwrap();
    let epochs: Vec<_> = (0..250).map(|seed| trainer.fit_epoch(&reef, seed, &NoProgress).unwrap()).collect();
    let of = |at: usize| epochs[at].semantic.unwrap();
    assert!(of(249) < 0.5 * of(0), "{} {}", of(0), of(249));
    assert!(epochs[0].focal.is_none() && epochs[0].iou.is_none());
    let head = TunedHead::of(&trainer).unwrap();
    assert_eq!(head.classes().name(1), "coral");
    let predictor = Predictor::new(head.load_onto(&base, &CPU).unwrap());
    let image = Genera(1).get(0).unwrap();
    let embedding = predictor.embed(&image.image).unwrap();
    let (mut right, mut all) = (0, 0);
    for (mask, class) in image.masks.iter().zip([1, 1, 0]) {
        for seed in 0..20 {
            let prompt = PromptConfig::single().first_prompt(&mask.mask, 20, seed).unwrap();
            for found in predictor.predict(&embedding, &prompt).unwrap() {
                right += usize::from(found.class == Some(class));
                all += 1;
            }
        }
    }
    assert!(4 * right > 3 * all, "{right} of {all}");
    let generate = |background_class: Option<ClassId>| {
        let config = GeneratorConfig {
            background_class,
            points_per_side: 6,
            crop_n_layers: 0,
            box_nms_thresh: 1.0,
            pred_iou_thresh: 0.0,
            stability_score_thresh: 0.0,
            min_hole_area: 0,
            min_island_area: 0,
            ..GeneratorConfig::coralscop()
        };
        MaskGenerator::new(predictor.clone(), config).unwrap().generate(&image.image).unwrap()
    };
    let classes =
        |masks: &[InstanceMask]| masks.iter().filter_map(|mask| mask.class).collect::<std::collections::BTreeSet<_>>();
    let found = classes(&generate(None));
    assert!(!found.is_empty() && found.iter().all(|class| [0, 1].contains(class)), "{found:?}");
    for &class in &found {
        let rest = found.iter().copied().filter(|&other| other != class);
        assert!(classes(&generate(Some(class))).into_iter().eq(rest), "without {class}");
    }
    assert!(!classes(&generate(Some(head.background()))).contains(&0));
}

#[test]
fn what_the_class_head_sees_is_computed_once() {
    let folder = tempfile::tempdir().unwrap();
    // A network that tells the masks apart, of other classes.
    let mut pretrained = trainer(SamPart::Whole);
    for seed in 0..100 {
        pretrained.fit_epoch(&Reef(3), seed, &NoProgress).unwrap();
    }
    let path = folder.path().join("base.safetensors");
    pretrained.save(&path).unwrap();
    let base = Checkpoint::open(&path).unwrap();
    let mut trainer = SamTrainer::fine_tune(tuning(SamPart::ClassHead), &base, 7, &CPU).unwrap();
    let images = EmbeddedImages::new(&trainer, &Genera(3), None, &NoProgress).unwrap();
    let maps = trainer.class_maps(&images, (2, 5), &NoProgress).unwrap();
    // Three images of three masks, two prompts each, four tokens.
    assert_eq!(maps.len(), 3 * 3 * 2 * 4);
    let before = weights(&trainer);
    assert_eq!(maps.iter().count(), maps.len());
    let right = |trainer: &SamTrainer| {
        let found = trainer.classify_maps(&maps).unwrap();
        assert_eq!(found.len(), maps.len());
        found.iter().zip(maps.iter()).filter(|(found, (_, class))| *found == class).count()
    };
    trainer.trainer_mut().optimizer_mut().scale_learning_rate(|_| 3.0).unwrap();
    let epochs: Vec<_> = (0..150).map(|seed| trainer.fit_epoch_on_maps(&maps, 16, seed).unwrap()).collect();
    let (first, last) = (epochs[0].semantic.unwrap(), epochs[149].semantic.unwrap());
    assert!(last < 0.5 * first && epochs[0].training.samples == maps.len(), "{first} {last}");
    // A third of them is of each class.
    assert!(5 * right(&trainer) > 3 * maps.len(), "{} of {}", right(&trainer), maps.len());
    for (name, values) in weights(&trainer) {
        assert!(values == before[&name] || SamPart::ClassHead.contains(&name), "{name}");
    }
    // The same loss as from the images: the same maps under the same head.
    let mut fixed = tuning(SamPart::ClassHead);
    fixed.training.trainer.learning_rate = 0.0;
    let mut fixed = SamTrainer::fine_tune(fixed, &base, 7, &CPU).unwrap();
    let from_maps = fixed.class_maps(&images, (40, 1), &NoProgress).unwrap();
    let from_maps = fixed.fit_epoch_on_maps(&from_maps, 99, 1).unwrap().semantic.unwrap();
    let from_images =
        (0..40).map(|seed| fixed.fit_epoch_embedded(&images, seed, &NoProgress).unwrap().semantic.unwrap());
    let from_images = from_images.sum::<f64>() / 40.0;
    assert!((from_maps / from_images - 1.0).abs() < 0.02, "{from_maps} {from_images}");
    // Of 20x20 masks of 40 pixels, a pixel is a quarter of one.
    let mut dusty = images.get(0).unwrap();
    dusty.masks[1].mask = RleMask::from_fn(dusty.masks[1].mask.size(), |x, y| (x, y) == (3, 3));
    let maps = trainer.class_maps(&InMemory(dusty), (3, 5), &NoProgress).unwrap();
    assert_eq!(maps.len(), 2 * 3 * 4);
    assert_eq!(trainer.fit_epoch_on_maps(&maps, 16, 1).unwrap().vanished_masks, 1);
    let branch = SamTrainer::fine_tune(tuning(SamPart::SemanticBranch), &base, 7, &CPU).unwrap();
    assert!(branch.class_maps(&images, (1, 1), &NoProgress).unwrap_err().to_string().contains("expected `class_head`"));
}

#[test]
fn weights_of_segment_anything_get_a_semantic_branch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sam.safetensors");
    let plain = SamConfig { semantic: None, ..tiny(3) };
    let training = config(SamPart::Decoder).training;
    let plain = SamTrainerConfig::new(plain, ClassSet::default(), training);
    assert!(plain.network.semantic.is_none());
    let mut trainer = SamTrainer::new(plain, 1, &CPU).unwrap();
    let epoch = trainer.fit_epoch(&Reef(1), 1, &NoProgress).unwrap();
    assert!(epoch.semantic.is_none() && epoch.dice.is_some());
    trainer.save(&path).unwrap();
    let base = Checkpoint::open(&path).unwrap();
    let refused = SamTrainer::fine_tune(tuning(SamPart::ClassHead), &base, 1, &CPU).unwrap_err().to_string();
    assert!(refused.contains("no semantic branch"), "{refused}");
    let mut trainer = SamTrainer::fine_tune(tuning(SamPart::SemanticBranch), &base, 1, &CPU).unwrap();
    trainer.fit_epoch(&Genera(1), 1, &NoProgress).unwrap();
    let sam: Sam = TunedHead::of(&trainer).unwrap().load_onto(&base, &CPU).unwrap();
    assert_eq!(sam.config(), &trainer.config().network);
}

#[test]
fn images_that_teach_nothing_are_passed_over() {
    let mut masks_alone = config(SamPart::Whole);
    masks_alone.training.loss.semantic_weight = 0.0;
    masks_alone.training.loss.background_masks = false;
    masks_alone.background = 1;
    // The first disc is background: nothing is learnt of its pixels, nor of its class.
    struct Discs(usize);
    impl Dataset for Discs {
        type Item = AnnotatedImage;

        fn len(&self) -> usize {
            self.0
        }

        fn get(&self, index: usize) -> Result<AnnotatedImage> {
            let mut image = Reef(self.0).get(index)?;
            image.masks.truncate(1 + 2 * index);
            Ok(image)
        }

        fn name(&self, index: usize) -> Result<String> {
            Reef(self.0).name(index)
        }
    }
    let mut trainer = SamTrainer::new(masks_alone, 3, &CPU).unwrap();
    let epoch = trainer.fit_epoch(&Discs(2), 1, &NoProgress).unwrap();
    assert_eq!((epoch.images, epoch.training.samples), (1, 3));
    let nothing = trainer.fit_epoch(&Discs(1), 1, &NoProgress).unwrap_err().to_string();
    assert!(nothing.contains("an epoch without steps"), "{nothing}");
}

#[test]
fn settings_that_cannot_work_are_named() {
    let text = |config: SamTrainerConfig| SamTrainer::new(config, 1, &CPU).unwrap_err().to_string();
    let with = |change: &dyn Fn(&mut SamTrainerConfig)| {
        let mut config = config(SamPart::Whole);
        change(&mut config);
        text(config)
    };
    let mobile =
        |c: &mut SamTrainerConfig| c.network = SamConfig { semantic: c.network.semantic, ..SamConfig::mobile_sam() };
    assert!(with(&mobile).contains("`training.part`: the image encoder of MobileSAM"));
    assert!(with(&|c| c.background = 9).contains("`background`: 9 is none"));
    assert!(with(&|c| c.classes = genera()).contains("`network.semantic.classes`: expected 5"));
    assert!(with(&|c| c.training.masks_per_image = 0).contains("`training.masks_per_image`"));
    assert!(with(&|c| c.training.layer_decay = 0.0).contains("`training.layer_decay`"));
    assert!(with(&|c| c.training.loss.dice_weight = -1.0).contains("`loss.dice_weight`"));
    assert!(with(&|c| c.training.loss.focal.gamma = f64::NAN).contains("`loss.focal.gamma`"));
    assert!(with(&|c| c.training.loss.focal.alpha = Some(2.0)).contains("`loss.focal.alpha`: expected 0 to 1, got 2"));
    assert!(with(&|c| c.training.loss.label_smoothing = -0.1).contains("`loss.label_smoothing`"));
    assert!(with(&|c| c.training.loss.class_weights = Some(vec![1.0; 2])).contains("loss.class_weights"));
    assert!(with(&|c| c.training.loss.class_weights = Some(vec![1.0, -2.0, 1.0])).contains("at least 0, got -2"));
    let none = |c: &mut SamTrainerConfig| {
        (c.network.semantic, c.training.part) = (None, SamPart::ClassHead);
    };
    assert!(with(&none).contains("`network.semantic`"));
}
