use std::collections::BTreeMap;
use std::path::PathBuf;

use coral_core::image::{RgbImage, imageops};
use coral_core::{ClassSet, Error, Result, Size};
use serde::{Deserialize, Serialize};

/// What becomes of photographs that cannot be decoded or are too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corrupt {
    /// They are an error.
    #[default]
    Fail,
    /// They are left out and reported.
    Skip,
}

/// What becomes of photographs that stand in the folders of several classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeated {
    /// They are samples of each class; [`PhotographFolder::repeated`](super::PhotographFolder::repeated) lists them.
    #[default]
    Allow,
    /// Files of one name and the same bytes are an error.
    RefuseSameContent,
    /// Files of one name are an error.
    RefuseSameName,
}

/// How photographs are shrunk as they are loaded. They are never enlarged to [`Resize::MaxSide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The longer side becomes this many pixels where it is longer; the shape stays.
    MaxSide(u32),
    /// Every photograph becomes this large, whatever its shape.
    Exact(Size),
}

impl Resize {
    pub(crate) fn validate(self) -> Result<()> {
        let empty = match self {
            Self::MaxSide(side) => side == 0,
            Self::Exact(size) => size.width == 0 || size.height == 0,
        };
        if empty { Err(Error::parameter("resize", format!("expected at least 1 pixel, got {self:?}"))) } else { Ok(()) }
    }

    fn target(self, size: Size) -> Size {
        match self {
            Self::Exact(target) => target,
            Self::MaxSide(side) => {
                let longer = size.width.max(size.height);
                let scaled = |length: u32| {
                    let rounded =
                        (2 * u64::from(length) * u64::from(side) + u64::from(longer)) / (2 * u64::from(longer));
                    (rounded as u32).max(1)
                };
                if longer > side { Size { width: scaled(size.width), height: scaled(size.height) } } else { size }
            }
        }
    }

    /// The photograph in its new size; the same where nothing changes.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when there would be no pixel.
    ///
    /// # Examples
    /// ```
    /// use coral_core::image::RgbImage;
    /// use coral_io::Resize;
    /// let small = Resize::MaxSide(60).apply(RgbImage::new(120, 80))?;
    /// assert_eq!(small.dimensions(), (60, 40));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn apply(self, image: RgbImage) -> Result<RgbImage> {
        self.validate()?;
        let size = Size::of(&image);
        let target = self.target(size);
        if target == size {
            return Ok(image);
        }
        // The triangle filter widens with the reduction, so that fine leaves do not alias.
        Ok(imageops::resize(&image, target.width, target.height, imageops::FilterType::Triangle))
    }
}

/// Where a [`PhotographFolder`](super::PhotographFolder) finds photographs, and what it makes of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhotographFolderConfig {
    /// The folder that holds a folder per class.
    pub root: PathBuf,
    /// The classes. Default: one per folder, in natural order of their names.
    pub classes: Option<ClassSet>,
    /// Folder to class, for folders that are not named as their class (compared without case). Several folders may
    /// become one class. Where `classes` is given, names that no folder has do no harm.
    pub rename: BTreeMap<String, String>,
    /// Folders to be passed over (compared without case).
    pub leave_out: Vec<String>,
    /// Accepts photographs of a single class, as they occur in a test set. Nothing can be trained on them.
    pub allow_one_class: bool,
    /// What [`PhotographFolder::checked`](super::PhotographFolder::checked) makes of photographs that cannot be decoded
    /// or are too small.
    pub on_corrupt: Corrupt,
    /// The least width and height of a photograph as stored. Default: any.
    pub min_size: Option<Size>,
    /// Shrinks photographs as they are loaded. Default: as stored.
    pub resize: Option<Resize>,
    /// What becomes of photographs that stand in the folders of several classes.
    pub repeated: Repeated,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_kept_within_a_pixel() {
        let target = |side, width, height| Resize::MaxSide(side).target(Size { width, height }).to_string();
        assert_eq!(target(578, 4624, 2600), "578x325");
        assert_eq!(target(100, 30, 1000), "3x100");
        assert_eq!(target(10, 5000, 1), "10x1");
        assert_eq!(target(100, 100, 7), "100x7");
        let stripes = RgbImage::from_fn(64, 64, |x, _| coral_core::image::Rgb([255 * (x % 2) as u8; 3]));
        let small = Resize::Exact(Size { width: 7, height: 9 }).apply(stripes).unwrap();
        assert_eq!(small.dimensions(), (7, 9));
        assert!(small.pixels().all(|p| p.0[0].abs_diff(128) < 20), "stripes must blur, not alias");
        assert!(Resize::MaxSide(0).validate().is_err());
    }

    #[test]
    fn configs_are_read_with_defaults_and_without_unknown_fields() {
        let text = r#"{"root": "a", "resize": {"max_side": 640}, "on_corrupt": "skip", "rename": {"sg": "seagrass"}}"#;
        let config: PhotographFolderConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.resize, config.on_corrupt), (Some(Resize::MaxSide(640)), Corrupt::Skip));
        let error = serde_json::from_str::<PhotographFolderConfig>(r#"{"folder": "a"}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `folder`"));
    }
}
