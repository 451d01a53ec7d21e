use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coral_core::image::{RgbImage, imageops};
use coral_core::ndarray::Array1;
use coral_core::{ClassId, Dataset, Error, LabelMap, LabeledPatch, LabeledPhotograph, Result, UNLABELED};

use super::classifier::whole_cells;

/// Bytes of photographs that are kept in memory between their cells.
const MOST_BYTES: usize = 1 << 29;

/// Cells of photographs with a label each, cut out when they are asked for.
pub(super) struct LabeledCells<'a> {
    photographs: &'a dyn Dataset<Item = LabeledPhotograph>,
    /// Pixels along a cell.
    side: u32,
    classes: usize,
    cells: Vec<LabeledCell>,
    kept: Mutex<Kept>,
}

struct LabeledCell {
    photograph: usize,
    row: usize,
    column: usize,
    class: ClassId,
}

/// The photographs that came first, as whole cells. Which ones does not matter: cells are asked for in random order.
#[derive(Default)]
struct Kept {
    photographs: BTreeMap<usize, Arc<RgbImage>>,
    bytes: usize,
}

impl<'a> LabeledCells<'a> {
    /// No cells yet.
    pub(super) fn new(photographs: &'a dyn Dataset<Item = LabeledPhotograph>, side: u32, classes: usize) -> Self {
        Self { photographs, side, classes, cells: Vec::new(), kept: Mutex::default() }
    }

    /// Adds the labelled cells of a photograph, given in whole cells.
    pub(super) fn add(&mut self, photograph: usize, whole: RgbImage, labels: &LabelMap) {
        let cell = |((row, column), &class)| LabeledCell { photograph, row, column, class };
        let before = self.cells.len();
        self.cells.extend(labels.indexed_iter().map(cell).filter(|cell| cell.class != UNLABELED));
        if self.cells.len() > before {
            self.keep(photograph, whole);
        }
    }

    fn keep(&self, photograph: usize, whole: RgbImage) -> Arc<RgbImage> {
        let whole = Arc::new(whole);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes + whole.len() <= MOST_BYTES && !kept.photographs.contains_key(&photograph) {
            kept.bytes += whole.len();
            kept.photographs.insert(photograph, whole.clone());
        }
        whole
    }

    /// A photograph in whole cells.
    fn photograph(&self, index: usize) -> Result<Arc<RgbImage>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).photographs.get(&index).cloned();
        if let Some(whole) = kept {
            return Ok(whole);
        }
        let image = self.photographs.get(index)?.image;
        Ok(self.keep(index, whole_cells(&image, self.side)?.into_owned()))
    }

    fn cell(&self, index: usize) -> Result<&LabeledCell> {
        let len = self.cells.len();
        self.cells.get(index).ok_or_else(|| Error::IndexOutOfRange { what: "the cells".into(), index, len })
    }
}

impl Dataset for LabeledCells<'_> {
    type Item = LabeledPatch;

    fn len(&self) -> usize {
        self.cells.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPatch> {
        let &LabeledCell { photograph, row, column, class } = self.cell(index)?;
        let (x, y) = (column as u32 * self.side, row as u32 * self.side);
        let image = imageops::crop_imm(&*self.photograph(photograph)?, x, y, self.side, self.side).to_image();
        let mut target = Array1::zeros(self.classes);
        target[usize::from(class)] = 1.0;
        Ok(LabeledPatch { image, target })
    }

    fn name(&self, index: usize) -> Result<String> {
        let LabeledCell { photograph, row, column, .. } = self.cell(index)?;
        Ok(format!("{}_{row}_{column}", self.photographs.name(*photograph)?))
    }
}
