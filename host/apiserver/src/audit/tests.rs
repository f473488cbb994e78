#![expect(clippy::unwrap_used, reason = "tests")]

use super::event::{drop_managed, source_ips};
use super::policy::{Judged, Level, Policy, Stage, Subject};
use crate::query::Query;
use crate::route::{Route, route};
use crate::user::User;
use http::{HeaderMap, Method};
use serde_json::json;

fn policy(rules: &str) -> Result<(Policy, Vec<String>), String> {
    let text = format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: {rules}}}");
    Policy::parse(text.as_bytes())
}

/// What `rule`, at level Request, has to do with `METHOD URL` by bob of devs.
#[track_caller]
fn check(rule: &str, request: &str, wanted: bool) {
    let (policy, _) = policy(&format!("[{{level: Request, {rule}}}]")).unwrap();
    let (method, url) = request.split_once(' ').unwrap();
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let method: Method = method.parse().unwrap();
    let found = route(&method, path, &Query::parse(query));
    let user = User::new("bob", ["devs".to_owned()]);
    let (verb, resource, name) = match &found {
        Some(Route::Resource(r)) => (r.verb.to_owned(), Some(r), r.name.as_str()),
        _ => (method.as_str().to_ascii_lowercase(), None, ""),
    };
    let judged = policy.judge(&Subject {
        user: Some(&user),
        verb: &verb,
        resource,
        name,
        path,
    });
    assert_eq!(judged.level == Level::Request, wanted, "{rule}: {request}");
}

