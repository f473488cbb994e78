//! What the embedded engine does with leases. Granting and revoking are
//! durable before they are answered; keeping alive only moves a deadline.

use crate::engine::Engine;
use crate::types::{Lease, LeaseId, LeaseStatus, Op, Revision, StoreError, Txn};
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

/// etcd's numbers are signed.
const ID_BITS: u64 = i64::MAX as u64;

impl Engine {
    /// After an opening nobody knows how long it was down: all have their full
    /// time again.
    pub(crate) fn restart_leases(&self) {
        let now = Instant::now();
        let state = self.shared.read();
        let mut deadlines = self.shared.clock.lock();
        for (id, ttl) in state.leases.granted() {
            deadlines.extend(id, ttl, now);
        }
    }

    pub(crate) fn grant(&mut self, ttl: u64, now: Instant) -> Result<Lease, StoreError> {
        let id = self.unused_lease();
        self.append(self.high_water, |frame| frame.grant(id, ttl))?;
        self.shared.with(|state| state.leases.grant(id, ttl));
        self.shared.clock.lock().extend(id, ttl, now);
        Ok(Lease { id, ttl })
    }

    fn unused_lease(&self) -> LeaseId {
        let state = self.shared.read();
        let random = RandomState::new();
        (0u64..)
            .map(|round| LeaseId(random.hash_one(round) & ID_BITS))
            .find(|id| id.0 != 0 && !state.leases.has(*id))
            .expect("there are more numbers than leases")
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<u64, StoreError> {
        let (ttl, _) = self.shared.read().leases.get(id)?;
        self.shared.clock.lock().extend(id, ttl, now);
        Ok(ttl)
    }

    pub(crate) fn lease(&self, id: LeaseId, now: Instant) -> Result<LeaseStatus, StoreError> {
        let (ttl, keys) = self.shared.read().leases.get(id)?;
        let left = self.shared.clock.lock().left(id, now);
        Ok(LeaseStatus {
            ttl,
            remaining: left.unwrap_or_default().as_secs(),
            keys,
        })
    }

    /// Keys and lease go in one frame, the keys at one revision.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Result<Revision, StoreError> {
        let (_, keys) = self.shared.read().leases.get(id)?;
        let then = keys.into_iter().map(|key| Op::Delete { key }).collect();
        let compare = Vec::new();
        let (_, commits) = self.decide(vec![Txn { compare, then }]);
        match commits.is_empty() {
            true => self.append(self.high_water, |frame| frame.revoke(id))?,
            false => self.write(commits, |frame| frame.revoke(id))?,
        }
        self.shared.with(|state| state.leases.revoke(id));
        self.shared.clock.lock().remove(id);
        Ok(self.shared.read().revision())
    }

    pub(crate) fn expire(&mut self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        let left = self.shared.clock.lock().left(id, now);
        match left {
            Some(left) if left.is_zero() => self.revoke(id).map(drop),
            _ => Ok(()),
        }
    }
}
