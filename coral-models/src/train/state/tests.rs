use super::*;
use crate::train::testing::{Data, Network, network, network_of, trainer};
use crate::{
    AverageConfig, CosineConfig, EarlyStoppingConfig, Interval, Monitor, OptimizerConfig, Parameters, PlateauConfig,
    ScheduleConfig, TrainerConfig,
};
use candle_core::{DType, Device};
use coral_core::EpochReport;

/// One epoch of three batches.
fn epoch(trainer: &mut Trainer, net: &Network) -> EpochReport {
    for samples in [4, 3, 2] {
        trainer.step(&net.loss(&Data::new(samples + trainer.epoch() as usize)), samples).unwrap();
    }
    let report = trainer.finish_epoch().unwrap();
    if trainer.config().monitor == Monitor::Validation {
        trainer.judge(-f64::from(report.loss)).unwrap();
    }
    report
}

/// The stem rests in the second epoch, as in a fine-tuning by stages.
fn stages(trainer: &mut Trainer, net: &Network, epochs: u64) -> Vec<EpochReport> {
    let mut reports = vec![];
    while trainer.epoch() < epochs {
        match trainer.epoch() {
            1 => _ = trainer.parameters_mut().freeze(|name| name.starts_with("stem.")),
            3 => _ = trainer.parameters_mut().unfreeze(|_| true),
            _ => {}
        }
        reports.push(epoch(trainer, net));
    }
    reports
}

/// Everything that is saved, to the last bit.
fn contents(trainer: &Trainer) -> (BTreeMap<String, Vec<u8>>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    trainer.save(&path, &()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())).collect();
    (tensors, Checkpoint::open_as_named(&path).unwrap().metadata()[KEY].clone())
}

fn configs() -> Vec<TrainerConfig> {
    let plateau = PlateauConfig { factor: 0.7, patience: 0, ..Default::default() };
    let full = TrainerConfig {
        optimizer: OptimizerConfig::ADAMW,
        learning_rate: 0.03,
        schedule: ScheduleConfig::Plateau(plateau),
        clip_norm: Some(0.3),
        clip_value: Some(0.2),
        accumulate: 2,
        average: Some(AverageConfig::default()),
        early_stopping: Some(EarlyStoppingConfig::default()),
        monitor: Monitor::TrainingLoss,
        seed: u64::MAX,
    };
    let cosine = CosineConfig { warmup: 4, ..CosineConfig::new(Interval::Step, 15) };
    let momentum = OptimizerConfig::Sgd { momentum: 0.9, dampening: 0.1, nesterov: false, weight_decay: 0.01 };
    let average = Some(AverageConfig { average_buffers: true, ..Default::default() });
    let schedule = ScheduleConfig::Cosine(cosine);
    let judged = TrainerConfig { monitor: Monitor::Validation, schedule: full.schedule, ..TrainerConfig::default() };
    vec![full, TrainerConfig { optimizer: momentum, schedule, average, ..TrainerConfig::default() }, judged]
}

#[test]
fn an_epoch_that_was_saved_unjudged_is_judged_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let config = configs()[2];
    let (mut first, net) = trainer(config);
    first.step(&net.error(&Data::new(3)), 3).unwrap();
    first.finish_epoch().unwrap();
    first.save(&path, &()).unwrap();
    let (mut second, net) = trainer(config);
    second.resume::<()>(&path).unwrap();
    assert!(second.step(&net.error(&Data::new(3)), 3).unwrap_err().to_string().contains("waits for `judge`"));
    for trainer in [&mut first, &mut second] {
        trainer.judge(0.25).unwrap();
    }
    assert_eq!(contents(&second), contents(&first));
    first.save(&path, &()).unwrap();
    second.resume::<()>(&path).unwrap();
    assert!(second.judge(0.25).is_err());
}

#[test]
fn every_trained_weight_needs_its_average() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (mut saved, net) = trainer(configs()[0]);
    epoch(&mut saved, &net);
    saved.save(&path, &()).unwrap();
    let lacking = Checkpoint::open_as_named(&path).unwrap();
    let mut tensors = BTreeMap::new();
    for name in lacking.names().filter(|name| *name != "average/head.bias") {
        tensors.insert(name.to_owned(), lacking.tensor_as_stored(name, &Device::Cpu).unwrap());
    }
    let metadata = lacking.metadata().clone();
    write_safetensors(&path, &tensors, &metadata).unwrap();
    let error = saved.resume::<()>(&path).unwrap_err().to_string();
    assert!(error.contains("1 missing (average/head.bias)"), "{error}");
}

#[test]
fn a_resumed_training_is_the_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for config in configs() {
        let (mut whole, net) = trainer(config);
        let reports = stages(&mut whole, &net, 5);
        for stop in 0..5 {
            let (mut first, net) = trainer(config);
            let mut resumed_reports = stages(&mut first, &net, stop);
            first.save(&path, &("best F1", 0.1 + 0.2)).unwrap();
            let saved = contents(&first);
            drop((first, net));
            // Another start, to be overwritten, in the midst of an epoch.
            let (parameters, net) = Parameters::create(99, &Device::Cpu, network).unwrap();
            let mut second = Trainer::new(parameters, config).unwrap();
            epoch(&mut second, &net);
            second.step(&net.loss(&Data::new(3)), 3).unwrap();
            let extra: (String, f64) = second.resume(&path).unwrap();
            assert_eq!((extra.0.as_str(), extra.1, second.epoch()), ("best F1", 0.1 + 0.2, stop));
            assert_eq!(contents(&second), saved);
            resumed_reports.extend(stages(&mut second, &net, 5));
            assert_eq!(resumed_reports, reports);
            assert_eq!(contents(&second), contents(&whole));
        }
    }
}

