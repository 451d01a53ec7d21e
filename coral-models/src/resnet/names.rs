use coral_core::Result;

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
    /// are a sequence (`fc.0`, `fc.3`; SimCLR's `fc.0`, `fc.2` become `projector.0`, `projector.2`), and names behind `backbone.`, `encoder.`, `resnet.` or `encoder_q.`. Other
    /// checkpoints stay as they are.
    ///
    /// # Errors
    /// [`coral_core::Error::Format`] when two tensors would get the same name.
    pub fn with_torchvision_resnet_names(self) -> Result<Self> {
        if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| self.contains(&format!("{wrapper}conv1.weight"))) {
            let unwrapped = |name: &str| Some(name.strip_prefix(wrapper).unwrap_or(name).to_owned());
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
