use coral_core::image::{Rgb, RgbImage};

/// Draws a straight line, `width` pixels wide; what reaches beyond the picture is cut off.
pub(super) fn draw_line(picture: &mut RgbImage, [from, to]: [(f64, f64); 2], width: f64, color: [u8; 3]) {
    let (columns, rows) = (f64::from(picture.width()), f64::from(picture.height()));
    let Some((from, to)) = clipped(from, to, (-width, -width), (columns + width, rows + width)) else { return };
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let steps = dx.abs().max(dy.abs()).ceil().max(1.0);
    for step in 0..=steps as u64 {
        let share = step as f64 / steps;
        square(picture, (from.0 + dx * share, from.1 + dy * share), width, color);
    }
}

/// Fills the pixels of a square around a position.
fn square(picture: &mut RgbImage, (x, y): (f64, f64), width: f64, color: [u8; 3]) {
    let span = |center: f64, length: u32| {
        let start = (center - width / 2.0).round().clamp(0.0, f64::from(length));
        let end = (center + width / 2.0).round().clamp(0.0, f64::from(length));
        start as u32..end as u32
    };
    for v in span(y, picture.height()) {
        for u in span(x, picture.width()) {
            picture.put_pixel(u, v, Rgb(color));
        }
    }
}

/// The part of a line inside of a box (Liang and Barsky).
fn clipped(from: (f64, f64), to: (f64, f64), low: (f64, f64), high: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut first, mut last) = (0.0f64, 1.0f64);
    for (start, step, low, high) in [(from.0, dx, low.0, high.0), (from.1, dy, low.1, high.1)] {
        if step == 0.0 {
            if start < low || start > high {
                return None;
            }
            continue;
        }
        let (enter, leave) = ((low - start) / step, (high - start) / step);
        first = first.max(enter.min(leave));
        last = last.min(enter.max(leave));
    }
    let at = |share: f64| (from.0 + dx * share, from.1 + dy * share);
    (first <= last && dx.is_finite() && dy.is_finite()).then(|| (at(first), at(last)))
}

/// Fills the pixels whose centres lie in a triangle.
pub(super) fn fill_triangle(picture: &mut RgbImage, corners: [(f64, f64); 3], color: [u8; 3]) {
    let side = |a: (f64, f64), b: (f64, f64), p: (f64, f64)| (b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0);
    let [a, b, c] = corners;
    let pixels = |at: fn((f64, f64)) -> f64, length: u32| {
        let (low, high) = (at(a).min(at(b)).min(at(c)), at(a).max(at(b)).max(at(c)));
        let limit = |edge: f64| edge.clamp(0.0, f64::from(length)) as u32;
        limit(low.floor())..limit(high.ceil())
    };
    for y in pixels(|corner| corner.1, picture.height()) {
        for x in pixels(|corner| corner.0, picture.width()) {
            let center = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            let sides = [side(a, b, center), side(b, c, center), side(c, a, center)];
            if sides.iter().all(|&side| side >= 0.0) || sides.iter().all(|&side| side <= 0.0) {
                picture.put_pixel(x, y, Rgb(color));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_edges() {
        let ink = |from, to, width| {
            let mut picture = RgbImage::new(10, 8);
            draw_line(&mut picture, [from, to], width, [9; 3]);
            picture.pixels().filter(|pixel| pixel.0 == [9; 3]).count()
        };
        assert_eq!(ink((-1e9, 4.5), (1e9, 4.5), 1.0), 10);
        assert_eq!(ink((3.5, -50.0), (3.5, 50.0), 2.0), 16);
        assert_eq!(ink((-5.0, -5.0), (-1.0, -1e6), 1.0), 0);
        assert_eq!(ink((f64::NAN, 0.0), (1.0, 1.0), 1.0), 0);
        assert!((6..=9).contains(&ink((0.5, 0.5), (7.5, 7.5), 1.0)));
    }

    #[test]
    fn triangles_hold_centres() {
        let ink = |corners| {
            let mut picture = RgbImage::new(10, 8);
            fill_triangle(&mut picture, corners, [9; 3]);
            picture
                .enumerate_pixels()
                .filter(|(.., pixel)| pixel.0 == [9; 3])
                .map(|(x, y, _)| (x, y))
                .collect::<Vec<_>>()
        };
        assert_eq!(ink([(1.0, 1.0), (3.2, 1.0), (1.0, 3.2)]), [(1, 1), (2, 1), (1, 2)]);
        assert_eq!(ink([(-99.0, -99.0), (99.0, -99.0), (5.0, 99.0)]).len(), 80);
        assert_eq!(ink([(-9.0, 2.0), (-5.0, 2.0), (-5.0, 6.0)]), []);
    }
}
