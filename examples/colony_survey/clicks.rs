use std::fmt;

use coral_core::ndarray::{Array2, s};
use coral_core::{AnnotatedImage, PointPrompt, Prompt, Result, RleMask, Size};
use coral_models::{GridPoint, Predictor, point_grid};

use super::Images;

/// How a network answers single clicks on pictures of which all corals are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Clicks {
    /// Clicks on corals.
    pub on: u64,
    /// Those that are answered with a mask that is called coral.
    pub found: u64,
    /// Clicks that have no coral around them.
    pub beside: u64,
    /// Those that are answered with a mask that is called coral and shows none, for the most part.
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
            let AnnotatedImage { image, masks: colonies } = pictures.get(index)?;
            let size = Size::of(&image);
            let corals = RleMask::union_of(size, colonies.iter().map(|one| &one.mask))?;
            let inside = corals.decode();
            let embedding = predictor.embed(&image)?;
            for GridPoint { x, y } in point_grid(Self::PER_SIDE) {
                let (x, y) = (x * f64::from(size.width), y * f64::from(size.height));
                let on = inside[[y as usize, x as usize]];
                if !on && is_near(&inside, (x as usize, y as usize)) {
                    continue;
                }
                let click = PointPrompt { x: x as f32, y: y as f32, foreground: true };
                let prompt = Prompt { points: vec![click], ..Prompt::default() };
                let best = predictor.predict(&embedding, &prompt)?.into_iter().next();
                let called = best.filter(|one| one.class.is_some_and(|class| class != 0));
                let mask = called.map_or(RleMask::empty(size), |one| RleMask::encode(&one.mask));
                if on {
                    counts.on += 1;
                    counts.found += u64::from(!mask.is_empty());
                } else {
                    counts.beside += 1;
                    counts.false_masks += u64::from(2 * mask.intersection_area(&corals)? < mask.area());
                }
            }
        }
        Ok(counts)
    }
}

impl fmt::Display for Clicks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { on, found, beside, false_masks } = self;
        if *on > 0 {
            write!(out, "{found} of {on} clicks on corals and ")?;
        }
        write!(out, "{false_masks} of {beside} clicks beside corals give a mask that is called coral")
    }
}

/// Whether a pixel inside is at most [`Clicks::MARGIN`] columns and rows away.
fn is_near(inside: &Array2<bool>, (x, y): (usize, usize)) -> bool {
    let around = |at: usize, side: usize| at.saturating_sub(Clicks::MARGIN)..(at + Clicks::MARGIN + 1).min(side);
    inside.slice(s![around(y, inside.nrows()), around(x, inside.ncols())]).iter().any(|&inside| inside)
}
