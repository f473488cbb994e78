//! The converter alone: what `atoll convert-image` does, as an executable of
//! its own for this crate's tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    image::convert_child()
}
