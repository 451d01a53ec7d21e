use coral_core::{ImageRaster, LabelRaster, Rect, Size};

use super::{LagoonSurvey, SyntheticLagoon, SyntheticLagoonConfig};

fn lagoon(seed: u64) -> SyntheticLagoon {
    SyntheticLagoon::new(SyntheticLagoonConfig::default(), seed).unwrap()
}

#[test]
fn windows_are_parts_of_one_picture() {
    let lagoon = lagoon(3);
    let (all, part) = (Rect { x: 100, y: 50, width: 80, height: 60 }, Rect { x: 120, y: 70, width: 31, height: 17 });
    let (image, labels) = (lagoon.read_image(all).unwrap().image, lagoon.read_labels(all).unwrap());
    let shifted = Rect { x: 20, y: 20, ..part };
    assert_eq!(lagoon.read_image(part).unwrap().image, shifted.crop(&image));
    assert_eq!(lagoon.read_labels(part).unwrap(), labels.read_labels(shifted).unwrap());
    let (x, y) = lagoon.grid().transform.world(130.5, 75.5);
    assert_eq!(lagoon.class_at(x, y), labels[[25, 30]]);
    assert!(lagoon.read_labels(Rect { x: 1000, ..all }).is_err());
}

#[test]
fn every_class_has_its_share() {
    for seed in 0..4 {
        let lagoon = lagoon(seed);
        let labels = lagoon.read_labels(Rect::whole(LabelRaster::size(&lagoon))).unwrap();
        let share = |class: u8| labels.iter().filter(|&&label| label == class).count() as f32 / labels.len() as f32;
        let shares = [0, 1, 2, 3, 4].map(share);
        assert!(shares[..4].iter().all(|&share| share > 0.015), "seed {seed}: {shares:?}");
        assert!((0.3..0.75).contains(&shares[4]), "seed {seed}: {shares:?}");
    }
}

#[test]
fn frames_show_what_lies_below() {
    let lagoon = lagoon(5);
    let survey = LagoonSurvey { transect_m: 20.0, step_m: 10.0, ..Default::default() };
    let track = survey.track(&lagoon, 1).unwrap();
    assert_eq!(track, survey.track(&lagoon, 1).unwrap());
    let frames = survey.frames(&lagoon, &track, 1);
    assert_eq!(frames, survey.frames(&lagoon, &track, 1));
    for frame in &frames {
        assert!((frame.cover.iter().sum::<f32>() - 1.0).abs() < 1e-3);
        let below = lagoon.class_at(frame.position.0, frame.position.1);
        assert!(frame.present(1e-4).contains(&below));
    }
    assert!(frames.iter().any(|frame| frame.present(0.1).len() > 1));
}

#[test]
fn bad_settings_are_named() {
    let text = |config: SyntheticLagoonConfig| SyntheticLagoon::new(config, 0).unwrap_err().to_string();
    let config = SyntheticLagoonConfig::default();
    assert!(text(SyntheticLagoonConfig { size: Size { width: 0, height: 4 }, ..config.clone() }).contains("size"));
    assert!(text(SyntheticLagoonConfig { pixel_m: f32::NAN, ..config.clone() }).contains("pixel_m"));
    assert!(text(SyntheticLagoonConfig { sand: 1.0, ..config }).contains("sand"));
    let track = |survey: LagoonSurvey| survey.track(&lagoon(0), 0).unwrap_err().to_string();
    assert!(track(LagoonSurvey { step_m: 0.0, ..Default::default() }).contains("step_m"));
    assert!(track(LagoonSurvey { margin_m: 60.0, ..Default::default() }).contains("margin_m"));
}
