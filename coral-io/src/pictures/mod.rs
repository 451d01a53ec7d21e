mod blend;
mod legend;
mod markers;
mod text;

pub use blend::{class_picture, overlay};
pub use legend::with_legend;
pub use markers::draw_points;
