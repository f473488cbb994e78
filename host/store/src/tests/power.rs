//! Random schedules of work and power cuts.

use super::model::{Model, check_history, items_at};
use super::schedules;
use super::simdisk::SimDisk;
use crate::engine::{Engine, Options};
use crate::types::{Revision, StoreError, Txn};
use fuzzing::Random;

struct Schedule {
    disk: SimDisk,
    random: Random,
    options: Options,
    /// All that was acknowledged.
    model: Model,
    /// Acknowledged, and then what was under way when the power went.
    perhaps: Option<Model>,
    /// No revision up to here may be given again.
    given: u64,
    cuts: u32,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let mut random = Random(seed);
        let options = Options {
            history_bytes: 4000 << random.below(6),
            log_bytes: 1000 << random.below(6),
            checkpoint_step: 1 + random.below(4000),
        };
        Schedule {
            disk: SimDisk::default(),
            random,
            options,
            model: Model::default(),
            perhaps: None,
            given: 0,
            cuts: 0,
        }
    }

    fn run(&mut self) {
        let lives = 2 + self.random.below(4);
        for _ in 0..lives {
            // Also cuts in the middle of recovery.
            let mut engine = loop {
                let fuse = self
                    .random
                    .one_in(3)
                    .then(|| 1 + self.random.below(12) as u64);
                self.disk.set_fuse(fuse);
                match self.open() {
                    Ok(engine) => break engine,
                    Err(StoreError::Io { .. }) => self.cut(),
                    Err(error) => panic!("doesn't open: {error}"),
                }
            };
            self.check(&engine);
            let fuse = 1 + self.random.below(250) as u64;
            self.disk.set_fuse(Some(fuse));
            while self.step(&mut engine) {}
            check_history(&engine);
            drop(engine);
            self.cut();
        }
    }

    fn open(&mut self) -> Result<Engine, StoreError> {
        Engine::open(
            Box::new(self.disk.clone()),
            self.options,
            self.random.draw(),
        )
    }

    fn cut(&mut self) {
        self.disk.cut_power(&mut self.random);
        self.cuts += 1;
    }

    /// After an opening: what was acknowledged is there, what was under way
    /// wholly or not at all.
    fn check(&mut self, engine: &Engine) {
        let found = items_at(engine, None);
        if let Some(perhaps) = self.perhaps.take().filter(|perhaps| perhaps.items == found) {
            self.model = perhaps;
        }
        assert_eq!(found, self.model.items, "after {} cuts", self.cuts);
        check_history(engine);
        let revision = engine.shared().read().revision().0;
        assert!(
            revision >= self.given,
            "{revision} after {} was given",
            self.given
        );
        self.model.revision = revision;
    }

    /// False when the power went.
    fn step(&mut self, engine: &mut Engine) -> bool {
        let done = match self.random.below(20) {
            0 => self.compact(engine),
            1..6 => engine.work().map(|_| ()),
            6 if self.random.one_in(4) => {
                // A clean end, unless the power goes at that moment.
                let closed = engine.close();
                assert!(closed.is_ok() || self.disk.is_off());
                return false;
            }
            _ => self.commit(engine),
        };
        match done {
            Ok(()) => true,
            Err(StoreError::Io { .. }) => {
                // It must not try again by itself.
                let again = engine.commit(vec![self.model.random_txn(&mut self.random)]);
                assert!(matches!(again, Err(StoreError::Stopped)));
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn compact(&mut self, engine: &mut Engine) -> Result<(), StoreError> {
        let (from, to) = {
            let shared = engine.shared();
            let state = shared.read();
            (state.compacted().0, state.revision().0)
        };
        let at = from + self.random.below((to - from + 1) as usize) as u64;
        engine.compact(Revision(at))
    }

    fn commit(&mut self, engine: &mut Engine) -> Result<(), StoreError> {
        let mut next = self.model.clone();
        let mut batch: Vec<Txn> = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let txn = next.random_txn(&mut self.random);
            expected.push(next.apply(&txn));
            batch.push(txn);
        }
        self.given = self.given.max(next.revision);
        match engine.commit(batch) {
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), expected.len());
                expected
                    .into_iter()
                    .zip(&outcomes)
                    .for_each(|(e, o)| Model::check_outcome(e, o));
                self.model = next;
                Ok(())
            }
            Err(error) => {
                self.perhaps = Some(next);
                Err(error)
            }
        }
    }
}

#[test]
fn acknowledged_writes_survive_power_cuts() {
    let (mut count, mut cuts) = (0, 0);
    schedules(|seed| {
        let mut schedule = Schedule::new(seed);
        schedule.run();
        count += 1;
        cuts += schedule.cuts;
    });
    println!("{count} schedules, {cuts} power cuts");
    assert!(cuts >= count);
}
