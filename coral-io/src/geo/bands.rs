use coral_core::{Rect, Size};

/// Pixels that a map is read at a time by, where rows are not longer.
const BAND_PIXELS: u64 = 1 << 24;

/// Windows of whole rows from the top of a raster to its bottom; each but the last has a multiple of `block` rows.
pub(super) fn bands(size: Size, block: u32) -> impl Iterator<Item = Rect> {
    let blocks = BAND_PIXELS / (u64::from(size.width) * u64::from(block)).max(1);
    let rows = u32::try_from(blocks.max(1) * u64::from(block)).unwrap_or(u32::MAX / block * block);
    (0..size.height.div_ceil(rows)).map(move |nth| {
        let y = nth * rows;
        Rect { x: 0, y, width: size.width, height: rows.min(size.height - y) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_the_map() {
        for (width, height, block) in
            [(1, 1, 1), (5, 70_000_000, 7), (1 << 25, 30, 4), (4096, 4097, 1), (1, u32::MAX, u32::MAX), (3, 9, 20)]
        {
            let found: Vec<_> = bands(Size { width, height }, block).collect();
            assert!(
                found.windows(2).all(|pair| pair[0].y + pair[0].height == pair[1].y && pair[0].height % block == 0)
            );
            assert_eq!(found.iter().map(|band| u64::from(band.height)).sum::<u64>(), u64::from(height));
        }
    }
}
