use std::ops::ControlFlow;
use std::path::Path;

use coral_core::{
    ClassId, Dataset, LabeledPhotograph, Progress, PseudoLabeler, Result, Size, TrainPatchClassifier, UNLABELED,
};
use coral_io::{GridPatches, InMemory, OneHot, Unlabeled};
use coral_models::candle_core::Device;
use coral_models::{Checkpoint, ResNetClassifier, SimClr};
use coral_weak::{
    RecordedPatches, RecordedPatchesConfig, SeaClip, SeaClipConfig, SeaClipLabels, SeaFeats, SeaFeatsConfig,
    SeaFeatsEpoch, SeaFeatsLabels,
};

use super::survey::with_truth;
use super::{Plan, Scores, Stage, States, Survey};
use crate::Bar;

/// One run: what is trained, on what and how.
#[derive(Debug)]
pub struct Experiment<'a, D> {
    /// The photographs.
    pub survey: &'a Survey<D>,
    /// The networks.
    pub plan: &'a Plan,
    /// Of everything random.
    pub seed: u64,
    /// Where the states of trainings are kept, to go on after a kill; none of short ones, which start anew.
    pub states: Option<&'a States>,
    /// How many bytes of photographs or patches SimCLR and SeaCLIP keep in memory; all others are decoded each time.
    pub cache_bytes: usize,
}

