//! The reference case of CoralSCOP's mask generator as files: a photograph and the weights fitted to it.

use std::path::{Path, PathBuf};

use coral_core::Size;
use coral_core::image::RgbImage;
use coral_core::testing::GoldenCase;
use coral_io::write_image;
use tempfile::TempDir;

pub(super) struct ReefCase {
    pub(super) case: GoldenCase,
    folder: TempDir,
}

impl ReefCase {
    /// Writes the photograph to `photos/reef.png`.
    pub(super) fn new() -> Self {
        let case = open("coralscop_amg");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("photos")).unwrap();
        let this = Self { case, folder };
        write_image(this.photo("reef.png"), &this.image()).unwrap();
        this
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn photo(&self, name: &str) -> PathBuf {
        self.at("photos").join(name)
    }

    pub(super) fn weights(&self) -> PathBuf {
        self.case.dir().join("weights.safetensors")
    }

    pub(super) fn heads(&self) -> String {
        self.case.number("/config/dec_heads").unwrap().to_string()
    }

    pub(super) fn size(&self) -> Size {
        Size::of(&self.image())
    }

    pub(super) fn image(&self) -> RgbImage {
        let pixels = self.case.u8("image_u8").unwrap();
        let (height, width) = (pixels.shape()[0] as u32, pixels.shape()[1] as u32);
        RgbImage::from_raw(width, height, pixels.into_iter().collect()).unwrap()
    }

    /// Flags of a program that reads the photograph (or photographs) with the network, and `more`, divided by blanks.
    pub(super) fn flags(&self, program: &str, image: &Path, more: &str) -> Vec<String> {
        let paths = [&self.weights(), image, &self.at("out")].map(|path| path.display().to_string());
        let heads = self.heads();
        let flags = ["--weights", &paths[0], "--image", &paths[1], "--out", &paths[2], "--decoder-heads", &heads];
        std::iter::once(program).chain(flags).chain(more.split_whitespace()).map(str::to_owned).collect()
    }
}

/// A case of `coral-models`' tests.
pub(super) fn open(name: &str) -> GoldenCase {
    GoldenCase::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../coral-models/tests/golden"), name).unwrap()
}
