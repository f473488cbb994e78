//! Which functions take what, and what they come to. `signatures.txt` lists
//! every form of the functions that it has: `receiver.name(arguments) result`.
//! Functions that it hasn't take and give anything.

use crate::authorizer::types;
use crate::types::Type;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

const TEXT: &str = include_str!("signatures.txt");

struct Signature {
    receiver: Option<Type>,
    arguments: Vec<Type>,
    result: Type,
}

static SIGNATURES: LazyLock<HashMap<&'static str, Vec<Signature>>> = LazyLock::new(|| {
    let mut out: HashMap<&str, Vec<Signature>> = HashMap::new();
    for (name, signature) in TEXT.lines().filter_map(parse) {
        out.entry(name).or_default().push(signature);
    }
    out
});

fn parse(line: &'static str) -> Option<(&'static str, Signature)> {
    let (called, result) = line.split_once(") ")?;
    let (name, arguments) = called.split_once('(')?;
    let (receiver, name) = match name.split_once('.') {
        Some((receiver, name)) => (Some(named(receiver)), name),
        None => (None, name),
    };
    let arguments = arguments.split(',').filter(|of| !of.is_empty()).map(named);
    let signature = Signature {
        receiver,
        arguments: arguments.collect(),
        result: named(result),
    };
    Some((name, signature))
}

fn named(name: &'static str) -> Type {
    match name {
        "bool" => Type::Bool,
        "string" => Type::String,
        "list" => Type::List(Arc::new(Type::Dyn)),
        "map" => Type::Map(Arc::new(Type::Dyn)),
        "Authorizer" => Type::Opaque(types::AUTHORIZER),
        "PathCheck" => Type::Opaque(types::PATH),
        "GroupCheck" => Type::Opaque(types::GROUP),
        "ResourceCheck" => Type::Opaque(types::RESOURCE),
        "Decision" => Type::Opaque(types::DECISION),
        scalar => Type::Scalar(scalar),
    }
}

impl Signature {
    fn takes(&self, receiver: Option<&Type>, arguments: &[Type]) -> bool {
        let takes_receiver = match (&self.receiver, receiver) {
            (Some(wanted), Some(found)) => wanted.fits(found),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        takes_receiver
            && self.arguments.len() == arguments.len()
            && self.arguments.iter().zip(arguments).all(|(a, b)| a.fits(b))
    }
}

/// The result; the error says to what it doesn't apply.
pub(crate) fn apply(
    name: &str,
    receiver: Option<&Type>,
    arguments: &[Type],
) -> Result<Type, String> {
    let Some(known) = SIGNATURES.get(name) else {
        return Ok(Type::Dyn);
    };
    let results = known.iter().filter(|s| s.takes(receiver, arguments));
    let mut results = results.map(|s| s.result.clone());
    match results.next() {
        Some(first) => Ok(results.fold(first, Type::joined)),
        None => {
            let arguments = applied(arguments);
            Err(match receiver {
                Some(receiver) => format!("{receiver}.{arguments}"),
                None => arguments,
            })
        }
    }
}

/// Arguments as upstream's checker lists them.
pub(crate) fn applied(arguments: &[Type]) -> String {
    let arguments: Vec<String> = arguments.iter().map(Type::to_string).collect();
    format!("({})", arguments.join(", "))
}
