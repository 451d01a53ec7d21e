use coral_core::image::{Rgb, RgbImage};
use coral_core::{ClassSet, Error, PointLabel, Result, Size};

/// A picture with a disc in its class's colour, ringed black and white, at every point.
///
/// Discs grow with the image: a radius of 4 pixels at 512², 28 at 20 megapixels.
///
/// # Errors
/// [`Error::InvalidInput`] when a point lies outside the image.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, PointLabel, image::RgbImage};
/// let classes = ClassSet::from_names(["sand"])?;
/// let picture = coral_io::draw_points(&RgbImage::new(32, 32), &[PointLabel { x: 16, y: 9, class: 0 }], &classes)?;
/// assert_eq!(picture.get_pixel(16, 9).0, classes.color(0));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn draw_points(image: &RgbImage, points: &[PointLabel], classes: &ClassSet) -> Result<RgbImage> {
    let size = Size::of(image);
    if let Some(p) = points.iter().find(|p| !size.contains(p.x, p.y)) {
        let reason = format!("point ({}, {}) lies outside the {size} image", p.x, p.y);
        return Err(Error::input("points", reason));
    }
    let radius = (size.width.min(size.height) as f32 / 130.0).clamp(2.0, 60.0);
    let ring = (radius * 0.25).max(1.0);
    let mut picture = image.clone();
    for point in points {
        draw_disc(&mut picture, point, [radius, radius + ring, radius + 2.0 * ring], classes.color(point.class));
    }
    Ok(picture)
}

fn draw_disc(picture: &mut RgbImage, at: &PointLabel, radii: [f32; 3], color: [u8; 3]) {
    let [inner, white, black] = radii;
    let reach = black.ceil() as u32;
    let span = |center: u32, len: u32| center.saturating_sub(reach)..(center + reach + 1).min(len);
    for y in span(at.y, picture.height()) {
        for x in span(at.x, picture.width()) {
            let distance = (x.abs_diff(at.x) as f32).hypot(y.abs_diff(at.y) as f32);
            let paint = match distance {
                d if d <= inner => color,
                d if d <= white => [255; 3],
                d if d <= black => [0; 3],
                _ => continue,
            };
            picture.put_pixel(x, y, Rgb(paint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_work_at_the_edge_and_in_one_pixel() {
        let classes = ClassSet::from_names(["a", "b"]).unwrap();
        for (width, height) in [(1, 1), (50, 1), (7, 33)] {
            let points = [PointLabel { x: width - 1, y: height - 1, class: 1 }];
            let picture = draw_points(&RgbImage::new(width, height), &points, &classes).unwrap();
            assert_eq!(picture.get_pixel(width - 1, height - 1).0, classes.color(1));
        }
        let error = draw_points(&RgbImage::new(4, 4), &[PointLabel { x: 0, y: 4, class: 0 }], &classes);
        assert!(error.unwrap_err().to_string().contains("(0, 4) lies outside the 4x4 image"));
        let blank = RgbImage::new(4, 4);
        assert_eq!(draw_points(&blank, &[], &classes).unwrap(), blank);
    }
}
