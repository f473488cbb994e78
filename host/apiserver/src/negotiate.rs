//! What a client accepts, against what an endpoint can give.
//!
//! Entries of `Accept` are tried by their weight, then by how precise they are,
//! then in their order, as upstream does
//! (`apiserver/pkg/endpoints/handlers/negotiation`).

use crate::query::Query;
use api::print::{Include, Layout, Version};
use api::status::Status;
use http::{HeaderMap, header};

/// The shape in which the client wants its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table(Layout),
    /// Metadata alone, of an object or of a list's.
    Partial {
        version: Version,
        list: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
}

impl Media {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The part after `application/`.
    fn subtype(self) -> &'static str {
        match self {
            Media::Json => "json",
            Media::Yaml => "yaml",
            Media::Protobuf => "vnd.kubernetes.protobuf",
        }
    }
}

/// What an endpoint can give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Whole objects in protobuf: custom resources have no such form.
    pub(crate) protobuf: bool,
    /// Tables and metadata alone.
    pub(crate) transforms: bool,
    /// A stream of events, which YAML has no framing for.
    pub(crate) watch: bool,
}

impl Offer {
    /// Documents and errors.
    pub(crate) const DOCUMENT: Offer = Offer {
        protobuf: true,
        transforms: false,
        watch: false,
    };
}

/// What the request says of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) media: Media,
    pub(crate) form: Form,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

impl Accepted {
    pub(crate) fn json() -> Accepted {
        Accepted {
            media: Media::Json,
            form: Form::Object,
            pretty: false,
            gzip: false,
        }
    }
}

/// One entry of `Accept`.
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(entry: &'a str) -> Option<Clause<'a>> {
        let mut words = entry.split(';').map(str::trim);
        let media = words.next().filter(|m| !m.is_empty())?;
        let (kind, subtype) = match media.split_once('/') {
            Some((kind, subtype)) => (kind.trim(), subtype.trim()),
            None if media == "*" => ("*", "*"),
            None => (media, ""),
        };
        let parameters: Vec<_> = words
            .filter_map(|w| w.split_once('='))
            .map(|(k, v)| (k.trim(), v.trim().trim_matches('"')))
            .collect();
        let weight = parameters.iter().find(|(k, _)| *k == "q");
        Some(Clause {
            kind,
            subtype,
            weight: weight.map_or(1.0, |(_, q)| q.parse().unwrap_or(0.0)),
            parameters,
        })
    }

    fn fits(&self, media: Media) -> bool {
        let all = self.kind == "*" && self.subtype == "*";
        all || (self.kind == "application"
            && (self.subtype == "*" || self.subtype == media.subtype()))
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        let found = self.parameters.iter().find(|(k, _)| *k == key);
        found.map(|(_, v)| *v).filter(|v| !v.is_empty())
    }

    fn form(&self, media: Media, offer: Offer, include: Include) -> Option<Form> {
        if self.text("stream").is_some_and(|s| s != "watch")
            || self
                .text("sv")
                .is_some_and(|v| !offer.transforms || v != "v1")
        {
            return None;
        }
        let (kind, group, version) = (self.text("as"), self.text("g"), self.text("v"));
        if (kind, group, version) == (None, None, None) {
            return (offer.protobuf || media != Media::Protobuf).then_some(Form::Object);
        }
        if group != Some("meta.k8s.io") || !offer.transforms {
            return None;
        }
        let version = Version::parse(version?)?;
        match kind? {
            "Table" if media == Media::Protobuf => None,
            "Table" => Some(Form::Table(Layout {
                version,
                include,
                columns: true,
            })),
            kind @ ("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Form::Partial {
                version,
                list: kind.ends_with("List"),
            }),
            _ => None,
        }
    }
}

fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<_> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| {
        let precise = |c: &Clause<'_>| (c.kind == "*", c.subtype == "*");
        let by_weight = b.weight.total_cmp(&a.weight);
        by_weight.then_with(|| precise(a).cmp(&precise(b)))
    });
    clauses
}

