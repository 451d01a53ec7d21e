/// Metres between two positions (longitude, latitude) in degrees along a great circle of a sphere of 6,371 km.
///
/// # Examples
/// ```
/// use coral_weak::haversine;
/// assert!((haversine((55.0, 0.0), (56.0, 0.0)) - 111_194.9).abs() < 0.1);
/// ```
pub fn haversine(from: (f64, f64), to: (f64, f64)) -> f64 {
    const RADIUS: f64 = 6_371_000.0;
    let [lon_from, lat_from, lon_to, lat_to] = [from.0, from.1, to.0, to.1].map(f64::to_radians);
    let half = |difference: f64| (difference / 2.0).sin().powi(2);
    // Rounding may leave the range that the roots need.
    let chord = (half(lat_to - lat_from) + lat_from.cos() * lat_to.cos() * half(lon_to - lon_from)).clamp(0.0, 1.0);
    2.0 * RADIUS * chord.sqrt().atan2((1.0 - chord).sqrt())
}

/// The position (longitude, latitude) in degrees that lies `distance` metres from `start` in direction `bearing`,
/// degrees clockwise from north, on a sphere of 6,378.137 km.
///
/// # Examples
/// ```
/// use coral_weak::destination;
/// let (longitude, latitude) = destination((55.0, -21.0), 1_113.195, 0.0);
/// assert!((longitude - 55.0).abs() < 1e-9 && (latitude + 20.99).abs() < 1e-6);
/// ```
pub fn destination(start: (f64, f64), distance: f64, bearing: f64) -> (f64, f64) {
    const RADIUS: f64 = 6_378_137.0;
    let ([longitude, latitude, bearing], angle) = ([start.0, start.1, bearing].map(f64::to_radians), distance / RADIUS);
    let sine = latitude.sin() * angle.cos() + latitude.cos() * angle.sin() * bearing.cos();
    let east = bearing.sin() * angle.sin() * latitude.cos();
    let longitude = longitude + east.atan2(angle.cos() - latitude.sin() * sine);
    (longitude.to_degrees(), sine.asin().to_degrees())
}
