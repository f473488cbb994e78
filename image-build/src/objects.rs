//! Upstream's test objects: one of each kind, every field set, as JSON, YAML
//! and protobuf; and the schema by which client-go merges them. They are in the
//! sources of `k8s.io/api` and `client-go`, which Debian's unstable suite carries
//! as packages; only they are kept, in the cache.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cache::{Cache, Key};
use crate::progress::say;
use crate::release;

const RECIPE: &str = "objects 2";
const RELEASE: &str = "sid";
const PACKAGE: &str = "golang-k8s-api-dev";
const CLIENT: &str = "golang-k8s-client-go-dev";
/// A string of Go source is the schema, between back quotes behind `OPENS`.
const SCHEMA: &str =
    "usr/share/gocode/src/k8s.io/client-go/applyconfigurations/internal/internal.go";
const OPENS: &str = "typed.YAMLObject(`";
const PLACE: &str = "usr/share/gocode/src/k8s.io/api/testdata";
/// The API's version as their directory is called once a newer one is out.
const VERSION: &str = "v1.36.0";
/// Once this is the last that has a name, the nameless ones are of `VERSION`.
const BEFORE: &str = "v1.35.0";

/// The directory of the objects of the API's version.
///
/// # Errors
/// That the package can't be fetched, or has no such objects any more.
pub fn upstream() -> Result<PathBuf> {
    let key = Key::new(RECIPE).with(VERSION.as_bytes());
    Cache::open()?.entry("objects", key, |draft| {
        say("fetching upstream's test objects");
        release::unpack(RELEASE, &[PACKAGE, CLIENT], draft)?;
        let contents = draft.join("contents");
        let all = contents.join(PLACE);
        let there = |name: &str| all.join(name).is_dir();
        let name = match (there(VERSION), there(BEFORE)) {
            (true, _) => VERSION,
            (false, true) => "HEAD",
            (false, false) => bail!("{PACKAGE} of {RELEASE} has no objects of {VERSION} any more"),
        };
        for entry in fs::read_dir(all.join(name))? {
            let entry = entry?;
            fs::rename(entry.path(), draft.join(entry.file_name()))?;
        }
        let source = fs::read_to_string(contents.join(SCHEMA))?;
        let schema = source
            .split_once(OPENS)
            .and_then(|(_, rest)| rest.split_once('`'))
            .with_context(|| format!("{CLIENT}: no schema in {SCHEMA}"))?;
        fs::write(draft.join("apply-configurations.yaml"), schema.0)?;
        Ok(fs::remove_dir_all(contents)?)
    })
}
