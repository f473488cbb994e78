//! `AuthenticationConfiguration` (KEP-3331): several issuers, claims by
//! expressions, rules. Refuses what it doesn't know: `anonymous`,
//! `egressSelectorType`. Errors name the field in the words of
//! `apis/apiserver/validation`.

use super::Issuer;
use super::config::{self, OidcError};
use super::mapping::{Expression, Mapping, Rule, Source};
use api::field::{Errors, Path};
use expressions::Type;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path as File;

const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const MOST: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: IssuerPart,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerPart {
    url: String,
    #[serde(default, rename = "discoveryURL")]
    discovery_url: String,
    #[serde(default)]
    certificate_authority: String,
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserRule {
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mappings {
    username: Prefixed,
    #[serde(default)]
    groups: Prefixed,
    #[serde(default)]
    uid: Prefixed,
    #[serde(default)]
    extra: Vec<Extra>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Prefixed {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Extra {
    key: String,
    value_expression: String,
}

/// The issuers that `text`, read of a file, names; `own` may not be among them.
pub(super) fn of(text: &[u8], file: &File, own: &str) -> Result<Vec<Issuer>, OidcError> {
    let text = std::str::from_utf8(text).map_err(|e| e.to_string());
    let parsed = text.and_then(|text| parse(text, own));
    parsed.map_err(|why| OidcError::Configuration {
        path: file.display().to_string(),
        why,
    })
}

fn parse(text: &str, own: &str) -> Result<Vec<Issuer>, String> {
    let read: Configuration = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    let version = read.api_version.strip_prefix("apiserver.config.k8s.io/");
    if read.kind != "AuthenticationConfiguration" || !version.is_some_and(|v| VERSIONS.contains(&v))
    {
        let (kind, version) = (read.kind, read.api_version);
        return Err(format!(
            "no kind {kind:?} is registered for version {version:?}"
        ));
    }
    let root = Path::new("jwt");
    let mut errors = Errors::default();
    if read.jwt.len() > MOST {
        return Err(format!(
            "jwt: Too many: {}: must have at most {MOST} items",
            read.jwt.len()
        ));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (i, jwt) in read.jwt.iter().enumerate() {
        let at = root.index(i);
        if issuers.iter().any(|known| known.url == jwt.issuer.url) {
            let url = at.child("issuer").child("url");
            errors.duplicate(&url, jwt.issuer.url.as_str());
        }
        issuers.push(issuer(jwt, own, &at, &mut errors));
    }
    match errors.is_empty() {
        true => Ok(issuers),
        false => Err(errors.aggregate()),
    }
}

/// What is wrong is noted; then what comes of it counts for nothing.
fn issuer(jwt: &Jwt, own: &str, path: &Path, errors: &mut Errors) -> Issuer {
    check_issuer(&jwt.issuer, own, &path.child("issuer"), errors);
    let (required, claim_rules) = claim_rules(jwt, &path.child("claimValidationRules"), errors);
    let at = path.child("claimMappings");
    let mappings = &jwt.claim_mappings;
    let username = source(
        &mappings.username,
        true,
        Some(&Type::String),
        &at.child("username"),
        errors,
    );
    let groups = source(&mappings.groups, true, None, &at.child("groups"), errors);
    let uid = source(
        &mappings.uid,
        false,
        Some(&Type::String),
        &at.child("uid"),
        errors,
    );
    if username.is_none() && errors.is_empty() {
        errors.required(&at.child("username"), "claim or expression is required");
    }
    let mapping = Mapping {
        username: username.unwrap_or_else(|| Source::Claim {
            name: String::new(),
            prefix: String::new(),
        }),
        groups,
        uid,
        extra: extra(&mappings.extra, &at.child("extra"), errors),
        required,
        claim_rules,
        user_rules: user_rules(jwt, &path.child("userValidationRules"), errors),
    };
    check_email(
        &mapping,
        &mappings.username.expression,
        &at.child("username"),
        errors,
    );
    let part = &jwt.issuer;
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    Issuer {
        url: part.url.clone(),
        discovery: given(&part.discovery_url),
        audiences: part.audiences.clone(),
        authorities: given(&part.certificate_authority).map(String::into_bytes),
        mapping,
        algorithms: config::ALGORITHMS.iter().map(|(_, a)| *a).collect(),
    }
}

fn check_issuer(part: &IssuerPart, own: &str, path: &Path, errors: &mut Errors) {
    let mut check = |at: &Path, url: &str, own: &str| {
        if let Err(why) = config::check_url(url, own) {
            errors.invalid(at, url, why);
        }
    };
    check(&path.child("url"), &part.url, own);
    if !part.discovery_url.is_empty() {
        check(&path.child("discoveryURL"), &part.discovery_url, "");
    }
    let same = part.url.trim_end_matches('/') == part.discovery_url.trim_end_matches('/');
    if same && !part.url.is_empty() {
        let at = path.child("discoveryURL");
        errors.invalid(
            &at,
            part.discovery_url.as_str(),
            "discoveryURL must be different from URL",
        );
    }
    let at = path.child("audiences");
    if part.audiences.is_empty() {
        errors.required(&at, format!("at least one {at} is required"));
    }
    for (i, audience) in part.audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.required(&at.index(i), "");
        }
        if part.audiences[..i].contains(audience) {
            errors.duplicate(&at.index(i), audience.as_str());
        }
    }
    let (policy, at) = (
        part.audience_match_policy.as_str(),
        path.child("audienceMatchPolicy"),
    );
    match part.audiences.len() {
        2.. if policy != "MatchAny" => {
            let why = "audienceMatchPolicy must be MatchAny for multiple audiences";
            errors.invalid(&at, policy, why);
        }
        1 if !matches!(policy, "" | "MatchAny") => {
            let why = "audienceMatchPolicy must be empty or MatchAny for single audience";
            errors.invalid(&at, policy, why);
        }
        _ => {}
    }
}

fn compiled(
    text: &str,
    variable: &str,
    wanted: Option<&Type>,
    path: &Path,
    errors: &mut Errors,
) -> Option<Expression> {
    match Expression::compile(text, variable, wanted) {
        Ok(expression) => Some(expression),
        Err(why) => {
            errors.invalid(path, text, why);
            None
        }
    }
}

fn claim_rules(
    jwt: &Jwt,
    path: &Path,
    errors: &mut Errors,
) -> (BTreeMap<String, String>, Vec<Rule>) {
    let (mut required, mut rules) = (BTreeMap::new(), Vec::new());
    for (i, rule) in jwt.claim_validation_rules.iter().enumerate() {
        let at = path.index(i);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.required(&at, "claim or expression is required"),
            (claim, "") => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.invalid(&at.child("message"), rule.message.as_str(), why);
                }
                if required
                    .insert(claim.to_owned(), rule.required_value.clone())
                    .is_some()
                {
                    errors.duplicate(&at.child("claim"), claim);
                }
            }
            ("", text) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.invalid(
                        &at.child("requiredValue"),
                        rule.required_value.as_str(),
                        why,
                    );
                }
                let at = at.child("expression");
                let expression = compiled(text, "claims", Some(&Type::Bool), &at, errors);
                rules.extend(expression.map(|expression| Rule {
                    expression,
                    message: rule.message.clone(),
                }));
            }
            (claim, _) => errors.invalid(&at, claim, "claim and expression can't both be set"),
        }
    }
    (required, rules)
}

