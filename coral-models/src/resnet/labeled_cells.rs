use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coral_core::image::RgbImage;
use coral_core::ndarray::Array1;
use coral_core::{ClassId, Dataset, Error, LabelMap, LabeledPatch, LabeledPhotograph, Rect, Result, Size, UNLABELED};

use super::classifier::{cell_grid, whole_cells};

/// Bytes of photographs that are kept in memory between their cells.
const MOST_BYTES: usize = 1 << 29;

/// Cells of photographs with a label each, cut out when they are asked for.
pub(super) struct LabeledCells<'a> {
    photographs: &'a dyn Dataset<Item = LabeledPhotograph>,
    labels: &'a [LabelMap],
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
    /// Those cells of `side` pixels that have a label; `labels` are a map per photograph.
    pub(super) fn new(
        photographs: &'a dyn Dataset<Item = LabeledPhotograph>,
        labels: &'a [LabelMap],
        (side, classes): (u32, usize),
    ) -> Self {
        let of_one = |(photograph, labels): (usize, &'a LabelMap)| {
            let cell = move |((row, column), &class)| LabeledCell { photograph, row, column, class };
            labels.indexed_iter().map(cell).filter(|cell| cell.class != UNLABELED)
        };
        let cells = labels.iter().enumerate().flat_map(of_one).collect();
        Self { photographs, labels, side, classes, cells, kept: Mutex::default() }
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
        check_grid(&image, self.side, &self.labels[index], || self.photographs.name(index))?;
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
        let image = Rect { x, y, width: self.side, height: self.side }.crop(&*self.photograph(photograph)?);
        let mut target = Array1::zeros(self.classes);
        target[usize::from(class)] = 1.0;
        Ok(LabeledPatch { image, target })
    }

    fn name(&self, index: usize) -> Result<String> {
        let LabeledCell { photograph, row, column, .. } = self.cell(index)?;
        Ok(format!("{}_{row}_{column}", self.photographs.name(*photograph)?))
    }
}

/// Checks that there is a label for every cell of a photograph.
pub(super) fn check_grid(
    image: &RgbImage,
    side: u32,
    labels: &LabelMap,
    name: impl Fn() -> Result<String>,
) -> Result<()> {
    let grid = cell_grid(Size::of(image), side).map_err(|error| match (error, name()) {
        (Error::InvalidInput { reason, .. }, Ok(name)) => Error::input(name, reason),
        (error, _) => error,
    })?;
    let actual = Size::of_map(labels);
    if grid == actual { Ok(()) } else { grid.expect(&format!("labels of cells of {}", name()?), actual) }
}