#[test]
fn double_precision_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let double = |value: f64| {
        let (parameters, _) = Parameters::create(3, &Device::Cpu, |vb| vb.get(2, "model.w")).unwrap();
        let (parameters, w) = parameters.converted(DType::F64, |vb| vb.get(2, "model.w")).unwrap();
        let mut trainer = Trainer::new(parameters, TrainerConfig::default()).unwrap();
        trainer.step(&(w * value).unwrap().sum_all().unwrap(), 1).unwrap();
        trainer.finish_epoch().unwrap();
        trainer
    };
    let (first, mut second) = (double(1.0), double(-0.3));
    first.save(&path, &()).unwrap();
    second.resume::<()>(&path).unwrap();
    assert_eq!(contents(&first), contents(&second));
}

#[test]
fn the_weights_can_be_read_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (mut trainer, net) = trainer(configs()[0]);
    epoch(&mut trainer, &net);
    trainer.save(&path, &()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let (read, _) = Parameters::load(&checkpoint, &Device::Cpu, &[OPTIMIZER, AVERAGE], network).unwrap();
    let values = |p: &Parameters| p.get("head.weight").unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(values(&read), values(trainer.parameters()));
}

/// The text of the error, after which nothing may have changed.
fn refused(trainer: &mut Trainer, path: &Path) -> String {
    let before = contents(trainer);
    let error = trainer.resume::<String>(path).unwrap_err().to_string();
    assert_eq!(contents(trainer), before);
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    error
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let config = configs()[0];
    let (mut saved, net) = trainer(config);
    epoch(&mut saved, &net);
    saved.save(&path, &"extra").unwrap();
    for (other, field) in [
        (TrainerConfig { optimizer: OptimizerConfig::ADAM, ..config }, "field `config.optimizer.adam"),
        (TrainerConfig { schedule: ScheduleConfig::Constant, ..config }, "field `config.schedule`"),
        (TrainerConfig { average: None, ..config }, "field `config.average`"),
        (TrainerConfig { seed: 3, ..config }, "field `config.seed`: 18446744073709551615, but this training has 3"),
    ] {
        let text = refused(&mut trainer(other).0, &path);
        assert!(text.contains(field), "{text}");
    }
    let (parameters, _) = Parameters::create(3, &Device::Cpu, network_of(4)).unwrap();
    let text = refused(&mut Trainer::new(parameters, config).unwrap(), &path);
    assert!(text.contains("mis-shaped") && text.contains("head.weight: expected 4x5, got 2x5"), "{text}");
    let deeper = |vb: candle_nn::VarBuilder<'_>| Ok((network(vb.clone())?, vb.get(2, "tail.bias")?));
    let (parameters, _) = Parameters::create(3, &Device::Cpu, deeper).unwrap();
    let text = refused(&mut Trainer::new(parameters, config).unwrap(), &path);
    assert!(text.contains("1 missing (tail.bias)"), "{text}");
    let (mut same, net) = trainer(config);
    let error = same.resume::<u32>(&path).unwrap_err().to_string();
    assert!(error.contains("field `extra`"), "{error}");
    epoch(&mut same, &net);
    same.resume::<String>(&path).unwrap();
    assert_eq!(contents(&same), contents(&saved).clone());
    same.step(&net.loss(&Data::new(2)), 2).unwrap();
    assert!(same.save(&path, &()).unwrap_err().to_string().contains("midst of an epoch"));
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, damaged) = (folder.path().join("state.safetensors"), folder.path().join("damaged.safetensors"));
    let (mut trainer, net) = trainer(configs()[0]);
    epoch(&mut trainer, &net);
    trainer.parameters().save(&path).unwrap();
    assert!(refused(&mut trainer, &path).contains("no training state"));
    trainer.save(&path, &"extra").unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 5, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&damaged, &bytes[..length]).unwrap();
        refused(&mut trainer, &damaged);
    }
    let replaced = |old: &str, new: &str| {
        assert_eq!(old.len(), new.len());
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        std::fs::write(&damaged, bytes).unwrap();
    };
    for (old, new, expected) in [
        (r#"\"version\":2"#, r#"\"version\":7"#, "field `version`: expected 2, found 7"),
        (r#"\"epoch\":"#, r#"\"epork\":"#, "missing field `epoch`"),
        (r#"\"head.bias\":{"#, r#"\"head.bios\":{"#, "field `weights`: lacks `head.bias`"),
        (r#""optimizer/1/head.bias""#, r#""optimizer/1/head.bios""#, "optimizer/1/head.bias"),
        (r#""average/head.bias""#, r#""average/head.bios""#, "average/head.bios"),
    ] {
        replaced(old, new);
        let text = refused(&mut trainer, &damaged);
        assert!(text.contains(expected), "{text}");
    }
    assert!(trainer.resume::<String>(folder.path().join("none.safetensors")).is_err());
}
