use super::*;
use crate::train::testing::{Data, network, trainer};
use crate::{AverageConfig, EarlyStoppingConfig, Goal, OptimizerConfig, ScheduleConfig};
use candle_core::Device;

#[test]
fn parts_of_a_batch_make_the_step_of_the_whole() {
    let config = TrainerConfig { optimizer: OptimizerConfig::SGD, learning_rate: 0.1, ..TrainerConfig::default() };
    let (mut whole, net) = trainer(config);
    let data = Data::new(5);
    whole.step(&net.error(&data), 5).unwrap();
    let report = whole.finish_epoch().unwrap();
    let (mut parts, net) = trainer(TrainerConfig { accumulate: 3, ..config });
    for (start, len) in [(0, 2), (2, 2), (4, 1)] {
        parts.step(&net.error(&data.part(start, len)), len).unwrap();
    }
    let in_parts = parts.finish_epoch().unwrap();
    assert!((report.loss - in_parts.loss).abs() < 1e-6 && report.samples == in_parts.samples);
    assert!((report.gradient_norm - in_parts.gradient_norm).abs() < 1e-6);
    for (name, value) in whole.parameters().trainable() {
        let other = parts.parameters().get(name).unwrap();
        let difference = (value.as_tensor() - other.as_tensor()).unwrap().abs().unwrap().max_all().unwrap();
        assert!(difference.to_scalar::<f32>().unwrap() < 1e-6, "{name}");
    }
}

#[test]
fn a_rest_of_a_batch_makes_a_step_too() {
    let (mut trainer, net) = trainer(TrainerConfig { accumulate: 4, ..TrainerConfig::default() });
    let before = trainer.parameters().get("head.weight").unwrap().copy().unwrap();
    trainer.step(&net.error(&Data::new(2)), 2).unwrap();
    let changed = |trainer: &Trainer| {
        let now = trainer.parameters().get("head.weight").unwrap();
        now.to_vec2::<f32>().unwrap() != before.to_vec2::<f32>().unwrap()
    };
    assert!(!changed(&trainer));
    trainer.finish_epoch().unwrap();
    assert!(changed(&trainer));
}

#[test]
fn clipping_and_reports() {
    let config = TrainerConfig { optimizer: OptimizerConfig::SGD, learning_rate: 1.0, ..TrainerConfig::default() };
    let (mut trainer, net) = trainer(TrainerConfig { clip_norm: Some(1e-3), ..config });
    let before = trainer.parameters().converted(candle_core::DType::F64, network).unwrap().0;
    let data = Data::new(4);
    let error = net.error(&data).to_scalar::<f32>().unwrap();
    let norm = Gradients::of(&net.error(&data), trainer.parameters()).unwrap().norm();
    trainer.step(&net.error(&data), 4).unwrap();
    let report = trainer.finish_epoch().unwrap();
    // The norm is the one before clipping, the step the one after.
    assert_eq!(report, EpochReport { loss: error, samples: 4, learning_rate: 1.0, gradient_norm: norm });
    let moved: f64 = trainer
        .parameters()
        .trainable()
        .map(|(name, now)| {
            let now = now.as_detached_tensor().to_dtype(candle_core::DType::F64).unwrap();
            let moved = (now - before.get(name).unwrap().as_detached_tensor()).unwrap();
            moved.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        })
        .sum();
    assert!((moved.sqrt() / 1e-3 - 1.0).abs() < 0.01, "{}", moved.sqrt());
}

#[test]
fn the_monitored_value_rules_schedule_and_stop() {
    let plateau = crate::PlateauConfig { factor: 0.5, patience: 0, ..Default::default() };
    let stopping = EarlyStoppingConfig { patience: 2, ..Default::default() };
    let (mut trainer, net) = trainer(TrainerConfig {
        schedule: ScheduleConfig::Plateau(plateau),
        early_stopping: Some(stopping),
        monitor: Monitor::Validation,
        ..TrainerConfig::default()
    });
    let mut rates = vec![];
    assert!(trainer.judge(1.0).unwrap_err().to_string().contains("no epoch to judge"));
    for value in [1.0, 2.0, 3.0] {
        assert!(!trainer.should_stop());
        trainer.step(&net.error(&Data::new(3)), 3).unwrap();
        rates.push(trainer.finish_epoch().unwrap().learning_rate);
        assert!(trainer.step(&net.error(&Data::new(3)), 3).unwrap_err().to_string().contains("waits for `judge`"));
        assert!(trainer.judge(f64::NAN).is_err());
        trainer.judge(value).unwrap();
    }
    assert_eq!((rates, trainer.learning_rate()), (vec![1e-3, 1e-3, 5e-4], 2.5e-4));
    assert!(trainer.should_stop() && trainer.epoch() == 3 && trainer.judge(0.5).is_err());
}