/// Reads `Accept` and what else says how to answer. The error is upstream's.
pub(crate) fn accepted(
    headers: &HeaderMap,
    query: &Query,
    offer: Offer,
) -> Result<Accepted, Status> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let included = query.text("includeObject");
    let include = match included {
        "None" => Include::None,
        "Object" => Include::Object,
        _ => Include::Metadata,
    };
    let encodings = text(header::ACCEPT_ENCODING).unwrap_or_default();
    let gzip = encodings.split(',').any(|e| e.trim().starts_with("gzip"));
    let mut browser = text(header::USER_AGENT).unwrap_or_default();
    browser = browser.split('/').next().unwrap_or_default();
    let pretty = match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => matches!(browser, "curl" | "Wget" | "Mozilla"),
    };
    let served: &[Media] = match offer.watch {
        true => &[Media::Json, Media::Protobuf],
        false => &[Media::Json, Media::Yaml, Media::Protobuf],
    };
    let accept = text(header::ACCEPT).unwrap_or_default();
    if accept.is_empty() {
        return Ok(Accepted {
            gzip,
            pretty,
            ..Accepted::json()
        });
    }
    for clause in clauses(accept) {
        for media in served.iter().copied().filter(|m| clause.fits(*m)) {
            if let Some(form) = clause.form(media, offer, include) {
                let known = matches!(included, "" | "Metadata" | "None" | "Object");
                if matches!(form, Form::Table(_)) && !known {
                    return Err(Status::bad_request(format!(
                        "Unable to convert to Table as requested: includeObject: Invalid value: {included:?}: must be 'Metadata', 'Object', 'None', or empty"
                    )));
                }
                let pretty = pretty || clause.text("pretty") == Some("1");
                return Ok(Accepted {
                    media,
                    form,
                    pretty,
                    gzip,
                });
            }
        }
    }
    let named = |m: &Media| match offer.watch {
        true => format!("{};stream=watch", m.content_type()),
        false => m.content_type().to_owned(),
    };
    let names: Vec<String> = served.iter().map(named).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Err(Status::not_acceptable(&names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str, offer: Offer) -> Option<(Media, Form)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        let found = accepted(&headers, &Query::default(), offer).ok()?;
        Some((found.media, found.form))
    }

    const TYPED: Offer = Offer {
        protobuf: true,
        transforms: true,
        watch: false,
    };
    const CUSTOM: Offer = Offer {
        protobuf: false,
        ..TYPED
    };
    const WATCH: Offer = Offer {
        watch: true,
        ..TYPED
    };
    const JSON: Option<(Media, Form)> = Some((Media::Json, Form::Object));
    const YAML: Option<(Media, Form)> = Some((Media::Yaml, Form::Object));
    const PROTOBUF: Option<(Media, Form)> = Some((Media::Protobuf, Form::Object));

    #[test]
    fn media_types_are_chosen_by_weight_and_precision() {
        for (accept, offer, wanted) in [
            ("*/*", TYPED, JSON),
            ("application/*", TYPED, JSON),
            ("text/html, */*;q=0.1", TYPED, JSON),
            ("text/html", TYPED, None),
            ("application/yaml", TYPED, YAML),
            ("application/yaml", WATCH, None),
            ("application/json;q=0.5,application/yaml", TYPED, YAML),
            ("*/*,application/yaml", TYPED, YAML),
        ] {
            assert_eq!(chosen(accept, offer), wanted, "{accept}");
        }
    }

    fn table(version: Version) -> Option<(Media, Form)> {
        let layout = Layout {
            version,
            include: Include::Metadata,
            columns: true,
        };
        Some((Media::Json, Form::Table(layout)))
    }

    #[test]
    fn protobuf_is_given_where_there_is_any() {
        let partial = |version, list| Some((Media::Protobuf, Form::Partial { version, list }));
        const EITHER: &str = "application/vnd.kubernetes.protobuf,application/json";
        for (accept, offer, wanted) in [
            (EITHER, TYPED, PROTOBUF),
            (EITHER, CUSTOM, JSON),
            ("application/vnd.kubernetes.protobuf", CUSTOM, None),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                CUSTOM,
                partial(Version::V1, false),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1",
                TYPED,
                partial(Version::V1Beta1, true),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
                TYPED,
                None,
            ),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                WATCH,
                PROTOBUF,
            ),
        ] {
            assert_eq!(chosen(accept, offer), wanted, "{accept}");
        }
    }

    #[test]
    fn tables_are_given_in_the_versions_that_there_are() {
        for (parameters, offer, wanted) in [
            (
                "as=Table;v=v1beta1;g=meta.k8s.io",
                TYPED,
                table(Version::V1Beta1),
            ),
            ("as=Table;v=v1alpha1;g=meta.k8s.io", TYPED, None),
            ("as=Table;v=v1;g=example.com", TYPED, None),
            ("as=Chair;v=v1;g=meta.k8s.io", TYPED, None),
            ("as=Table", TYPED, None),
            ("sv=v1", TYPED, JSON),
            ("sv=v2", TYPED, None),
            (
                "as=Table;v=v1;g=meta.k8s.io,application/json",
                TYPED,
                table(Version::V1),
            ),
            ("as=Table;v=v1;g=meta.k8s.io", Offer::DOCUMENT, None),
            ("as=Table;v=v2;g=meta.k8s.io,application/json", TYPED, JSON),
        ] {
            let accept = format!("application/json;{parameters}");
            assert_eq!(chosen(&accept, offer), wanted, "{accept}");
        }
    }
}