#[test]
fn rules_match_what_upstreams_match() {
    const POD: &str = "GET /api/v1/namespaces/a/pods/p";
    const LOG: &str = "GET /api/v1/namespaces/a/pods/p/log";
    const SCALE: &str = "PUT /apis/apps/v1/namespaces/a/deployments/d/scale";
    const NODES: &str = "GET /api/v1/nodes";
    for (rule, request, wanted) in [
        ("", POD, true),
        ("", "GET /healthz", true),
        ("users: [bob]", POD, true),
        ("users: [eve]", POD, false),
        ("userGroups: [ops, devs]", POD, true),
        ("userGroups: [ops]", POD, false),
        ("users: [bob], userGroups: [ops]", POD, false),
        ("verbs: [get]", POD, true),
        ("verbs: [list, watch]", POD, false),
        ("verbs: [watch]", "GET /api/v1/pods?watch=true", true),
        ("verbs: [post]", "POST /other", true),
        ("namespaces: [a]", POD, true),
        ("namespaces: [b]", POD, false),
        ("namespaces: ['']", NODES, true),
        ("namespaces: [a]", "GET /healthz", false),
        ("resources: [{group: ''}]", POD, true),
        ("resources: [{group: apps}]", POD, false),
        ("resources: [{group: '*'}]", SCALE, true),
        ("resources: [{resources: [pods]}]", POD, true),
        ("resources: [{resources: [pods]}]", LOG, false),
        ("resources: [{resources: [pods/log]}]", LOG, true),
        ("resources: [{resources: [pods/log]}]", POD, false),
        ("resources: [{resources: ['*']}]", LOG, true),
        ("resources: [{resources: ['pods/*']}]", LOG, true),
        ("resources: [{resources: ['pods/*']}]", POD, true),
        (
            "resources: [{group: apps, resources: ['*/scale']}]",
            SCALE,
            true,
        ),
        ("resources: [{resources: ['*/log']}]", POD, false),
        (
            "resources: [{resources: [pods], resourceNames: [p]}]",
            POD,
            true,
        ),
        (
            "resources: [{resources: [pods], resourceNames: [q]}]",
            POD,
            false,
        ),
        (
            "resources: [{resources: [nodes]}, {resources: [pods]}]",
            POD,
            true,
        ),
        ("resources: [{}]", "GET /healthz", false),
        ("nonResourceURLs: ['*']", "GET /healthz", true),
        ("nonResourceURLs: ['*']", POD, false),
        ("nonResourceURLs: [/healthz]", "GET /healthz", true),
        ("nonResourceURLs: [/healthz]", "GET /healthz/ping", false),
        ("nonResourceURLs: ['/healthz*']", "GET /healthz/ping", true),
        (
            "nonResourceURLs: [/metrics, '/live*']",
            "GET /healthz",
            false,
        ),
    ] {
        check(rule, request, wanted);
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_none_is_none() {
    let text = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: [eve]}
- {level: Metadata, verbs: [get], omitStages: [Panic], omitManagedFields: false}
- {level: RequestResponse, verbs: [get, list]}
";
    let (policy, warnings) = Policy::parse(text.as_bytes()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let judged = |level, more: &[Stage], omit_managed_fields| {
        let mut omit_stages = vec![Stage::RequestReceived];
        omit_stages.extend(more);
        Judged {
            level,
            omit_stages,
            omit_managed_fields,
        }
    };
    for (name, verb, wanted) in [
        ("eve", "get", judged(Level::None, &[], true)),
        (
            "bob",
            "get",
            judged(Level::Metadata, &[Stage::Panic], false),
        ),
        ("bob", "list", judged(Level::RequestResponse, &[], true)),
        ("bob", "create", Judged::default()),
    ] {
        let user = User::new(name, []);
        let found = policy.judge(&Subject {
            user: Some(&user),
            verb,
            resource: None,
            name: "",
            path: "/",
        });
        assert_eq!(found, wanted, "{name} {verb}");
    }
    // Nobody is no user, and in no group.
    let (policy, _) = super::tests::policy("[{level: Request, userGroups: [g]}]").unwrap();
    let nobody = Subject {
        user: None,
        verb: "get",
        resource: None,
        name: "",
        path: "/",
    };
    assert_eq!(policy.judge(&nobody).level, Level::None);
}

#[test]
fn a_bad_policy_is_refused_by_field_and_cause() {
    for (rules, wanted) in [
        (
            "[]",
            "rules: Required value: a policy has at least one rule",
        ),
        ("x", "rules: must be a list"),
        ("[{}]", "rules[0].level: Required value"),
        (
            "[{level: None}, {level: Everything}]",
            "rules[1].level: Unsupported value: \"Everything\": supported values: \"None\", \"Metadata\", \"Request\", \"RequestResponse\"",
        ),
        (
            "[{level: None, omitStages: [Later]}]",
            "rules[0].omitStages[0]: Invalid value: \"Later\": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
        (
            "[{level: None, nonResourceURLs: [healthz]}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"healthz\": non-resource URL rules must begin with a '/' character",
        ),
        (
            "[{level: None, nonResourceURLs: ['/a*b']}]",
            "rules[0].nonResourceURLs[0]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final character of the rule",
        ),
        (
            "[{level: None, nonResourceURLs: ['/a'], namespaces: [a]}]",
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
        (
            "[{level: None, resources: [{resourceNames: [a]}]}]",
            "rules[0].resources.resourceNames: Invalid value: [\"a\"]: using resourceNames requires at least one resource",
        ),
        (
            "[{level: None, resources: [{group: apps/v1}]}]",
            "rules[0].resources.group: Invalid value: \"apps/v1\": ",
        ),
        ("[{level: None, users: bob}]", "rules[0]: invalid type"),
    ] {
        let why = policy(rules).map(drop).unwrap_err();
        assert!(why.contains(wanted), "{rules}: {why}");
    }
    for (text, wanted) in [
        (
            "{kind: Policy, apiVersion: audit.k8s.io/v1beta1, rules: [{level: None}]}",
            "apiVersion: Unsupported value: \"audit.k8s.io/v1beta1\": supported values: \"audit.k8s.io/v1\"",
        ),
        (
            "{kind: Rules, apiVersion: audit.k8s.io/v1, rules: [{level: None}]}",
            "kind: Unsupported value: \"Rules\": supported values: \"Policy\"",
        ),
        (
            "{kind: Policy, rules: [{level: None}]}",
            "apiVersion: Required value: must be audit.k8s.io/v1",
        ),
        (
            "{kind: Policy, apiVersion: audit.k8s.io/v1, omitStages: [X], rules: [{level: None}]}",
            "omitStages[0]: Invalid value: \"X\"",
        ),
    ] {
        let why = Policy::parse(text.as_bytes()).map(drop).unwrap_err();
        assert!(why.contains(wanted), "{text}: {why}");
    }
    let (_, warnings) = policy("[{level: None, user: [bob]}]").unwrap();
    assert_eq!(warnings, ["unknown field \"rules[0].user\""]);
}

#[test]
fn addresses_are_the_forwarders_and_then_the_connections() {
    for (forwarded, real, remote, wanted) in [
        ("", "", "10.0.0.1", &["10.0.0.1"][..]),
        ("", "", "::ffff:10.0.0.1", &["10.0.0.1"]),
        (
            "1.1.1.1, x, 2.2.2.2",
            "",
            "10.0.0.1",
            &["1.1.1.1", "2.2.2.2", "10.0.0.1"],
        ),
        ("1.1.1.1", "1.1.1.1", "1.1.1.1", &["1.1.1.1"]),
        (
            "1.1.1.1",
            "3.3.3.3",
            "10.0.0.1",
            &["1.1.1.1", "3.3.3.3", "10.0.0.1"],
        ),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", forwarded.parse().unwrap());
        headers.insert("x-real-ip", real.parse().unwrap());
        let found = source_ips(&headers, Some(remote.parse().unwrap()));
        assert_eq!(found, wanted, "{forwarded} {real} {remote}");
    }
}

#[test]
fn owners_of_fields_go_from_objects_lists_and_tables() {
    let owned = || json!({"metadata": {"name": "a", "managedFields": [1]}});
    let bare = || json!({"metadata": {"name": "a"}});
    for (mut object, wanted) in [
        (owned(), bare()),
        (json!({"items": [owned()]}), json!({"items": [bare()]})),
        (
            json!({"rows": [{"object": owned()}]}),
            json!({"rows": [{"object": bare()}]}),
        ),
        (json!([owned()]), json!([owned()])),
    ] {
        drop_managed(&mut object);
        assert_eq!(object, wanted);
    }
}

#[test]
fn the_documented_policy_is_one() {
    let page = include_str!("../../../../docs/audit.md");
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let (_, warnings) = Policy::parse(text.as_bytes()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}
