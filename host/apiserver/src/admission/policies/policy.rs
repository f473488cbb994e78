//! A policy and its bindings, as they were written.

use crate::admission::Operation;
use crate::admission::conditions::{Conditions, Expression, REQUEST};
use crate::admission::matching::{Criteria, texts};
use api::meta;
use expressions::authorizer::{AUTHORIZER, REQUEST_RESOURCE};
use serde_json::Value;

/// What conditions of a policy with parameters see.
const REQUEST_AND_PARAMS: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "params",
    AUTHORIZER,
    REQUEST_RESOURCE,
];
/// What all other expressions of a policy see.
const ALL: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "variables",
    AUTHORIZER,
    REQUEST_RESOURCE,
];
const ALL_AND_PARAMS: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "variables",
    "params",
    AUTHORIZER,
    REQUEST_RESOURCE,
];
/// What messages see: they can't ask the authorizer.
const MESSAGE: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "variables",
];
const MESSAGE_AND_PARAMS: &[&str] = &[
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "variables",
    "params",
];

/// The type of a policy's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParamKind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) enum Mutation {
    /// Its expression comes to what is applied.
    Apply(Expression),
    /// Its expression comes to a list of JSON patch operations.
    Patch(Expression),
}

/// A policy of either sort; what the other sort has is empty.
#[derive(Debug)]
pub(in crate::admission) struct Policy {
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// Whether what fails refuses the request.
    pub(super) fails: bool,
    pub(super) params: Option<ParamKind>,
    /// In their order: each sees those before it.
    pub(super) variables: Vec<(String, Expression)>,
    pub(super) validations: Vec<Validation>,
    pub(super) annotations: Vec<(String, Expression)>,
    pub(super) mutations: Vec<Mutation>,
    pub(super) reinvoked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deny,
    Warn,
    Audit,
}

/// Where a binding's parameters stand.
#[derive(Clone, Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    /// Null: by name.
    pub(super) selector: Value,
    pub(super) denies_missing: bool,
}

#[derive(Debug)]
pub(in crate::admission) struct Binding {
    pub(super) name: String,
    pub(in crate::admission) policy: String,
    pub(super) criteria: Criteria,
    pub(super) params: Option<ParamRef>,
    pub(super) actions: Vec<Action>,
}

impl Policy {
    pub(in crate::admission) fn parse(object: &Value) -> Policy {
        let spec = &object["spec"];
        let params = spec.get("paramKind").map(ParamKind::parse);
        let (names, conditions, message) = match params {
            Some(_) => (ALL_AND_PARAMS, REQUEST_AND_PARAMS, MESSAGE_AND_PARAMS),
            None => (ALL, REQUEST, MESSAGE),
        };
        let new = |of: &Value, key: &str| Expression::new(meta::text(of, &[key]), names);
        let named = |list: &str, key: &str, expression: &str| -> Vec<(String, Expression)> {
            let listed = meta::list(spec, &[list]).iter();
            listed
                .map(|of| (meta::text(of, &[key]).to_owned(), new(of, expression)))
                .collect()
        };
        let validations = meta::list(spec, &["validations"]).iter();
        let mutations = meta::list(spec, &["mutations"]).iter();
        Policy {
            name: meta::name(object).to_owned(),
            criteria: Criteria::of_policy(&spec["matchConstraints"]),
            conditions: Conditions::parse(spec, conditions),
            fails: meta::text(spec, &["failurePolicy"]) != "Ignore",
            params,
            variables: named("variables", "name", "expression"),
            validations: validations
                .map(|of| Validation {
                    expression: new(of, "expression"),
                    message: meta::text(of, &["message"]).trim().to_owned(),
                    message_expression: Some(meta::text(of, &["messageExpression"]))
                        .filter(|text| !text.is_empty())
                        .map(|text| Expression::new(text, message)),
                    reason: meta::text(of, &["reason"]).to_owned(),
                })
                .collect(),
            annotations: named("auditAnnotations", "key", "valueExpression"),
            mutations: mutations
                .map(|of| match meta::text(of, &["patchType"]) {
                    "JSONPatch" => Mutation::Patch(new(&of["jsonPatch"], "expression").building()),
                    _ => Mutation::Apply(new(&of["applyConfiguration"], "expression").building()),
                })
                .collect(),
            reinvoked: meta::text(spec, &["reinvocationPolicy"]) == "IfNeeded",
        }
    }

    pub(in crate::admission) fn takes(&self, operation: Operation) -> bool {
        self.criteria.takes(operation)
    }
}

impl ParamKind {
    pub(super) fn parse(of: &Value) -> ParamKind {
        let version = meta::text(of, &["apiVersion"]);
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        ParamKind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: meta::text(of, &["kind"]).to_owned(),
        }
    }
}

impl Binding {
    pub(in crate::admission) fn parse(object: &Value) -> Binding {
        let spec = &object["spec"];
        let actions = texts(spec, "validationActions");
        Binding {
            name: meta::name(object).to_owned(),
            policy: meta::text(spec, &["policyName"]).to_owned(),
            criteria: Criteria::of_policy(&spec["matchResources"]),
            params: spec.get("paramRef").map(|of| ParamRef {
                name: meta::text(of, &["name"]).to_owned(),
                namespace: meta::text(of, &["namespace"]).to_owned(),
                selector: of["selector"].clone(),
                denies_missing: meta::text(of, &["parameterNotFoundAction"]) == "Deny",
            }),
            actions: actions
                .iter()
                .filter_map(|action| match action.as_str() {
                    "Deny" => Some(Action::Deny),
                    "Warn" => Some(Action::Warn),
                    "Audit" => Some(Action::Audit),
                    _ => None,
                })
                .collect(),
        }
    }
}
