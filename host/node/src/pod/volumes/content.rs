//! What stands in the files of a volume, from the objects that it names.

use super::super::environment::{ConfigError, HostFacts, Source, Sources, absent};
use super::super::view::View;
use super::{clean, downward, of_files};
use k8s_openapi::api::core::v1::{KeyToPath, ProjectedVolumeSource, Volume, VolumeProjection};
use std::collections::{BTreeMap, BTreeSet};

/// Modes and lifetimes where the pod names none (upstream's defaults).
const MODE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;
/// A token that others than root have to read is its owner's alone.
const TOKEN_MODE: u32 = 0o600;

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) owner: Option<u32>,
    pub(crate) bytes: Vec<u8>,
}

/// By path.
pub(crate) type Files = BTreeMap<String, File>;

/// A token of the pod's service account that a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TokenSpec {
    /// Empty for the API server's own.
    pub(crate) audience: String,
    pub(crate) seconds: i64,
}

pub(crate) type Tokens = BTreeMap<TokenSpec, String>;

/// The objects and tokens that a pod's volumes draw on.
pub(crate) fn wanted(view: View<'_>) -> (BTreeSet<Source>, BTreeSet<TokenSpec>) {
    let mut sources = BTreeSet::new();
    let mut tokens = BTreeSet::new();
    for volume in of_files(view) {
        sources.extend(volume.config_map.as_ref().map(|m| map(&m.name)));
        sources.extend(
            volume
                .secret
                .as_ref()
                .map(|s| secret(s.secret_name.as_deref())),
        );
        for part in projections(volume) {
            sources.extend(part.config_map.as_ref().map(|m| map(&m.name)));
            sources.extend(part.secret.as_ref().map(|s| secret(Some(&s.name))));
            tokens.extend(token(part));
        }
    }
    (sources, tokens)
}

fn map(name: &str) -> Source {
    Source::ConfigMap(name.to_owned())
}

fn secret(name: Option<&str>) -> Source {
    Source::Secret(name.unwrap_or_default().to_owned())
}

fn projections(volume: &Volume) -> impl Iterator<Item = &VolumeProjection> {
    let projected = volume.projected.as_ref();
    projected
        .and_then(|p| p.sources.as_ref())
        .into_iter()
        .flatten()
}

fn token(part: &VolumeProjection) -> Option<TokenSpec> {
    let token = part.service_account_token.as_ref()?;
    Some(TokenSpec {
        audience: token.audience.clone().unwrap_or_default(),
        seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    })
}

/// What is known when files are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) tokens: &'a Tokens,
    pub(crate) host: &'a HostFacts,
}

/// The files of one volume; none for one that has none.
///
/// # Errors
/// An object or a key that is not optional and not there, in upstream's words.
pub(crate) fn content(
    view: View<'_>,
    volume: &Volume,
    known: &Known<'_>,
) -> Result<Files, ConfigError> {
    let mut files = Files::new();
    let mode = |mode: Option<i32>| mode.unwrap_or(MODE);
    if let Some(m) = &volume.config_map {
        let selection = Selection::of(map(&m.name), &m.items, mode(m.default_mode), m.optional);
        selection.add(known.sources, &mut files)?;
    } else if let Some(s) = &volume.secret {
        let source = secret(s.secret_name.as_deref());
        let selection = Selection::of(source, &s.items, mode(s.default_mode), s.optional);
        selection.add(known.sources, &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        let mode = mode(source.default_mode);
        downward::files(view, items, mode, known.host, &mut files)?;
    } else if let Some(source) = &volume.projected {
        projected(view, source, known, &mut files)?;
    }
    Ok(files)
}

fn projected(
    view: View<'_>,
    volume: &ProjectedVolumeSource,
    known: &Known<'_>,
    files: &mut Files,
) -> Result<(), ConfigError> {
    let mode = volume.default_mode.unwrap_or(MODE);
    for part in volume.sources.iter().flatten() {
        if let Some(m) = &part.config_map {
            let selection = Selection::of(map(&m.name), &m.items, mode, m.optional);
            selection.add(known.sources, files)?;
        } else if let Some(s) = &part.secret {
            let selection = Selection::of(secret(Some(&s.name)), &s.items, mode, s.optional);
            selection.add(known.sources, files)?;
        } else if let Some(source) = &part.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            downward::files(view, items, mode, known.host, files)?;
        } else if let (Some(source), Some(spec)) = (&part.service_account_token, token(part)) {
            let token = known.tokens.get(&spec);
            let token = token.ok_or_else(|| ConfigError("no token yet".to_owned()))?;
            let file = token_file(view, token, mode);
            files.insert(clean(&source.path), file);
        }
    }
    Ok(())
}