fn user_rules(jwt: &Jwt, path: &Path, errors: &mut Errors) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (i, rule) in jwt.user_validation_rules.iter().enumerate() {
        let at = path.index(i).child("expression");
        if rule.expression.is_empty() {
            errors.required(&at, "");
            continue;
        }
        let expression = compiled(&rule.expression, "user", Some(&Type::Bool), &at, errors);
        rules.extend(expression.map(|expression| Rule {
            expression,
            message: rule.message.clone(),
        }));
    }
    rules
}

/// `None`: neither claim nor expression, or something is wrong.
fn source(
    part: &Prefixed,
    prefixes: bool,
    wanted: Option<&Type>,
    path: &Path,
    errors: &mut Errors,
) -> Option<Source> {
    match (part.claim.as_str(), part.expression.as_str()) {
        ("", "") => None,
        ("", text) => {
            if let Some(prefix) = &part.prefix {
                let why = "may not be specified when expression is set";
                errors.invalid(&path.child("prefix"), prefix.as_str(), why);
            }
            let at = path.child("expression");
            compiled(text, "claims", wanted, &at, errors).map(Source::Expression)
        }
        (name, "") => {
            if prefixes && part.prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.required(&path.child("prefix"), why);
            }
            Some(Source::Claim {
                name: name.to_owned(),
                prefix: part.prefix.clone().unwrap_or_default(),
            })
        }
        _ => {
            errors.invalid(path, "", "claim and expression can't both be set");
            None
        }
    }
}

fn extra(listed: &[Extra], path: &Path, errors: &mut Errors) -> Vec<(String, Expression)> {
    let mut out: Vec<(String, Expression)> = Vec::new();
    for (
        i,
        Extra {
            key,
            value_expression,
        },
    ) in listed.iter().enumerate()
    {
        let at = path.index(i).child("key");
        let domain = match key.split_once('/') {
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => domain,
            _ => {
                let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.invalid(&at, key.as_str(), why);
                continue;
            }
        };
        if *key != key.to_lowercase() {
            errors.invalid(&at, key.as_str(), "must be lowercase");
        }
        let reserved = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
        if reserved("kubernetes.io") || reserved("k8s.io") {
            let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            errors.invalid(&at, key.as_str(), why);
        }
        if out.iter().any(|(known, _)| known == key) {
            errors.duplicate(&at, key.as_str());
            continue;
        }
        let at = path.index(i).child("valueExpression");
        let expression = compiled(value_expression, "claims", None, &at, errors);
        out.extend(expression.map(|expression| (key.clone(), expression)));
    }
    out
}

/// Who takes a mail address for a name has to look whether it is verified.
fn check_email(mapping: &Mapping, text: &str, path: &Path, errors: &mut Errors) {
    let Source::Expression(username) = &mapping.username else {
        return;
    };
    let verified = |e: &Expression| e.uses("email_verified");
    let looks = verified(username)
        || mapping.extra.iter().any(|(_, e)| verified(e))
        || mapping.claim_rules.iter().any(|r| verified(&r.expression));
    if username.uses("email") && !looks {
        let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
        errors.invalid(&path.child("expression"), text, why);
    }
}

#[cfg(test)]
#[path = "structured_tests.rs"]
mod tests;
