use coral_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The shape of a DINOv2 network.
///
/// Everything but the attention heads can be read off a checkpoint ([`DinoV2Config::from_checkpoint`]).
///
/// # Examples
/// ```
/// use coral_models::DinoV2Config;
/// assert_eq!(DinoV2Config::vit_l14().width, 1024);
/// assert_eq!(DinoV2Config::vit_b14().with_registers(4).registers, 4);
/// ```
///
/// # References
/// Oquab et al., *DINOv2: Learning Robust Visual Features without Supervision*, TMLR 2024; Darcet et al., *Vision
/// Transformers Need Registers*, ICLR 2024.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DinoV2Config {
    /// Side of the square images that its position table is for, in pixels (518).
    pub image_size: usize,
    /// Pixels along a patch's side (14).
    pub patch: usize,
    /// Token width, C (384, 768, 1024, 1536).
    pub width: usize,
    /// Blocks (12, 12, 24, 40).
    pub layers: usize,
    /// Attention heads; width / 64 in the published networks.
    pub heads: usize,
    /// The perceptrons.
    pub mlp: DinoV2Mlp,
    /// Tokens beside those of class and patches, which hold what belongs to no place (0 or 4).
    pub registers: usize,
    /// How the position table is resized for images of another size than [`image_size`](Self::image_size).
    pub positions: PositionInterpolation,
}

/// The perceptrons of a DINOv2 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DinoV2Mlp {
    /// Two layers with GELU between; the hidden width (4 × the token width).
    Gelu(usize),
    /// Two parallel layers, one of them through SiLU, multiplied, and a third: ViT-g. The hidden width (4096).
    SwiGlu(usize),
}

impl DinoV2Mlp {
    /// The hidden width.
    pub fn hidden(self) -> usize {
        match self {
            Self::Gelu(hidden) | Self::SwiGlu(hidden) => hidden,
        }
    }
}

/// How a position table is resized. A square image of the trained size needs no resizing, whichever is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionInterpolation {
    /// Bicubic to the size of the grid, as `transformers` does for networks without registers (and as DinoVdeau was
    /// trained): every patch keeps its place in the image.
    #[default]
    Bicubic,
    /// Bicubic with coordinates that follow (grid + 0.1) / trained grid, as the original program does for networks
    /// without registers, which moves positions a little; also along a side of the trained length.
    BicubicOffset,
    /// Bicubic with antialiasing, as both programs do for networks with registers.
    BicubicAntialias,
}

impl DinoV2Config {
    /// ViT-S/14 (22 M weights).
    pub fn vit_s14() -> Self {
        Self::published(384, 12, DinoV2Mlp::Gelu(4 * 384))
    }

    /// ViT-B/14 (86 M weights).
    pub fn vit_b14() -> Self {
        Self::published(768, 12, DinoV2Mlp::Gelu(4 * 768))
    }

    /// ViT-L/14 (304 M weights).
    pub fn vit_l14() -> Self {
        Self::published(1024, 24, DinoV2Mlp::Gelu(4 * 1024))
    }

    /// ViT-g/14 (1.1 G weights).
    pub fn vit_g14() -> Self {
        Self::published(1536, 40, DinoV2Mlp::SwiGlu(4096))
    }

    fn published(width: usize, layers: usize, mlp: DinoV2Mlp) -> Self {
        let positions = PositionInterpolation::Bicubic;
        Self { image_size: 518, patch: 14, width, layers, heads: usual_heads(width), mlp, registers: 0, positions }
    }

    /// The same with register tokens, whose position table is resized with antialiasing. Published networks have 4.
    pub fn with_registers(self, registers: usize) -> Self {
        Self { registers, positions: PositionInterpolation::usual(registers), ..self }
    }

    /// Patches along the side of an image of [`image_size`](Self::image_size).
    pub fn grid(&self) -> usize {
        self.image_size / self.patch.max(1)
    }

    /// Checks that the parts fit each other.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("image_size", self.image_size),
            ("patch", self.patch),
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("mlp", self.mlp.hidden()),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=LARGEST).contains(size)) {
            return Err(Error::parameter(*name, format!("expected 1 to {LARGEST}, got {size}")));
        }
        if !self.image_size.is_multiple_of(self.patch) || self.grid() > LARGEST_GRID {
            let (patch, size) = (self.patch, self.image_size);
            let reason = format!("expected a multiple of the patch ({patch}) up to {LARGEST_GRID} patches, got {size}");
            return Err(Error::parameter("image_size", reason));
        }
        if !self.width.is_multiple_of(self.heads) {
            let reason = format!("{} heads do not divide the width {}", self.heads, self.width);
            return Err(Error::parameter("heads", reason));
        }
        if self.registers > LARGEST_GRID {
            return Err(Error::parameter(
                "registers",
                format!("expected at most {LARGEST_GRID}, got {}", self.registers),
            ));
        }
        Ok(())
    }
}

impl PositionInterpolation {
    /// That of `transformers`, which is also the original program's where there are registers.
    pub(super) fn usual(registers: usize) -> Self {
        if registers > 0 { Self::BicubicAntialias } else { Self::Bicubic }
    }
}

/// Heads of the published networks.
pub(super) fn usual_heads(width: usize) -> usize {
    (width / 64).max(1)
}

/// Most patches along an image's side; attention on more would take days.
pub(super) const LARGEST_GRID: usize = 1 << 8;
/// Largest width, depth or count, far beyond any network; keeps products of sizes from overflowing.
const LARGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_networks_are_valid() {
        for (config, heads) in [
            (DinoV2Config::vit_s14(), 6),
            (DinoV2Config::vit_b14(), 12),
            (DinoV2Config::vit_l14(), 16),
            (DinoV2Config::vit_g14(), 24),
        ] {
            let config = config.with_registers(4);
            config.validate().unwrap();
            assert_eq!((config.heads, config.grid()), (heads, 37));
            assert_eq!(config.positions, PositionInterpolation::BicubicAntialias);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<DinoV2Config>(&json).unwrap(), config);
        }
    }

    #[test]
    fn impossible_configurations_name_the_field() {
        let invalid = |change: fn(&mut DinoV2Config)| {
            let mut config = DinoV2Config::vit_s14();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(invalid(|c| c.patch = 0).contains("`patch`"));
        assert!(invalid(|c| c.mlp = DinoV2Mlp::SwiGlu(0)).contains("`mlp`"));
        assert!(invalid(|c| c.heads = 7).contains("7 heads do not divide the width 384"));
        assert!(invalid(|c| c.image_size = 520).contains("multiple of the patch (14)"));
        assert!(invalid(|c| c.registers = 1000).contains("`registers`"));
    }
}
