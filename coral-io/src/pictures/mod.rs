mod blend;
mod cells;
mod instances;
mod legend;
mod markers;
mod text;

pub use blend::{class_picture, overlay};
pub use cells::{CoarseStyle, UnsureCells, overlay_coarse_map};
pub use instances::{ColoredMask, draw_contours, instance_color, overlay_masks};
pub use legend::with_legend;
pub use markers::draw_points;

#[cfg(feature = "geo")]
pub(crate) use legend::{Entry, PAPER, beside, shortened, text_scale};
#[cfg(feature = "geo")]
pub(crate) use text::{GLYPH_HEIGHT, draw_text, text_width};
