//! What stands around a map: scale bar, arrow to the north, coordinates.

use coral_core::image::{Rgb, RgbImage, imageops};
use coral_core::{Crs, RasterGrid};

use super::lines::{draw_line, fill_triangle};
use crate::pictures::{GLYPH_HEIGHT, PAPER, draw_text, text_width};

const INK: [u8; 3] = [30; 3];
/// Narrowest frame, in font pixels.
const NARROWEST: u32 = 110;

/// The place of a map and its scale.
pub(super) struct Furniture<'a> {
    pub(super) grid: &'a RasterGrid,
    /// Metres of a coordinate unit in x and in y.
    pub(super) metres: (f64, f64),
    /// Pixels of the picture along the side of a pixel of the map.
    pub(super) pixels_each: f64,
    /// Pixels per font pixel.
    pub(super) scale: u32,
}

impl Furniture<'_> {
    /// The map with a margin that holds the scale bar and the arrow, and the coordinates if they are wanted.
    pub(super) fn frame(&self, mut map: RgbImage, coordinates: bool) -> RgbImage {
        let scale = self.scale;
        let ticks = if coordinates { self.ticks(&map) } else { Ticks::default() };
        ticks.draw_lines(&mut map, scale);
        let widest = ticks.y.iter().map(|(_, text)| text_width(text)).max();
        let left = widest.map_or(0, |width| (width + 4) * scale);
        let below = if ticks.x.is_empty() { 0 } else { (GLYPH_HEIGHT + 4) * scale };
        let strip = (3 * GLYPH_HEIGHT + 8) * scale;
        let height = map.height();
        // Narrow maps still need room for the scale bar.
        let width = map.width().max(NARROWEST * scale);
        let mut picture = RgbImage::from_pixel(left + width, height + below + strip, PAPER);
        imageops::replace(&mut picture, &map, left.into(), 0);
        for (at, text) in &ticks.y {
            let y = (at - f64::from(GLYPH_HEIGHT * scale) / 2.0).clamp(0.0, f64::from(height));
            draw_text(&mut picture, text, (left.saturating_sub((text_width(text) + 2) * scale), y as u32), scale);
        }
        for (at, text) in &ticks.x {
            let length = text_width(text) * scale;
            let x = f64::from(left) + at - f64::from(length) / 2.0;
            let last = (left + width).saturating_sub(length);
            draw_text(&mut picture, text, ((x.max(0.0) as u32).min(last), height + 2 * scale), scale);
        }
        let arrow = f64::from(3 * GLYPH_HEIGHT * scale);
        self.draw_bar(&mut picture, (left + 4 * scale, height + below + 6 * scale), f64::from(width) - 2.0 * arrow);
        self.draw_arrow(&mut picture, (f64::from(left + width) - arrow, f64::from(height + below)), arrow);
        picture
    }

    /// Metres along a row of the picture, per pixel.
    fn metres_per_pixel(&self) -> f64 {
        let (x, y) = self.grid.transform.column;
        (x * self.metres.0).hypot(y * self.metres.1) / self.pixels_each
    }

    /// A bar of a round length, a third of the width at most, in four parts.
    fn draw_bar(&self, picture: &mut RgbImage, (left, top): (u32, u32), room: f64) {
        let per_pixel = self.metres_per_pixel();
        let metres = round_below(per_pixel * (room / 3.0).max(1.0));
        let (length, height) = (metres / per_pixel, f64::from(4 * self.scale));
        let (x, y) = (f64::from(left), f64::from(top));
        for v in top..(top + 4 * self.scale).min(picture.height()) {
            for u in left..((x + length).round() as u32).min(picture.width()) {
                let edge = v < top + self.scale || f64::from(v) >= y + height - f64::from(self.scale);
                let quarter = (4.0 * (f64::from(u) + 0.5 - x) / length) as u32;
                let dark = edge || quarter.is_multiple_of(2);
                picture.put_pixel(u, v, Rgb(if dark { INK } else { [255; 3] }));
            }
        }
        draw_text(picture, "0", (left, top + 6 * self.scale), self.scale);
        let text = length_text(metres);
        let end = x + length - f64::from(text_width(&text) * self.scale) / 2.0;
        let after_zero = x + f64::from((text_width("0") + 4) * self.scale);
        draw_text(picture, &text, (end.max(after_zero) as u32, top + 6 * self.scale), self.scale);
    }

    /// An arrow in a square of a side length.
    fn draw_arrow(&self, picture: &mut RgbImage, (left, top): (f64, f64), side: f64) {
        // The direction in which y grows and x does not, on the picture.
        let transform = &self.grid.transform;
        let (origin, north) = (transform.pixel(0.0, 0.0), transform.pixel(0.0, 1.0));
        let (dx, dy) = (north.0 - origin.0, north.1 - origin.1);
        let length = dx.hypot(dy);
        if !(length > 0.0 && length.is_finite()) {
            return;
        }
        let (dx, dy) = (dx / length, dy / length);
        let center = (left + side / 2.0, top + side * 0.6);
        let at = |along: f64, across: f64| {
            (center.0 + side * (dx * along - dy * across), center.1 + side * (dy * along + dx * across))
        };
        fill_triangle(picture, [at(0.5, 0.0), at(-0.3, 0.22), at(-0.15, 0.0)], INK);
        fill_triangle(picture, [at(0.5, 0.0), at(-0.3, -0.22), at(-0.15, 0.0)], [150; 3]);
        let x = left - f64::from(text_width("N") * self.scale);
        let y = top + (side - f64::from(GLYPH_HEIGHT * self.scale)) / 2.0 + side * 0.1;
        draw_text(picture, "N", (x.max(0.0) as u32, y as u32), self.scale);
    }

    /// Round coordinates along the edges; none where north is not at the top.
    fn ticks(&self, map: &RgbImage) -> Ticks {
        if !self.grid.transform.is_north_up() {
            return Ticks::default();
        }
        let (width, height) = (f64::from(map.width()), f64::from(map.height()));
        let (x, y) = (self.grid.transform.x, self.grid.transform.y);
        let (per_column, per_row) = (self.grid.transform.column.0, self.grid.transform.row.1);
        let glyph = f64::from(GLYPH_HEIGHT * self.scale);
        let along = |start: f64, per_pixel: f64, length: f64, room: f64| {
            let span = per_pixel.abs() * length;
            let step = round_above(span / (length / room).clamp(1.0, 6.0));
            let first = (start.min(start + per_pixel * length) / step).ceil();
            let decimals = if step < 1.0 { (-step.log10()).ceil().min(12.0) as usize } else { 0 };
            let tick = |nth: u32| {
                let value = (first + f64::from(nth)) * step;
                ((value - start) / per_pixel, format!("{value:.decimals$}"))
            };
            (0..12).map(tick).filter(|(at, _)| (0.0..=length).contains(at)).collect()
        };
        let letters = if self.grid.crs == Crs::WGS84 { 12.0 } else { 10.0 };
        Ticks {
            x: along(x, per_column / self.pixels_each, width, letters * glyph),
            y: along(y, per_row / self.pixels_each, height, 4.0 * glyph),
        }
    }
}

