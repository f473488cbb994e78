//! Python's Kubernetes client, for the tests that drive the API with it. It
//! comes from Python's package registry by pip, with what it depends on, into
//! the cache; nothing is installed.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::cache::{Cache, Key};
use crate::command::{self, command};
use crate::progress::say;

const RECIPE: &str = "python client 1";
/// The client of the API's newest versions.
const PACKAGE: &str = "kubernetes==37.0.2";

/// The directory for PYTHONPATH. Packages are built for one Python: another
/// one gets a directory of its own.
///
/// # Errors
/// That Python or pip is missing, or that the registry isn't reached.
pub fn client() -> Result<PathBuf> {
    let python = command::text(&mut command("python3", ["-VV"]))?;
    let key = Key::new(RECIPE)
        .with(PACKAGE.as_bytes())
        .with(python.as_bytes());
    let entry = Cache::open()?.entry("python-client", key, |draft| {
        say(format!("fetching {PACKAGE}"));
        // For its pip: the distribution's own may be missing.
        let venv = draft.join("venv");
        command::output(command("python3", ["-m", "venv"]).arg(&venv))?;
        let mut pip = command(venv.join("bin/python"), ["-m", "pip", "install"]);
        pip.args(["--quiet", "--disable-pip-version-check", "--target"]);
        command::output(pip.arg(draft.join("packages")).arg(PACKAGE))?;
        Ok(fs::remove_dir_all(venv)?)
    })?;
    Ok(entry.join("packages"))
}