#[test]
fn the_training_loss_rules_where_nothing_else_does() {
    let stopping = EarlyStoppingConfig { patience: 1, ..Default::default() };
    let (mut trainer, net) = trainer(TrainerConfig { early_stopping: Some(stopping), ..TrainerConfig::default() });
    for (factor, stop) in [(1.0, false), (1e-3, false), (1.0, true)] {
        trainer.step(&(net.error(&Data::new(3)) * factor).unwrap(), 3).unwrap();
        trainer.finish_epoch().unwrap();
        assert_eq!((trainer.should_stop(), trainer.early_stopping().unwrap().is_best()), (stop, !stop));
    }
    assert!(trainer.judge(0.1).unwrap_err().to_string().contains("no epoch to judge"));
}

#[test]
fn swapped_averages_are_not_stepped_on() {
    let average = Some(AverageConfig::default());
    let (mut trainer, net) = trainer(TrainerConfig { accumulate: 2, average, ..TrainerConfig::default() });
    let values = |trainer: &Trainer| trainer.parameters().get("head.weight").unwrap().to_vec2::<f32>().unwrap();
    let before = values(&trainer);
    trainer.step(&net.error(&Data::new(2)), 2).unwrap();
    trainer.swap_average().unwrap();
    for _ in 0..2 {
        assert!(trainer.finish_epoch().unwrap_err().to_string().contains("swap back first"));
    }
    trainer.swap_average().unwrap();
    assert_eq!(values(&trainer), before);
    let report = trainer.finish_epoch().unwrap();
    assert!(report.gradient_norm > 0.0 && report.samples == 2 && values(&trainer) != before);
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let (mut trainer, net) = trainer(TrainerConfig { average: Some(AverageConfig::default()), ..Default::default() });
    assert!(trainer.finish_epoch().unwrap_err().to_string().contains("without steps"));
    let loss = net.error(&Data::new(2));
    assert!(trainer.step(&loss, 0).unwrap_err().to_string().contains("samples"));
    assert!(trainer.step(&(&loss * f64::NAN).unwrap(), 2).is_err());
    trainer.swap_average().unwrap();
    assert!(trainer.step(&loss, 2).unwrap_err().to_string().contains("swap back first"));
    trainer.swap_average().unwrap();
    assert!(trainer.finish_epoch().is_err(), "nothing was counted");
    let text = |config| Trainer::new(Parameters::create(0, &Device::Cpu, network).unwrap().0, config);
    let text = |config| text(config).unwrap_err().to_string();
    assert!(text(TrainerConfig { accumulate: 0, ..Default::default() }).contains("`accumulate`"));
    let rising = EarlyStoppingConfig { goal: Goal::Maximize, ..Default::default() };
    let rising = TrainerConfig { early_stopping: Some(rising), ..Default::default() };
    assert!(text(rising).contains("`goal`: the training loss is to fall"));
    let rising = crate::PlateauConfig { goal: Goal::Maximize, ..Default::default() };
    let schedule = ScheduleConfig::Plateau(rising);
    assert!(text(TrainerConfig { schedule, ..Default::default() }).contains("`goal`"));
    let falling = EarlyStoppingConfig { goal: Goal::Minimize, ..Default::default() };
    let (early_stopping, monitor) = (Some(falling), Monitor::Validation);
    let crossed = TrainerConfig { schedule, early_stopping, monitor, ..Default::default() };
    assert!(text(crossed).contains("expected one goal for both"));
    assert!(text(TrainerConfig { clip_norm: Some(0.0), ..Default::default() }).contains("`clip_norm`"));
    assert!(text(TrainerConfig { learning_rate: -1.0, ..Default::default() }).contains("`learning_rate`"));
}
