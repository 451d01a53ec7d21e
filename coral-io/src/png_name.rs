use std::path::Path;

use coral_core::{Error, Result};

/// Refuses a file name that promises another format than the PNG that will be written.
pub(crate) fn expect_png_name(path: &Path) -> Result<()> {
    match path.extension() {
        Some(extension) if !extension.eq_ignore_ascii_case("png") => Err(Error::parameter(
            "path",
            format!("{}: pictures are written as PNG, expected a name that ends in .png", path.display()),
        )),
        _ => Ok(()),
    }
}