/// Pixels of the map and the coordinates there.
#[derive(Debug, Default)]
struct Ticks {
    x: Vec<(f64, String)>,
    y: Vec<(f64, String)>,
}

impl Ticks {
    fn draw_lines(&self, map: &mut RgbImage, scale: u32) {
        let (width, height) = (f64::from(map.width()), f64::from(map.height()));
        let thin = f64::from(scale) / 2.0;
        for (x, _) in &self.x {
            draw_line(map, [(*x, 0.0), (*x, height)], thin.max(1.0), [90; 3]);
        }
        for (y, _) in &self.y {
            draw_line(map, [(0.0, *y), (width, *y)], thin.max(1.0), [90; 3]);
        }
    }
}

/// The largest of 1, 2, 5, 10, 20, … (and of 0.5, 0.2, 0.1, …) that is not above a length.
fn round_below(length: f64) -> f64 {
    let power = 10f64.powf(length.log10().floor());
    [5.0, 2.0, 1.0].map(|digit| digit * power).into_iter().find(|&round| round <= length).unwrap_or(power)
}

/// The smallest of such lengths that is not below a length.
fn round_above(length: f64) -> f64 {
    let power = 10f64.powf(length.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|&round| round >= length).unwrap_or(10.0 * power)
}

fn length_text(metres: f64) -> String {
    match metres {
        length if length >= 1000.0 => format!("{} km", length / 1000.0),
        length if length >= 1.0 => format!("{length} m"),
        length if length >= 0.01 => format!("{:.0} cm", length * 100.0),
        length => format!("{:.1e} m", length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_round() {
        for (length, round) in
            [(1.0, 1.0), (1.99, 1.0), (2.5, 2.0), (9.99, 5.0), (10.0, 10.0), (4321.0, 2000.0), (0.07, 0.05)]
        {
            assert!((round_below(length) / round - 1.0).abs() < 1e-12, "{length}");
        }
        for (length, round) in [(1.0, 1.0), (1.01, 2.0), (2.5, 5.0), (9.99, 10.0), (4321.0, 5000.0), (0.07, 0.1)] {
            assert!((round_above(length) / round - 1.0).abs() < 1e-12, "{length}");
        }
        assert_eq!([2000.0, 50.0, 0.05].map(length_text), ["2 km", "50 m", "5 cm"]);
    }
}
