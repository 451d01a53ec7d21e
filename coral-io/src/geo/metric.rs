use coral_core::{Crs, Error, Result};

/// Whether the coordinates of a system are metres on the ground, up to the scale of its projection (0.9996 in the middle of
/// a zone of UTM). Web Mercator is none: its metres grow with the latitude.
pub(crate) fn is_metric(crs: Crs) -> bool {
    matches!(
        crs.epsg,
        // UTM on WGS 84, ETRS89, NAD83, RGR92 (Réunion), RGAF09 (Antilles) and RGM04 (Mayotte); MGA on GDA94 and GDA2020;
        // Lambert-93, the British grid.
        32601..=32660 | 32701..=32760 | 25828..=25838 | 26901..=26923 | 2975 | 5490 | 4471 | 28348..=28358
            | 7846..=7859 | 2154 | 27700
    )
}

/// Refuses a system whose coordinates are not metres; `what` names the thing in it.
pub(crate) fn expect_metric(what: &str, crs: Crs) -> Result<()> {
    if is_metric(crs) {
        return Ok(());
    }
    let reason = format!("expected coordinates in metres (e.g. UTM), got {crs}: map the positions first");
    Err(Error::input(what, reason))
}

/// Refuses to combine things in two systems.
pub(crate) fn expect_same_crs(what: &str, crs: Crs, (other, other_crs): (&str, Crs)) -> Result<()> {
    if crs == other_crs {
        return Ok(());
    }
    Err(Error::input(what, format!("are in {crs}, but {other} is in {other_crs}: map the positions first")))
}