impl<D: Dataset<Item = LabeledPhotograph>> Experiment<'_, D> {
    /// An encoder trained by SimCLR on the patches of all photographs, without labels.
    ///
    /// # Errors
    /// When a photograph cannot be read, `start`, a checkpoint, holds another network, or a state that is there is damaged
    /// or of another network.
    pub fn encoder(&self, start: Option<&Path>) -> Result<SimClr> {
        let config = self.plan.simclr.clone();
        let mut simclr = match start {
            Some(path) => SimClr::with_encoder(config, &Checkpoint::open(path)?, self.seed, &Device::Cpu)?,
            None => SimClr::new(config, self.seed, &Device::Cpu)?,
        };
        let bar = Bar::new();
        let patches =
            Unlabeled::new(GridPatches::new(&self.survey.train, self.plan.grid, &bar)?.with_cache(self.cache_bytes));
        let first = self.earlier(Stage::SimClr, |state| simclr.resume(state))?;
        bar.start(self.plan.simclr_epochs, "SimCLR epochs");
        bar.advance(first);
        for epoch in first..self.plan.simclr_epochs {
            simclr.fit_epoch(&patches, self.epoch_seed(1, epoch))?;
            self.keep(Stage::SimClr, |state| simclr.save_training(state, &(epoch + 1)))?;
            bar.advance(1);
        }
        bar.finish();
        Ok(simclr)
    }

    /// Labels of the patches for SeaFeats, by templates of what SimCLR's encoder sees; none when the plan labels anew in
    /// every epoch.
    ///
    /// # Errors
    /// When a photograph cannot be read, or a class has none.
    pub fn template_labels(&self, encoder: &SimClr) -> Result<Option<SeaFeatsLabels>> {
        if self.plan.relabel {
            return Ok(None);
        }
        let (model, classes) = (self.seafeats_start(encoder)?, self.survey.classes.num_ids());
        let training = SeaFeats::new(self.plan.seafeats_labels)?;
        training.label(&model, classes, &self.survey.train, &Bar::new()).map(Some)
    }

    /// SeaFeats, trained on `labels` or, without, on labels by what it sees itself in every epoch.
    ///
    /// # Errors
    /// When a photograph cannot be read, or a state that is there is damaged or of another network.
    pub fn seafeats(&self, encoder: &SimClr, labels: Option<&SeaFeatsLabels>) -> Result<ResNetClassifier> {
        let mut model = self.seafeats_start(encoder)?;
        let start_epoch = self.earlier(Stage::SeaFeats, |state| model.resume(state))?;
        let (epochs, seed) = (self.plan.epochs, self.seed);
        let training = SeaFeats::new(SeaFeatsConfig { epochs, start_epoch, seed, ..self.plan.seafeats_labels })?;
        let (train, bar) = (&self.survey.train, Bar::new());
        let observe = |epoch: &SeaFeatsEpoch, model: &mut ResNetClassifier| {
            self.keep(Stage::SeaFeats, |state| model.save_training(state, &(epoch.epoch + 1)))?;
            Ok(ControlFlow::Continue(()))
        };
        match labels {
            Some(labels) => training.fit_on(&mut model, (train, labels), &bar, observe)?,
            None => training.fit(&mut model, train, &bar, observe)?,
        };
        Ok(model)
    }

    fn seafeats_start(&self, encoder: &SimClr) -> Result<ResNetClassifier> {
        let mut model = ResNetClassifier::new(self.plan.seafeats(self.class_names()), self.seed, &Device::Cpu)?;
        model.copy_encoder(encoder.parameters())?;
        Ok(model)
    }

    /// Labels of the patches for SeaCLIP: background where `labeler` answers `background`, the photograph's elsewhere.
    ///
    /// # Errors
    /// When a photograph cannot be read, or the labels are all of one class.
    pub fn patch_labels(&self, labeler: &dyn PseudoLabeler, background: ClassId) -> Result<SeaClipLabels> {
        let config = SeaClipConfig { grid: self.plan.grid, background_group: background, ..SeaClipConfig::default() };
        SeaClip::new(config)?.label(&self.survey.train, labeler, &Bar::new())
    }

    /// SeaCLIP, trained on `labels`.
    ///
    /// # Errors
    /// When a photograph cannot be read, or a state that is there is damaged or of another network.
    pub fn seaclip(&self, encoder: &SimClr, labels: &SeaClipLabels) -> Result<ResNetClassifier> {
        let mut model = ResNetClassifier::new(self.plan.seaclip(self.class_names()), self.seed, &Device::Cpu)?;
        model.copy_encoder(encoder.parameters())?;
        let start_epoch = self.earlier(Stage::SeaClip, |state| model.resume(state))?;
        let config =
            SeaClipConfig { epochs: self.plan.epochs, start_epoch, seed: self.seed, ..SeaClipConfig::default() };
        let classes = self.survey.classes.num_ids();
        let cache = RecordedPatchesConfig { cache_bytes: self.cache_bytes, ..RecordedPatchesConfig::default() };
        let patches = RecordedPatches::new(&self.survey.train, labels.records.clone(), classes, cache)?;
        SeaClip::new(config)?.fit(&mut model, &patches, &Bar::new(), |epoch, _, model: &mut ResNetClassifier| {
            self.keep(Stage::SeaClip, |state| model.save_training(state, &(epoch + 1)))?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(model)
    }

    /// The same network on the true labels of all patches, where they are known: what weak labels are measured against.
    ///
    /// # Errors
    /// When a photograph cannot be cut.
    pub fn supervised(&self, encoder: &SimClr) -> Result<Option<ResNetClassifier>> {
        let Some(truth) = &self.survey.train_truth else { return Ok(None) };
        let mut patches = Vec::new();
        for index in 0..self.survey.train.len() {
            let cut = self.plan.grid.cut(&self.survey.train.get(index)?.image)?;
            let of_photograph = truth.iter().skip(patches.len()).copied();
            patches.extend(with_truth(cut, of_photograph));
        }
        let patches = OneHot::new(InMemory::new(patches), self.survey.classes.num_ids())?;
        let mut model = ResNetClassifier::new(self.plan.seaclip(self.class_names()), self.seed, &Device::Cpu)?;
        model.copy_encoder(encoder.parameters())?;
        let bar = Bar::new();
        bar.start(self.plan.epochs as u64, "epochs with true labels");
        for epoch in 0..self.plan.epochs as u64 {
            TrainPatchClassifier::fit_epoch(&mut model, &patches, self.epoch_seed(2, epoch))?;
            bar.advance(1);
        }
        bar.finish();
        Ok(Some(model))
    }

    /// How good the labels of the training patches are, where the truth is known: those of the photographs, of the
    /// templates if there are some, and those of SeaCLIP. Patches without label count as the photograph's class.
    ///
    /// # Errors
    /// When a photograph cannot be read.
    pub fn label_scores(&self, templates: Option<&SeaFeatsLabels>, zero_shot: &SeaClipLabels) -> Result<Vec<Scores>> {
        let (train, classes) = (&self.survey.train, &self.survey.classes);
        let Some(truth) = &self.survey.train_truth else { return Ok(Vec::new()) };
        let (mut of_photographs, mut of_zero_shot) = (vec![], vec![]);
        // In the order of the photographs and their patches.
        let mut records = zero_shot.records.iter().peekable();
        for index in 0..train.len() {
            let LabeledPhotograph { image, class } = train.get(index)?;
            for rect in self.plan.grid.patches(Size::of(&image))? {
                let record = records.next_if(|record| record.photograph == index && record.rect == rect);
                of_zero_shot.push(record.map_or(class, |record| record.class));
                of_photographs.push(class);
            }
        }
        let mut labels = vec![("the photograph's", of_photographs.clone())];
        if let Some(templates) = templates {
            let cells = templates.cells.iter().flatten().zip(of_photographs);
            let known = cells.map(|(&label, class)| if label == UNLABELED { class } else { label });
            labels.push(("templates", known.collect()));
        }
        labels.push(("zero-shot", of_zero_shot));
        labels.into_iter().map(|(name, labels)| Scores::of_labels(name, labels, truth.clone(), classes)).collect()
    }

    fn class_names(&self) -> Vec<String> {
        self.survey.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// The first epoch that is left to do.
    fn earlier<T: Default>(&self, stage: Stage, resume: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        match self.states.map(|states| states.state(stage)).filter(|state| state.exists()) {
            Some(state) => resume(&state),
            None => Ok(T::default()),
        }
    }

    fn keep(&self, stage: Stage, save: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.states.map_or(Ok(()), |states| save(&states.state(stage)))
    }

    fn epoch_seed(&self, stage: u64, epoch: u64) -> u64 {
        coral_core::SeededRng::stream(self.seed, (stage << 32) + epoch).bits()
    }
}
