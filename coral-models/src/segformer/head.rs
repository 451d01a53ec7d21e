use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use coral_core::{SeededRng, Size};

use super::block::weights;
use super::config::SegFormerConfig;
use crate::layers::{BatchNorm, Mode, drop_values};
use crate::ops;
use crate::resize_bilinear;

/// The head of linear layers.
///
/// The published program projects every stage's map, enlarges all to the first one's size, puts them side by side and
/// mixes them by a 1×1 convolution. Enlarging and mixing are linear and bilinear weights have the sum 1, so that each map is
/// projected and mixed as small as it is and only the sum is taken in full size: the same values from a fraction of the
/// products.
#[derive(Debug, Clone)]
pub(super) struct DecodeHead {
    /// D×C and D of every stage.
    projections: Vec<(Tensor, Tensor)>,
    /// D×4D×1×1, the last stage first.
    fuse: Tensor,
    norm: BatchNorm,
    /// K×D×1×1 and K.
    classifier: (Tensor, Tensor),
    dropout: f64,
    /// What the layers up to the rectification come to, of weights that are not trained.
    folded: Option<Mix>,
}

/// An affine map of every stage's channels, to be added up.
#[derive(Debug, Clone)]
struct Mix {
    /// D×C.
    maps: Vec<Tensor>,
    /// D×1.
    shift: Tensor,
}

impl DecodeHead {
    pub(super) fn new(config: &SegFormerConfig, vb: &VarBuilder) -> Result<Self> {
        let width = config.decoder_hidden_size;
        let projection = |stage| weights(&[width, config.hidden_sizes[stage]], &vb.pp("linear_c").pp(stage).pp("proj"));
        let init = Init::Randn { mean: 0.0, stdev: 0.02 };
        let mut head = Self {
            projections: (0..4).map(projection).collect::<Result<_>>()?,
            fuse: vb.pp("linear_fuse").get_with_hints((width, 4 * width, 1, 1), "weight", init)?,
            norm: BatchNorm::new(width, &vb.pp("batch_norm"))?,
            classifier: weights(&[config.num_labels, width, 1, 1], &vb.pp("classifier"))?,
            dropout: config.classifier_dropout,
            folded: None,
        };
        let mix = head.mix()?;
        if head.norm.is_fixed() && !mix.shift.track_op() && mix.maps.iter().all(|map| !map.track_op()) {
            let [scale, shift] = head.norm.affine()?.map(|row| row.unsqueeze(1));
            let (scale, shift) = (scale?, shift?);
            let maps = mix.maps.iter().map(|map| map.broadcast_mul(&scale)).collect::<Result<_>>()?;
            head.folded = Some(Mix { maps, shift: ((mix.shift * scale)? + shift)? });
        }
        Ok(head)
    }

    /// N×K×h×w logits from the N×h×w×C maps of the stages, in the size of the first.
    pub(super) fn forward(&self, maps: &[Tensor], mode: Mode, random: Option<&mut SeededRng>) -> Result<Tensor> {
        let (batch, rows, columns, _) = maps[0].dims4()?;
        let planes = match (mode, &self.folded) {
            (Mode::Eval, Some(folded)) => ops::relu(&folded.apply(maps)?)?.flatten_from(2)?,
            _ => {
                let pixels = self.mix()?.apply(maps)?.permute((0, 2, 3, 1))?.contiguous()?;
                self.norm.forward(&pixels, mode, true)?.flatten(1, 2)?.transpose(1, 2)?.contiguous()?
            }
        };
        let (weight, bias) = (self.classifier.0.flatten_from(1)?, self.classifier.1.reshape((1, (), 1))?);
        let logits = weight.broadcast_matmul(&drop_values(planes, self.dropout, random)?)?.broadcast_add(&bias)?;
        logits.reshape((batch, (), rows, columns))
    }

    /// Projections and mixing in one.
    fn mix(&self) -> Result<Mix> {
        let fuse = self.fuse.flatten_from(1)?;
        let (width, _) = fuse.dims2()?;
        let (mut maps, mut shifts) = (vec![], vec![]);
        for (stage, (weight, bias)) in self.projections.iter().enumerate() {
            let part = fuse.narrow(1, (self.projections.len() - 1 - stage) * width, width)?.contiguous()?;
            maps.push(part.matmul(weight)?);
            shifts.push(part.matmul(&bias.unsqueeze(1)?)?);
        }
        let shift = Tensor::cat(&shifts, 1)?.sum_keepdim(1)?;
        Ok(Mix { maps, shift })
    }
}

impl Mix {
    /// The sum of the mapped stages as N×D×h×w planes of the first one's size.
    fn apply(&self, stages: &[Tensor]) -> Result<Tensor> {
        let (_, height, width, _) = stages[0].dims4()?;
        let size = Size { width: width as u32, height: height as u32 };
        let mut sum: Option<Tensor> = None;
        for (map, stage) in self.maps.iter().zip(stages).rev() {
            let (batch, rows, columns, _) = stage.dims4()?;
            let mapped = map.broadcast_matmul(&stage.flatten(1, 2)?.transpose(1, 2)?.contiguous()?)?;
            let planes = |mapped: Tensor| mapped.reshape((batch, (), rows, columns));
            sum = Some(match sum {
                Some(sum) => ops::add_resized(&sum, &planes(mapped)?)?,
                // The shift is added once, on the smallest map.
                None => resize_bilinear(&planes(mapped.broadcast_add(&self.shift)?)?, size)
                    .map_err(candle_core::Error::wrap)?,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg("a head needs at least one map".to_owned()))
    }
}
