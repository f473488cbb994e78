//! Leases and power cuts: which there are and what hangs on them is as it was
//! acknowledged.

use super::schedules;
use super::simdisk::SimDisk;
use crate::engine::{Engine, Options};
use crate::types::{LeaseId, Op, StoreError, Txn};
use bytes::Bytes;
use fuzzing::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Keys by lease.
type Model = BTreeMap<LeaseId, BTreeSet<Bytes>>;

struct Schedule {
    disk: SimDisk,
    random: Random,
    model: Model,
    /// What may also be, if the last request came through.
    perhaps: Vec<Model>,
}

impl Schedule {
    fn open(&mut self) -> Engine {
        let options = Options {
            log_bytes: 1500,
            checkpoint_step: 300,
            ..Options::default()
        };
        let disk = Box::new(self.disk.clone());
        Engine::open(disk, options, self.random.draw()).unwrap()
    }

    fn check(&mut self, engine: &Engine) {
        let shared = engine.shared();
        let state = shared.read();
        let found: Model = state
            .leases
            .granted()
            .map(|(id, _)| (id, state.leases.get(id).unwrap().1.into_iter().collect()))
            .collect();
        // A lease that nobody was told of.
        let mut known = found.clone();
        known.retain(|id, keys| self.model.contains_key(id) || !keys.is_empty());
        assert!(
            known == self.model || self.perhaps.contains(&known),
            "{known:?} for {:?}",
            self.model
        );
        for key in found.values().flatten() {
            assert!(
                state.get(key).is_some(),
                "{key:?} hangs on a lease and is gone"
            );
        }
        self.model = found;
        self.perhaps.clear();
    }

    fn lease(&mut self) -> Option<LeaseId> {
        let index = self.random.below(self.model.len());
        self.model.keys().nth(index).copied()
    }

    fn step(&mut self, engine: &mut Engine) -> Result<(), StoreError> {
        let key = Bytes::from(format!("k{}", self.random.below(8)));
        let mut next = self.model.clone();
        match (self.random.below(8), self.lease()) {
            (0, _) | (_, None) => {
                let lease = engine.grant(600, Instant::now())?;
                next.insert(lease.id, BTreeSet::new());
            }
            (1, Some(id)) => {
                next.remove(&id);
                self.perhaps = vec![next.clone()];
                engine.revoke(id)?;
            }
            (2, _) => drop(engine.work()?),
            (kind, Some(lease)) => {
                let value = Bytes::from_static(b"value");
                next.values_mut()
                    .for_each(|keys| keys.retain(|k| *k != key));
                let op = match kind {
                    3 => Op::Delete { key },
                    4 => Op::Put { key, value },
                    _ => {
                        next.entry(lease).or_default().insert(key.clone());
                        Op::PutLeased { key, value, lease }
                    }
                };
                self.perhaps = vec![next.clone()];
                let txn = Txn {
                    compare: Vec::new(),
                    then: vec![op],
                };
                engine.commit(vec![txn])?;
            }
        }
        self.model = next;
        Ok(())
    }
}

#[test]
fn leases_survive_power_cuts() {
    schedules(|seed| {
        let mut schedule = Schedule {
            disk: SimDisk::default(),
            random: Random(seed),
            model: Model::new(),
            perhaps: Vec::new(),
        };
        for _ in 0..4 {
            let mut engine = schedule.open();
            schedule.check(&engine);
            let fuse = 1 + schedule.random.below(120) as u64;
            schedule.disk.set_fuse(Some(fuse));
            while schedule.step(&mut engine).is_ok() {}
            drop(engine);
            schedule.disk.cut_power(&mut schedule.random);
        }
    });
}
