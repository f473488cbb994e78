//! What a client asks of a log: the query of `/containerLogs`, and errors in
//! upstream's words.

use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) limit_bytes: Option<u64>,
    /// Only this stream; both if absent.
    pub(crate) stderr: Option<bool>,
}

/// Why a query was refused; the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct QueryError(pub(crate) String);

impl Query {
    /// Parses the query of a request's URL. Unknown parameters are none of
    /// ours; of those given twice, the last counts.
    ///
    /// # Errors
    /// The parameter that is wrong.
    pub(crate) fn parse(query: &str, now: Timestamp) -> Result<Self, QueryError> {
        let mut parsed = Self::default();
        for (name, value) in parameters(query) {
            match name.as_str() {
                "follow" => parsed.follow = boolean(&name, &value)?,
                "previous" => parsed.previous = boolean(&name, &value)?,
                "timestamps" => parsed.timestamps = boolean(&name, &value)?,
                "tailLines" => parsed.tail_lines = Some(number(&name, &value, 0)?),
                "limitBytes" => parsed.limit_bytes = Some(number(&name, &value, 1)?),
                "sinceSeconds" => {
                    let seconds = number(&name, &value, 1)?.min(1 << 40);
                    let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(0));
                    parsed.since = Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN));
                }
                "sinceTime" => {
                    let time = value.parse();
                    parsed.since = Some(time.map_err(|_| invalid(&name, &value))?);
                }
                "stream" => {
                    parsed.stderr = match value.as_str() {
                        "" | "All" => None,
                        "Stdout" => Some(false),
                        "Stderr" => Some(true),
                        _ => return Err(invalid(&name, &value)),
                    };
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

/// The decoded pairs of a URL's query.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
}

/// Undoes `%XX` and `+`; what is not valid stands for itself.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let hex = |at: usize| char::from(*tail.get(at)?).to_digit(16);
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _, _) => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn boolean(name: &str, value: &str) -> Result<bool, QueryError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(name, value)),
    }
}

fn number(name: &str, value: &str, least: u64) -> Result<u64, QueryError> {
    let number = value.parse::<u64>().map_err(|_| invalid(name, value))?;
    if number < least {
        return Err(QueryError(format!(
            "{name}: Invalid value: {value}: must be greater than or equal to {least}"
        )));
    }
    Ok(number)
}

fn invalid(name: &str, value: &str) -> QueryError {
    let mut shown: String = value.chars().take(64).collect();
    shown = shown.escape_default().collect();
    QueryError(format!("{name}: Invalid value: \"{shown}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T08:00:00Z".parse().expect("a time")
    }

    #[test]
    fn parameters_have_their_meaning() {
        let query = "follow=true&previous=0&tailLines=5&timestamps&limitBytes=9\
            &sinceSeconds=60&other=x&stream=Stderr";
        let parsed = Query::parse(query, now()).expect("valid");
        assert_eq!(
            parsed,
            Query {
                follow: true,
                previous: false,
                timestamps: true,
                tail_lines: Some(5),
                since: Some("2026-11-21T07:59:00Z".parse().expect("a time")),
                limit_bytes: Some(9),
                stderr: Some(true),
            }
        );
        let since = Query::parse("sinceTime=2026-11-21T07%3A00%3A00%2B01%3A00", now());
        let at = "2026-11-21T06:00:00Z".parse().expect("a time");
        assert_eq!(since.expect("valid").since, Some(at));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for query in [
            "tailLines=-1",
            "limitBytes=0",
            "follow=maybe",
            "sinceTime=x",
            "sinceSeconds=0",
        ] {
            let error = Query::parse(query, now()).expect_err(query);
            assert!(
                error
                    .0
                    .starts_with(query.split('=').next().expect("a name")),
                "{error}"
            );
        }
    }

    #[test]
    fn random_queries_never_panic() {
        let alphabet = b"%+&=0aF\xffsinceTimetailLines9-:Z";
        for seed in 1..fuzzing::rounds(20_000) {
            let mut state = seed;
            let mut bytes = Vec::new();
            for _ in 0..state % 40 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(seed);
                let at = usize::try_from(state >> 33).expect("small") % alphabet.len();
                bytes.push(alphabet[at]);
            }
            let text = String::from_utf8_lossy(&bytes);
            drop(Query::parse(&text, now()));
            drop(Query::parse(&format!("sinceSeconds=9{text}"), now()));
        }
    }
}
