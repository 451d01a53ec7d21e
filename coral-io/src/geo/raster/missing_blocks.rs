//! Strips and tiles that a sparse file leaves out: GDAL takes them for the no-data value.

use coral_core::{Rect, Size};
use tiff_reader::Ifd;

/// Which blocks of an image have no bytes in the file.
#[derive(Debug)]
pub(super) struct MissingBlocks {
    size: Size,
    block: Size,
    missing: Vec<bool>,
}

impl MissingBlocks {
    /// The image's missing blocks; `None` when it has all.
    pub(super) fn of(ifd: &Ifd, size: Size, block: Size) -> Option<Self> {
        let offsets = ifd.tile_offsets().or_else(|| ifd.strip_offsets())?;
        let lengths = ifd.tile_byte_counts().or_else(|| ifd.strip_byte_counts())?;
        let missing: Vec<_> = offsets.iter().zip(lengths).map(|(&offset, length)| offset == 0 || length == 0).collect();
        missing.contains(&true).then_some(Self { size, block, missing })
    }

    /// The parts of `window` that lie in missing blocks, each with its band where bands have blocks of their own.
    pub(super) fn parts(&self, window: Rect) -> Vec<(Option<usize>, Rect)> {
        let Size { width, height } = self.block;
        let (across, down) = (self.size.width.div_ceil(width), self.size.height.div_ceil(height));
        let per_plane = across as usize * down as usize;
        let planes = self.missing.len() / per_plane;
        let columns = window.x / width..(window.x + window.width).div_ceil(width);
        let rows = window.y / height..(window.y + window.height).div_ceil(height);
        let places = (0..planes).flat_map(|plane| rows.clone().map(move |row| (plane, row)));
        let places = places.flat_map(|(plane, row)| columns.clone().map(move |column| (plane, row, column)));
        let part = |(plane, row, column): (usize, u32, u32)| {
            let index = plane * per_plane + row as usize * across as usize + column as usize;
            let block = Rect { x: column * width, y: row * height, width, height };
            let gone = self.missing.get(index).copied().unwrap_or_default();
            Some((Some(plane).filter(|_| planes > 1), block.intersection(window).filter(|_| gone)?))
        };
        places.filter_map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_to_the_window() {
        let at = |x, y, width, height| Rect { x, y, width, height };
        let missing = vec![false, true, false, false, false, false, false, true];
        let blocks =
            MissingBlocks { size: Size { width: 30, height: 20 }, block: Size { width: 16, height: 16 }, missing };
        let parts = blocks.parts(at(10, 10, 20, 10));
        assert_eq!(parts, [(Some(0), at(16, 10, 14, 6)), (Some(1), at(16, 16, 14, 4))]);
        assert_eq!(blocks.parts(at(0, 0, 16, 20)), []);
    }
}
