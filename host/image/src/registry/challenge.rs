//! `WWW-Authenticate` (RFC 9110, 11.6.1) as registries send it; pure.

/// What a registry wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
        error: Option<String>,
    },
}

/// The first challenge in the header values that can be answered; Bearer
/// before Basic.
pub(crate) fn choose<'a>(values: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = values.flat_map(parse).collect();
    all.iter()
        .find(|c| matches!(c, Challenge::Bearer { .. }))
        .or(all.first())
        .cloned()
}

fn parse(value: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = value.trim_start();
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let (parameters, after) = parameters(after);
        let get = |name: &str| {
            parameters
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if let (true, Some(realm)) = (scheme.eq_ignore_ascii_case("bearer"), get("realm")) {
            found.push(Challenge::Bearer {
                realm,
                service: get("service"),
                scope: get("scope"),
                error: get("error"),
            });
        }
        rest = after;
    }
    found
}

fn token(s: &str) -> (&str, &str) {
    let end = s
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(s.len());
    s.split_at(end)
}

/// `name=value` pairs up to the next scheme, and what follows.
fn parameters(mut s: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        s = s.trim_start_matches([' ', '\t', ',']);
        let (name, after) = token(s);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            return (found, s);
        };
        if name.is_empty() {
            return (found, "");
        }
        let (value, after) = match value.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = token(value.trim_start());
                (value.to_owned(), after)
            }
        };
        found.push((name.to_owned(), value));
        s = after;
    }
}

fn unquote(s: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = s.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return (value, &s[i + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn challenges_of_known_registries() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: None,
        };
        let table = [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                Some(bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )),
            ),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            (r#"basic"#, Some(Challenge::Basic)),
            (
                r#"Basic realm="x", Bearer realm="y\"z""#,
                Some(bearer("y\"z", None, None)),
            ),
            (r#"Bearer service="no-realm""#, None),
            ("Negotiate", None),
            ("", None),
        ];
        for (value, want) in table {
            assert_eq!(choose([value].into_iter()), want, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(s in "[ -~\\t\\PC]{0,120}") {
            let _ = choose([s.as_str()].into_iter());
        }

        #[test]
        fn nothing_near_a_challenge_panics(s in "((Bearer|Basic|,|=|\"|\\\\|realm|scope|x| )){0,30}") {
            let _ = choose([s.as_str()].into_iter());
        }
    }
}
