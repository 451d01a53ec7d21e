use coral_core::Result;

use super::model::HEADS;
use crate::Checkpoint;

/// Places of a `nn.Sequential` around a residual network, as the files of SeaFeats number them, and what they are.
const PLACES: [(&str, &str); 8] = [
    ("0", "conv1"),
    ("1", "bn1"),
    ("4", "layer1"),
    ("5", "layer2"),
    ("6", "layer3"),
    ("7", "layer4"),
    ("11", "head.hidden"),
    ("13", "head.classes"),
];

/// What stands before the names in files of other programs: SimCLR's, Lightning's, MoCo's.
const WRAPPERS: [&str; 4] = ["backbone.", "encoder.", "resnet.", "encoder_q."];

/// A head of two layers with dropout between, and SimCLR's projection without.
const HEAD: [(&str, &str); 2] = [("fc.0.", "head.hidden."), ("fc.3.", "head.classes.")];
const PROJECTOR: [(&str, &str); 2] = [("fc.0.", "projector.0."), ("fc.2.", "projector.2.")];

impl Checkpoint {
    /// Gives a residual network the names of torchvision (`conv1`, `layer1.0.conv1`, …), a head of two layers
    /// `head.hidden` and `head.classes`.
    ///
    /// Renamed are the numbered names of SeaFeats' files (`0.weight`, `4.0.conv1.weight`, `11.weight`), heads that
    /// are a sequence (`fc.0`, `fc.3`; SimCLR's `fc.0`, `fc.2` become `projector.0`, `projector.2`), and names behind
    /// `backbone.`, `encoder.`, `resnet.` or `encoder_q.`; of what stands beside the latter only heads are kept, not MoCo's
    /// second encoder and queue and the like. Other checkpoints stay as they are.
    ///
    /// # Errors
    /// [`coral_core::Error::Format`] when two tensors would get the same name.
    pub fn with_torchvision_resnet_names(self) -> Result<Self> {
        if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| self.contains(&format!("{wrapper}conv1.weight"))) {
            let is_head = |name: &str| HEADS.iter().any(|head| name.starts_with(head));
            let beside = |name: &str| is_head(name).then(|| name.to_owned());
            let unwrapped = |name: &str| name.strip_prefix(wrapper).map(str::to_owned).or_else(|| beside(name));
            return self.rename(unwrapped)?.with_torchvision_resnet_names();
        }
        let numbered = self.contains("0.weight") && self.contains("4.0.conv1.weight");
        if numbered {
            return self.rename(|name| {
                let (place, rest) = name.split_once('.')?;
                let known = PLACES.iter().find(|(number, _)| *number == place);
                Some(known.map_or_else(|| name.to_owned(), |(_, module)| format!("{module}.{rest}")))
            });
        }
        if !self.contains("conv1.weight") {
            return Ok(self);
        }
        let heads = if self.contains("fc.2.weight") { PROJECTOR } else { HEAD };
        self.rename(|name| {
            let head = heads.iter().find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)));
            Some(head.unwrap_or_else(|| name.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    #[test]
    fn what_stands_beside_a_wrapped_encoder_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("moco.safetensors");
        let names = [
            "encoder_q.conv1.weight",
            "encoder_q.fc.0.weight",
            "encoder_q.fc.2.weight",
            "encoder_k.conv1.weight",
            "head.hidden.weight",
            "queue",
            "queue_ptr",
        ];
        let tensor = || Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let tensors: HashMap<_, _> = names.into_iter().map(|name| (name, tensor())).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let renamed = Checkpoint::open(&path).unwrap().with_torchvision_resnet_names().unwrap();
        let expected = ["conv1.weight", "head.hidden.weight", "projector.0.weight", "projector.2.weight"];
        assert_eq!(renamed.names().collect::<Vec<_>>(), expected);
    }
}
