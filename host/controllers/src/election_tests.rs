use super::*;
use reconcile::{Transport, TransportError};
use std::sync::Arc;

/// Nobody is asked in these tests.
struct Nowhere;

impl Transport for Nowhere {
    fn send(
        &self,
        _: http::Request<bytes::Bytes>,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<http::Response<reconcile::Body>, TransportError>> + Send>,
    > {
        Box::pin(std::future::pending())
    }
}

fn candidate(identity: &str) -> Election {
    let candidate = Candidate {
        identity: identity.to_owned(),
        timing: Timing::default(),
    };
    Election::new(Client::new(Arc::new(Nowhere)), "test", candidate)
}

fn lease(holder: &str, transitions: i64) -> Value {
    json!({
        "metadata": {"name": "test", "namespace": NAMESPACE, "resourceVersion": "7"},
        "spec": {
            "holderIdentity": holder,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:00.000000Z",
            "leaseTransitions": transitions,
        },
    })
}

/// Holder, acquired just now, transitions, version of what a step writes.
fn written(step: &Step) -> Option<(String, bool, i64, Option<String>)> {
    let lease = match step {
        Step::Create(lease) | Step::Update(lease) => lease,
        Step::Wait => return None,
    };
    let spec = &lease["spec"];
    Some((
        holder(spec).to_owned(),
        spec["acquireTime"] == spec["renewTime"],
        spec["leaseTransitions"].as_i64()?,
        lease["metadata"]["resourceVersion"]
            .as_str()
            .map(str::to_owned),
    ))
}

#[test]
fn who_may_take_the_lease() {
    let seven = || Some("7".to_owned());
    for (what, found, age, wanted) in [
        ("nobody's", None, 0, Some(("me".to_owned(), true, 0, None))),
        (
            "given back",
            Some(lease("", 3)),
            0,
            Some(("me".to_owned(), true, 4, seven())),
        ),
        (
            "ours",
            Some(lease("me", 3)),
            0,
            Some(("me".to_owned(), false, 3, seven())),
        ),
        ("another's", Some(lease("you", 3)), 14, None),
        (
            "expired",
            Some(lease("you", 3)),
            15,
            Some(("me".to_owned(), true, 4, seven())),
        ),
    ] {
        let mut election = candidate("me");
        let at = Instant::now();
        election.seen = found.as_ref().map(|lease| (lease["spec"].clone(), at));
        let step = election.step(
            found.as_ref(),
            at + Duration::from_secs(age),
            Timestamp::now(),
        );
        assert_eq!(written(&step), wanted, "{what}");
    }
}

#[test]
fn one_who_has_just_looked_believes_the_holder() {
    let election = candidate("me");
    let step = election.step(Some(&lease("you", 0)), Instant::now(), Timestamp::now());
    assert_eq!(step, Step::Wait);
}
