//! `/healthz`, `/livez`, `/readyz`: named checks, each with a path of its own,
//! in upstream's words (`apiserver/pkg/server/healthz`).

use crate::query::Query;

/// A check by its name, and what is wrong if it fails.
pub(crate) type Check = (&'static str, Result<(), String>);

/// The answer for all checks of an endpoint: status code and text. What is
/// wrong stays in the log: the endpoint is public.
pub(crate) fn all(endpoint: &str, checks: &[Check], query: &Query) -> (u16, String) {
    let mut excluded: Vec<&str> = query.all("exclude").filter(|e| !e.is_empty()).collect();
    let mut text = String::new();
    let mut failed = false;
    for (name, outcome) in checks {
        let before = excluded.len();
        excluded.retain(|e| e != name);
        text += &match outcome {
            _ if excluded.len() < before => format!("[+]{name} excluded: ok\n"),
            Ok(()) => format!("[+]{name} ok\n"),
            Err(why) => {
                log::warn!("{endpoint} check {name} failed: {why}");
                failed = true;
                format!("[-]{name} failed: reason withheld\n")
            }
        };
    }
    if !excluded.is_empty() {
        excluded.sort_unstable();
        let names: Vec<String> = excluded.iter().map(|e| format!("{e:?}")).collect();
        let names = names.join(",");
        text += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    if failed {
        return (500, format!("{text}{endpoint} check failed\n"));
    }
    match query.get("verbose") {
        Some(_) => (200, format!("{text}{endpoint} check passed\n")),
        None => (200, "ok".to_owned()),
    }
}

/// The answer of one check's own path; `None` if there is no such check.
pub(crate) fn one(checks: &[Check], wanted: &str) -> Option<(u16, String)> {
    let (_, outcome) = checks.iter().find(|(name, _)| *name == wanted)?;
    Some(match outcome {
        Ok(()) => (200, "ok".to_owned()),
        Err(why) => (500, format!("internal server error: {why}\n")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_reported_as_upstream_reports_them() {
        let fine: &[Check] = &[("ping", Ok(())), ("etcd", Ok(()))];
        let broken: &[Check] = &[("ping", Ok(())), ("etcd", Err("disk".to_owned()))];
        for (checks, query, code, text) in [
            (fine, "", 200, "ok"),
            (
                fine,
                "verbose",
                200,
                "[+]ping ok\n[+]etcd ok\nreadyz check passed\n",
            ),
            (
                fine,
                "verbose&exclude=etcd",
                200,
                "[+]ping ok\n[+]etcd excluded: ok\nreadyz check passed\n",
            ),
            (
                fine,
                "verbose=true&exclude=b&exclude=a",
                200,
                "[+]ping ok\n[+]etcd ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n",
            ),
            (
                broken,
                "",
                500,
                "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n",
            ),
            (broken, "exclude=etcd", 200, "ok"),
        ] {
            let found = all("readyz", checks, &Query::parse(query));
            assert_eq!(found, (code, text.to_owned()), "{query}");
        }
        assert_eq!(one(fine, "ping"), Some((200, "ok".to_owned())));
        assert_eq!(
            one(broken, "etcd"),
            Some((500, "internal server error: disk\n".to_owned()))
        );
        assert_eq!(one(fine, "pong"), None);
    }
}
