use coral_core::{ClassId, LabelMap, LabelRaster, Rect, Result, Size, UNLABELED};

use super::Decimation;
use crate::geo::bands::bands;

/// A map at the size of a picture.
#[derive(Debug)]
pub(super) struct Decimated {
    pub(super) labels: LabelMap,
    /// Pixels of the whole map by class.
    pub(super) counts: [u64; 256],
    /// Pixels of the map along the side of one of `labels`.
    step: u32,
    /// Pixels of the picture along the side of one of `labels`.
    pub(super) zoom: u32,
}

impl Decimated {
    /// Pixels of the picture along the side of a pixel of the map.
    pub(super) fn pixels_each(&self) -> f64 {
        f64::from(self.zoom) / f64::from(self.step)
    }
}

/// Reduces a map so that its longer side has `longest` pixels at most.
pub(super) fn decimate(labels: &dyn LabelRaster, longest: u32, decimation: Decimation) -> Result<Decimated> {
    let size = labels.size();
    let longer = size.width.max(size.height);
    let (step, zoom) = (longer.div_ceil(longest), (longest / longer).max(1));
    let (columns, rows) = (size.width.div_ceil(step), size.height.div_ceil(step));
    let mut reduced = LabelMap::from_elem((rows as usize, columns as usize), UNLABELED);
    let mut counts = [0; 256];
    for window in bands(size, step) {
        let band = labels.read_labels(window)?;
        band.iter().for_each(|&id| counts[usize::from(id)] += 1);
        for row in 0..window.height.div_ceil(step) {
            for column in 0..columns {
                let block = Rect { x: column * step, y: row * step, width: step, height: step };
                reduced[[(window.y / step + row) as usize, column as usize]] = shown(&band, block, decimation);
            }
        }
    }
    Ok(Decimated { labels: reduced, counts, step, zoom })
}

/// The class of a block, of which those at the edges are cut.
fn shown(band: &LabelMap, block: Rect, decimation: Decimation) -> ClassId {
    let Size { width, height } = Size::of_map(band);
    let (right, bottom) =
        (block.x.saturating_add(block.width).min(width), block.y.saturating_add(block.height).min(height));
    if decimation == Decimation::Nearest || block.width == 1 {
        return band[[block.y.midpoint(bottom) as usize, block.x.midpoint(right) as usize]];
    }
    let mut counts = [0u64; 256];
    let part = coral_core::ndarray::s![block.y as usize..bottom as usize, block.x as usize..right as usize];
    band.slice(part).iter().for_each(|&id| counts[usize::from(id)] += 1);
    let most = counts.iter().copied().max().unwrap_or(0);
    counts.iter().position(|&count| count == most).map_or(UNLABELED, |id| id as ClassId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::array;

    #[test]
    fn maps_are_reduced_and_counted() {
        let map = array![[0, 1, 2, 3, 3], [1, 1, 2, 255, 4], [7, 8, 9, 9, 5]];
        let reduced = |longest, decimation| decimate(&map, longest, decimation).unwrap();
        let majority = reduced(3, Decimation::Majority);
        assert_eq!((majority.labels, majority.counts[1], majority.counts[255]), (array![[1, 2, 3], [7, 9, 5]], 3, 1));
        assert_eq!(reduced(4, Decimation::Nearest).labels, array![[1, 255, 4], [8, 9, 5]]);
        let enlarged = reduced(11, Decimation::Majority);
        assert_eq!((enlarged.pixels_each(), enlarged.labels), (2.0, map.clone()));
        assert_eq!(reduced(1, Decimation::Majority).labels.dim(), (1, 1));
    }

    #[test]
    fn bands_do_not_show() {
        struct Tall;
        impl LabelRaster for Tall {
            fn size(&self) -> Size {
                Size { width: 1 << 22, height: 23 }
            }
            fn read_labels(&self, window: Rect) -> Result<LabelMap> {
                let shape = Size { width: window.width, height: window.height }.shape();
                Ok(LabelMap::from_shape_fn(shape, |(y, x)| (y as u32 + window.y) as u8 + u8::from(x > 1 << 21)))
            }
        }
        let reduced = decimate(&Tall, 1 << 21, Decimation::Majority).unwrap();
        assert_eq!(reduced.labels.column(0).to_vec(), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]);
        assert_eq!(reduced.counts.iter().sum::<u64>(), 23 << 22);
    }
}