fn token_file(view: View<'_>, token: &str, mode: i32) -> File {
    let owner = single_user(view);
    let pod = view.spec().and_then(|spec| spec.security_context.as_ref());
    let group = pod.and_then(|security| security.fs_group);
    let narrow = owner.is_some() || group.is_some();
    File {
        mode: if narrow { TOKEN_MODE } else { bits(mode) },
        owner,
        bytes: token.as_bytes().to_vec(),
    }
}

/// The user as whom all containers run, if the pod names one for all.
fn single_user(view: View<'_>) -> Option<u32> {
    let pod = view.spec().and_then(|spec| spec.security_context.as_ref());
    let user = |container: &k8s_openapi::api::core::v1::Container| {
        let own = container.security_context.as_ref();
        own.and_then(|s| s.run_as_user)
            .or_else(|| pod.and_then(|p| p.run_as_user))
    };
    let mut users = view.containers().map(|(_, container)| user(container));
    let first = users.next()??;
    users
        .all(|other| other == Some(first))
        .then(|| u32::try_from(first).ok())?
}

/// The permission bits of a mode.
pub(super) fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or_default() & 0o777
}

/// Keys of a ConfigMap or a Secret, as files.
struct Selection<'a> {
    source: Source,
    /// All keys, where there are none.
    items: &'a [KeyToPath],
    mode: i32,
    optional: bool,
}

impl<'a> Selection<'a> {
    fn of(
        source: Source,
        items: &'a Option<Vec<KeyToPath>>,
        mode: i32,
        optional: Option<bool>,
    ) -> Self {
        Selection {
            source,
            items: items.as_deref().unwrap_or_default(),
            mode,
            optional: optional == Some(true),
        }
    }

    fn add(&self, sources: &Sources, files: &mut Files) -> Result<(), ConfigError> {
        let Some(data) = sources.get(&self.source) else {
            return match self.optional {
                true => Ok(()),
                false => Err(absent(&self.source)),
            };
        };
        let mut put = |path: &str, mode: i32, bytes: &Vec<u8>| {
            let file = File {
                mode: bits(mode),
                owner: None,
                bytes: bytes.clone(),
            };
            files.insert(clean(path), file);
        };
        if self.items.is_empty() {
            for (key, bytes) in data {
                put(key, self.mode, bytes);
            }
        }
        for item in self.items {
            match data.get(&item.key) {
                Some(bytes) => put(&item.path, item.mode.unwrap_or(self.mode), bytes),
                None if self.optional => {}
                None => return Err(self.no_key(&item.key)),
            }
        }
        Ok(())
    }

