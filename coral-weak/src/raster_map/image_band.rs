use coral_core::image::RgbImage;
use coral_core::{ImageRaster, ImageWindow, Rect, Result, Size};
use ndarray::{Array2, s};

/// Rows of a raster over its whole width, read once each while the band moves down.
pub(super) struct ImageBand<'a> {
    raster: &'a dyn ImageRaster,
    size: Size,
    /// Rows held from `top` on.
    top: u32,
    pixels: Vec<u8>,
    valid: Vec<bool>,
}

impl<'a> ImageBand<'a> {
    pub(super) fn new(raster: &'a dyn ImageRaster) -> Self {
        Self { raster, size: raster.size(), top: 0, pixels: Vec::new(), valid: Vec::new() }
    }

    /// Lets go of the rows above `top` and reads those down to `bottom`.
    pub(super) fn move_to(&mut self, top: u32, bottom: u32) -> Result<()> {
        let width = self.size.width as usize;
        let held = (self.valid.len() / width) as u32;
        let gone = ((top - self.top).min(held) as usize) * width;
        self.valid.drain(..gone);
        self.pixels.drain(..3 * gone);
        self.top = top;
        let from = top + (self.valid.len() / width) as u32;
        if from < bottom {
            let window = Rect { x: 0, y: from, width: self.size.width, height: bottom - from };
            let ImageWindow { image, valid } = self.raster.read_image(window)?;
            let size = Size { width: window.width, height: window.height };
            size.expect("the raster's window", Size::of(&image))?;
            size.expect("the raster's valid pixels", Size::of_map(&valid))?;
            self.pixels.extend_from_slice(image.as_raw());
            self.valid.extend(valid);
        }
        Ok(())
    }

    /// A window inside the rows held; `None` when none of its pixels holds data.
    pub(super) fn cut(&self, window: Rect) -> Option<ImageWindow> {
        let width = self.size.width as usize;
        let start = |row: u32| (window.y - self.top + row) as usize * width + window.x as usize;
        let length = window.width as usize;
        let mut image = RgbImage::new(window.width, window.height);
        let mut valid = Array2::from_elem((window.height as usize, length), false);
        for row in 0..window.height {
            let (from, to) = (start(row), row as usize * length * 3);
            image.as_mut()[to..to + 3 * length].copy_from_slice(&self.pixels[3 * from..3 * (from + length)]);
            for (to, from) in valid.slice_mut(s![row as usize, ..]).iter_mut().zip(&self.valid[from..]) {
                *to = *from;
            }
        }
        valid.iter().any(|&valid| valid).then_some(ImageWindow { image, valid })
    }
}
