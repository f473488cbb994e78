//! Snapshots on a disk that forgets, and files of them that have changed.

use super::model::{Model, items_at};
use super::simdisk::SimDisk;
use crate::engine::{Engine, Options};
use crate::restore::{fill, load_from};
use crate::snapshot::Snapshot;
use crate::types::{Revision, StoreError};
use fuzzing::Random;

const NAME: &str = "backup";

/// An engine with some history, and what it holds.
fn sample(seed: u64) -> (Engine, Model) {
    let mut engine = Engine::open(Box::new(SimDisk::default()), Options::default(), seed).unwrap();
    let mut random = Random(seed);
    let mut model = Model::default();
    for _ in 0..40 {
        let txn = model.random_txn(&mut random);
        model.apply(&txn);
        engine.commit(vec![txn]).unwrap();
    }
    (engine, model)
}

#[test]
fn a_power_cut_leaves_a_whole_snapshot_or_none() {
    let (engine, model) = sample(1);
    let (mut whole, mut none) = (0, 0);
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut disk = SimDisk::default();
        disk.set_fuse(Some(1 + random.below(8) as u64));
        let written = Snapshot::of(&engine.shared()).write_to(&mut disk, NAME);
        disk.cut_power(&mut random);
        match load_from(&mut disk, NAME) {
            Ok((state, contents)) => {
                assert_eq!(contents.revision.0, model.revision);
                assert_eq!(state.keys(), model.items.len());
                whole += 1;
            }
            Err(StoreError::Io { .. }) => {
                assert!(written.is_err(), "seed {seed}: written and gone");
                none += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(whole > 20 && none > 20, "{whole} whole, {none} without");
}

#[test]
fn a_changed_or_missing_byte_of_a_snapshot_is_named() {
    let (engine, _) = sample(2);
    let mut disk = SimDisk::default();
    Snapshot::of(&engine.shared())
        .write_to(&mut disk, NAME)
        .unwrap();
    let image = disk.image();
    let length = image[NAME].len();
    let mut random = Random(3);
    for round in 0..1500 {
        let mut damaged = image.clone();
        let bytes = damaged.get_mut(NAME).unwrap();
        let at = random.below(length);
        match round % 3 {
            0 => bytes.truncate(at),
            _ => bytes[at] ^= 1 << random.below(8),
        }
        let mut disk = SimDisk::from_image(&damaged);
        match load_from(&mut disk, NAME) {
            Err(StoreError::Damaged { path, offset, .. }) => {
                assert!(path.ends_with(NAME), "{path}");
                assert!(offset <= at as u64, "{offset} for {at}");
            }
            Err(error) => panic!("{at}: {error}"),
            Ok((state, _)) => {
                // Padding, which means nothing.
                assert_ne!(round % 3, 0, "cut off at {at}");
                assert_eq!(state.keys(), items_at(&engine, None).len());
            }
        }
        assert_eq!(disk.image(), damaged);
    }
}

#[test]
fn a_restored_directory_opens_with_the_same_keys_above_the_mark() {
    for seed in 0..20 {
        let (engine, model) = sample(seed);
        let mut disk = SimDisk::default();
        Snapshot::of(&engine.shared())
            .write_to(&mut disk, NAME)
            .unwrap();
        let (state, mut contents) = load_from(&mut disk, NAME).unwrap();
        assert!(contents.high_water >= contents.revision);
        contents.revision = Revision(contents.high_water.0 + 1000);
        let mut target = SimDisk::default();
        fill(&mut target, seed, &state, contents).unwrap();
        let mut restored = Engine::open(Box::new(target.clone()), Options::default(), 1).unwrap();
        assert_eq!(items_at(&restored, None), model.items);
        let mut next = Model {
            items: model.items,
            revision: contents.revision.0,
        };
        let txn = next.random_txn(&mut Random(seed));
        let expected = next.apply(&txn);
        Model::check_outcome(expected, &restored.commit(vec![txn]).unwrap()[0]);
        drop(restored);
        let again = Engine::open(Box::new(target), Options::default(), 1).unwrap();
        assert_eq!(items_at(&again, None), next.items);
    }
}
