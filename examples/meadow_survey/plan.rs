use coral_core::{PatchGrid, Size};
use coral_models::{
    Augmentation, Cells, ColorJitter, CosineConfig, FitConfig, HiddenLayer, Interval, OptimizerConfig,
    PatchNetworkConfig, RandomCrop, ResNetClassifierConfig, ResNetConfig, ScheduleConfig, SimClrConfig, TrainerConfig,
};

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
    /// How often SeaFeats takes its templates from the cells they label.
    pub refinements: usize,
    /// How much slower than its head SeaFeats' encoder learns; the published program trains both at one small rate.
    pub encoder_rate: f64,
    small: bool,
}

/// Pixels along a patch of the synthetic meadows.
const SIDE: u32 = 40;

impl Plan {
    /// For photographs of 320×200: a ResNet-18 of a quarter of the width on patches of 40 pixels, minutes on two cores.
    pub fn small() -> Self {
        let resnet = ResNetConfig::resnet18().with_width(16);
        let mut augmentation = Augmentation::simclr(Size { width: SIDE, height: SIDE });
        if let Some(RandomCrop::Resized { area, .. }) = &mut augmentation.crop {
            *area = [0.3, 1.0];
        }
        augmentation.color_jitter =
            Some(ColorJitter { probability: 0.8, ..ColorJitter::symmetric(0.4, 0.4, 0.4, 0.1) });
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
        Self { grid, simclr, simclr_epochs: 8, epochs: 8, refinements: 3, encoder_rate: 0.2, small: true }
    }

    /// What the paper trains.
    pub fn published() -> Self {
        let (simclr, grid) = (SimClrConfig::default(), PatchGrid::SEACLIP);
        Self { grid, simclr, simclr_epochs: 200, epochs: 150, refinements: 0, encoder_rate: 1.0, small: false }
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
