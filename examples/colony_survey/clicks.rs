use std::fmt;

use coral_core::ndarray::{Array2, s};
use coral_core::{AnnotatedImage, PointPrompt, Prompt, Result, RleMask, Size};
use coral_models::{GridPoint, Predictor, point_grid};

use super::Images;
use super::synthetic::MIN_AREA;

/// How a network answers single clicks on pictures of which all corals are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clicks {
    /// Clicks on colonies that are more than slivers.
    pub on: u64,
    /// Those that are answered with a mask that is called coral and shows the colony, with an IoU of at least 0.5.
    pub found: u64,
    /// Clicks that have no coral around them.
    pub beside: u64,
    /// Those that are answered with a mask that is called coral and has the click in it.
    pub false_masks: u64,
}

impl Clicks {
    /// Clicks to a side of the grid.
    const PER_SIDE: u32 = 12;
    /// Pixels around a click in which there is no coral, if it is beside corals.
    const MARGIN: usize = 2;

    /// Clicks in a grid on pictures of which the masks are all corals, however small; those at the edge of corals do not count. Of
    /// three answers the one counts that the network is surest of; class 0 is what is no coral.
    ///
    /// # Errors
    /// When a picture cannot be loaded or the network fails.
    pub fn of(predictor: &Predictor, pictures: Images<'_>) -> Result<Self> {
        let mut counts = Self::default();
        for index in 0..pictures.len() {
            counts.add(predictor, &pictures.get(index)?)?;
        }
        Ok(counts)
    }

    fn add(&mut self, predictor: &Predictor, AnnotatedImage { image, masks }: &AnnotatedImage) -> Result<()> {
        let size = Size::of(image);
        let corals = RleMask::union_of(size, masks.iter().map(|one| &one.mask))?.decode();
        let embedding = predictor.embed(image)?;
        for GridPoint { x, y } in point_grid(Self::PER_SIDE) {
            let (x, y) = (x * f64::from(size.width), y * f64::from(size.height));
            let (column, row) = (x as u32, y as u32);
            let colony = masks.iter().find(|one| one.mask.contains(column, row) && one.area() >= MIN_AREA);
            if colony.is_none() && is_near(&corals, (column as usize, row as usize)) {
                continue;
            }
            let click = PointPrompt { x: x as f32, y: y as f32, foreground: true };
            let prompt = Prompt { points: vec![click], ..Prompt::default() };
            let best = predictor.predict(&embedding, &prompt)?.into_iter().next();
            let called = best.filter(|one| one.class.is_some_and(|class| class != 0));
            let mask = called.map_or(RleMask::empty(size), |one| RleMask::encode(&one.mask));
            if let Some(colony) = colony {
                self.on += 1;
                self.found += u64::from(mask.iou(&colony.mask)? >= 0.5);
            } else {
                self.beside += 1;
                self.false_masks += u64::from(mask.contains(column, row));
            }
        }
        Ok(())
    }
}

/// Whether a pixel inside is at most [`Clicks::MARGIN`] columns and rows away.
fn is_near(inside: &Array2<bool>, (x, y): (usize, usize)) -> bool {
    let around = |at: usize, side: usize| at.saturating_sub(Clicks::MARGIN)..(at + Clicks::MARGIN + 1).min(side);
    inside.slice(s![around(y, inside.nrows()), around(x, inside.ncols())]).iter().any(|&inside| inside)
}

impl fmt::Display for Clicks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { on, found, beside, false_masks } = self;
        if *on > 0 {
            write!(out, "{found} of {on} clicks on colonies give their mask, ")?;
        }
        write!(out, "{false_masks} of {beside} clicks beside corals give a mask there that is called coral")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_near_corals_are_told() {
        let mut inside = Array2::from_elem((8, 9), false);
        inside[[2, 7]] = true;
        for ((x, y), near) in [((7, 2), true), ((5, 0), true), ((8, 4), true), ((4, 2), false), ((7, 5), false)] {
            assert_eq!(is_near(&inside, (x, y)), near, "{x} {y}");
        }
    }
}