    fn no_key(&self, key: &str) -> ConfigError {
        ConfigError(match self.source {
            Source::ConfigMap(_) => format!("configmap references non-existent config key: {key}"),
            Source::Secret(_) => format!("references non-existent secret key: {key}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    fn sources() -> Sources {
        let data = |pairs: &[(&str, &str)]| {
            let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), v.as_bytes().to_vec());
            pairs.iter().map(owned).collect::<BTreeMap<_, _>>()
        };
        Sources::from([
            (map("m"), data(&[("a", "1"), ("b", "2")])),
            (secret(Some("s")), data(&[("key", "hidden")])),
        ])
    }

    /// Path, mode and content of each file of the one volume.
    fn check(volume: Value, spec: Value) -> Result<Vec<String>, String> {
        let mut spec = spec;
        spec["volumes"] = json!([volume]);
        spec["volumes"][0]["name"] = json!("v");
        let mut pod = pod(spec).as_api().clone();
        pod.metadata.labels = Some(BTreeMap::from([
            ("b".to_owned(), "2\"".to_owned()),
            ("a".to_owned(), "1".to_owned()),
        ]));
        let pod = pod.into();
        let view = View(&pod);
        let (wanted_sources, wanted_tokens) = wanted(view);
        let tokens = wanted_tokens
            .into_iter()
            .map(|spec| (spec.clone(), format!("{}/{}", spec.audience, spec.seconds)));
        let mut sources = sources();
        sources.retain(|source, _| wanted_sources.contains(source));
        let host = HostFacts::default();
        let known = Known {
            sources: &sources,
            tokens: &tokens.collect(),
            host: &host,
        };
        let volume = of_files(view).next().expect("a volume of files");
        let files = content(view, volume, &known).map_err(|error| error.0)?;
        let line = |(path, file): (&String, &File)| {
            let owner = file
                .owner
                .map(|uid| format!(" of {uid}"))
                .unwrap_or_default();
            let text = String::from_utf8_lossy(&file.bytes);
            format!("{path} {:o}{owner} {text}", file.mode)
        };
        Ok(files.iter().map(line).collect())
    }

    fn plain() -> Value {
        json!({"containers": [{"name": "c"}]})
    }

    #[test]
    fn keys_become_files() {
        let all = check(json!({"configMap": {"name": "m"}}), plain());
        assert_eq!(all.expect("there"), ["a 644 1", "b 644 2"]);
        let volume = json!({"secret": {"secretName": "s", "defaultMode": 0o400,
            "items": [{"key": "key", "path": "x/y", "mode": 0o440}]}});
        assert_eq!(check(volume, plain()).expect("there"), ["x/y 440 hidden"]);
        let volume = json!({"configMap": {"name": "m", "optional": true,
            "items": [{"key": "none", "path": "p"}, {"key": "b", "path": "q"}]}});
        assert_eq!(check(volume, plain()).expect("there"), ["q 644 2"]);
        let volume = json!({"configMap": {"name": "none", "optional": true}});
        assert_eq!(check(volume, plain()).expect("there"), [""; 0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (volume, wanted) in [
            (
                json!({"configMap": {"name": "n"}}),
                "configmap \"n\" not found",
            ),
            (
                json!({"secret": {"secretName": "n"}}),
                "secret \"n\" not found",
            ),
            (
                json!({"configMap": {"name": "m", "items": [{"key": "x", "path": "x"}]}}),
                "configmap references non-existent config key: x",
            ),
            (
                json!({"projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "x", "path": "x"}]}}]}}),
                "references non-existent secret key: x",
            ),
        ] {
            assert_eq!(check(volume, plain()), Err(wanted.to_owned()));
        }
    }

    #[test]
    fn projections_share_a_directory() {
        let volume = json!({"projected": {"defaultMode": 0o640, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ]}});
        let wanted = [
            "ca.crt 640 1",
            "labels 640 a=\"1\"\nb=\"2\\\"\"",
            "name 640 web",
            "token 640 /3607",
        ];
        assert_eq!(check(volume.clone(), plain()).expect("there"), wanted);
        let user = json!({"containers": [{"name": "c", "securityContext": {"runAsUser": 7}}]});
        let files = check(volume.clone(), user).expect("there");
        assert_eq!(files[3], "token 600 of 7 /3607");
        let group = json!({"containers": [{"name": "c"}], "securityContext": {"fsGroup": 9}});
        assert_eq!(check(volume, group).expect("there")[3], "token 600 /3607");
    }
}
