//! Resizing with the results of the programs that networks were trained with.
//!
//! Every variant is separable: a table of weights per axis ([`axis`]), made from a filter ([`filter`]) or a rule
//! for coordinates ([`coordinates`]), and two passes over the rows ([`passes`]) in the arithmetic of the
//! original program.

mod arithmetic;
mod axis;
mod convolve;
mod coordinates;
mod filter;
mod image;
mod passes;
mod plane;
mod plane_map;

pub(crate) use convolve::convolve_image;
pub use filter::PillowFilter;
pub use image::{OpenCvInterpolation, resize_image, resize_image_opencv};
pub use plane::{Interpolation, PlaneResampler, resize_plane};
pub(crate) use plane_map::PlaneMap;
