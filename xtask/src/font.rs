//! The font of the pictures. It comes from a crate: there may be none on the machine.

use plotters::style::{FontStyle, register_font};

/// Its name.
pub(crate) const FONT: &str = "sans-serif";

pub(crate) fn register() -> anyhow::Result<()> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| anyhow::anyhow!("the font cannot be read"))
}
