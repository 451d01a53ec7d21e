//! Places in metres and how pixels map to them.

use coral_core::Size;

/// A place or a vector, in metres unless said otherwise; y points down the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct P2 {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

impl P2 {
    pub(crate) fn scale(self, factor: f32) -> Self {
        Self { x: self.x * factor, y: self.y * factor }
    }

    pub(crate) fn add(self, other: Self) -> Self {
        Self { x: self.x + other.x, y: self.y + other.y }
    }

    pub(crate) fn sub(self, other: Self) -> Self {
        self.add(other.scale(-1.0))
    }

    pub(crate) fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    pub(crate) fn norm(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// Turned so that the unit vector `axis` becomes the x axis.
    pub(crate) fn along(self, axis: Self) -> Self {
        Self { x: self.dot(axis), y: axis.x * self.y - axis.y * self.x }
    }
}

/// The piece of sea floor that the picture shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    pub(crate) size: Size,
    /// Pixels per metre.
    pub(crate) ppm: f32,
}

impl View {
    /// A picture of `size` that shows `extent_m`² square metres.
    pub(crate) fn new(size: Size, extent_m: f32) -> Self {
        Self { size, ppm: (size.pixels() as f32).sqrt() / extent_m }
    }

    /// Width and height in metres.
    pub(crate) fn extent(&self) -> P2 {
        P2 { x: self.size.width as f32, y: self.size.height as f32 }.scale(1.0 / self.ppm)
    }

    /// The place of a pixel's centre.
    pub(crate) fn place(&self, x: usize, y: usize) -> P2 {
        P2 { x: x as f32 + 0.5, y: y as f32 + 0.5 }.scale(1.0 / self.ppm)
    }

    /// The half-open ranges of columns and rows whose centres can lie within `radius` metres of `centre`.
    pub(crate) fn window(&self, centre: P2, radius: f32) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let range = |at: f32, pixels: u32| {
            let low = ((at - radius) * self.ppm).floor().clamp(0.0, pixels as f32) as usize;
            let high = ((at + radius) * self.ppm).ceil().clamp(0.0, pixels as f32) as usize;
            low..high.max(low)
        };
        (range(centre.x, self.size.width), range(centre.y, self.size.height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_holds_every_pixel_in_reach() {
        let view = View::new(Size { width: 37, height: 91 }, 1.5);
        for (centre, radius) in
            [(P2 { x: 0.3, y: 0.9 }, 0.2), (P2 { x: -0.1, y: 2.5 }, 0.4), (P2 { x: 9.0, y: 9.0 }, 1.0)]
        {
            let (columns, rows) = view.window(centre, radius);
            for y in 0..91 {
                for x in 0..37 {
                    let inside = view.place(x, y).sub(centre).norm() <= radius;
                    assert!(!inside || (columns.contains(&x) && rows.contains(&y)));
                }
            }
        }
    }

    #[test]
    fn the_area_shown_does_not_depend_on_the_pixels() {
        for size in [(512, 512), (300, 700), (1, 40)] {
            let extent = View::new(Size { width: size.0, height: size.1 }, 1.5).extent();
            assert!((extent.x * extent.y - 2.25).abs() < 1e-3);
        }
    }
}
