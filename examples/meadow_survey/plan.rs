use coral_core::{PatchGrid, Size};
use coral_models::{
    Augmentation, Cells, CosineConfig, FitConfig, HiddenLayer, Interval, OptimizerConfig, PatchNetworkConfig,
    ResNetClassifierConfig, ResNetConfig, ScheduleConfig, SimClrConfig, TrainerConfig,
};
use coral_weak::{SeaFeatsConfig, SimilarityConfig};

/// Networks, and how long they are trained.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How photographs are cut for SimCLR, SeaCLIP and scoring.
    pub grid: PatchGrid,
    /// Training without labels.
    pub simclr: SimClrConfig,
    /// Its epochs.
    pub simclr_epochs: u64,
    /// Of SeaFeats and SeaCLIP.
    pub epochs: usize,
    /// SeaFeats' labels.
    pub seafeats_labels: SeaFeatsConfig,
    /// Whether SeaFeats labels anew in every epoch by what it sees itself, as published, or keeps the labels of SimCLR's
    /// features: at rates far above the published 1e-5, new labels follow the network's mistakes.
    pub relabel: bool,
    small: bool,
}

/// Pixels along a patch of the synthetic meadows.
const SIDE: u32 = 40;

impl Plan {
    /// For photographs of 320×200: a ResNet-18 of a quarter of the width on patches of 40 pixels, minutes on two cores.
    pub fn small() -> Self {
        let resnet = ResNetConfig::resnet18().with_width(16);
        let augmentation = Augmentation::simclr(Size { width: SIDE, height: SIDE });
        let trainer = TrainerConfig { optimizer: OptimizerConfig::ADAM, learning_rate: 1e-3, ..Default::default() };
        let simclr = SimClrConfig {
            resnet,
            projection: 64,
            temperature: 0.1,
            batch: 64,
            augmentation,
            trainer,
            ..SimClrConfig::default()
        };
        let grid = PatchGrid::SEACLIP;
        // Cosines of features after ReLU need their mean taken off, and the threshold with it.
        let similarity = SimilarityConfig { threshold: -1.0, ..SimilarityConfig::default() };
        let seafeats_labels = SeaFeatsConfig { similarity, centered: true, refinements: 5, ..Default::default() };
        Self { grid, simclr, simclr_epochs: 8, epochs: 8, seafeats_labels, relabel: false, small: true }
    }

    /// What the paper trains.
    pub fn published() -> Self {
        let (simclr, grid) = (SimClrConfig::default(), PatchGrid::SEACLIP);
        let seafeats_labels = SeaFeatsConfig::default();
        Self { grid, simclr, simclr_epochs: 200, epochs: 150, seafeats_labels, relabel: true, small: false }
    }

    /// SeaFeats' classifier.
    pub fn seafeats(&self, class_names: Vec<String>) -> ResNetClassifierConfig {
        let published = ResNetClassifierConfig::seafeats(class_names.len());
        self.adapted(ResNetClassifierConfig { class_names, ..published })
    }

    /// SeaCLIP's classifier, also trained on true labels for comparison.
    pub fn seaclip(&self, class_names: Vec<String>) -> ResNetClassifierConfig {
        let published = ResNetClassifierConfig::seaclip(class_names.len());
        self.adapted(ResNetClassifierConfig { class_names, ..published })
    }

    fn adapted(&self, published: ResNetClassifierConfig) -> ResNetClassifierConfig {
        if !self.small {
            return published;
        }
        let hidden = published.network.hidden.map(|hidden| HiddenLayer { width: 128, ..hidden });
        let cells = Cells::Cut(SIDE as usize);
        let network = PatchNetworkConfig { resnet: self.simclr.resnet, hidden, cells, ..published.network };
        let schedule = ScheduleConfig::Cosine(CosineConfig::new(Interval::Epoch, self.epochs as u64));
        let trainer = TrainerConfig { learning_rate: 1e-3, schedule, ..published.training.trainer };
        let flips = Augmentation { horizontal_flip: 0.5, vertical_flip: 0.5, ..Augmentation::default() };
        let training = FitConfig { trainer, batch: 32, augmentation: Some(flips), ..published.training };
        ResNetClassifierConfig { network, training, ..published }
    }
}
