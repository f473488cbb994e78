//! What once was durable and has changed is found, named and left alone.

use super::model::{Items, Model, items_at};
use super::simdisk::SimDisk;
use crate::engine::{Engine, Options};
use crate::format::{FRAME_HEAD, parse_head, parse_log, parse_page};
use crate::types::StoreError;
use fuzzing::Random;
use std::collections::BTreeMap;

type Image = BTreeMap<String, Vec<u8>>;

fn options() -> Options {
    Options {
        log_bytes: 6000,
        checkpoint_step: 500,
        ..Options::default()
    }
}

fn open(image: &Image) -> (Result<Engine, StoreError>, SimDisk) {
    let disk = SimDisk::from_image(image);
    (Engine::open(Box::new(disk.clone()), options(), 7), disk)
}

/// A closed store with a checkpoint and a log of several batches behind it.
fn sample() -> (Image, Items) {
    let disk = SimDisk::default();
    let mut engine = Engine::open(Box::new(disk.clone()), options(), 7).unwrap();
    let mut random = Random(3);
    let mut model = Model::default();
    for _ in 0..100 {
        let txn = model.random_txn(&mut random);
        model.apply(&txn);
        engine.commit(vec![txn]).unwrap();
        while engine.work().unwrap() {}
    }
    for _ in 0..4 {
        let txn = model.random_txn(&mut random);
        model.apply(&txn);
        engine.commit(vec![txn]).unwrap();
    }
    engine.close().unwrap();
    let items = items_at(&engine, None);
    assert_eq!(items, model.items);
    (disk.image(), items)
}

/// Where the frames of a file begin.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + FRAME_HEAD <= bytes.len() {
        found.push(at);
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at += FRAME_HEAD + (length as usize).next_multiple_of(8);
    }
    found
}

#[test]
fn a_changed_byte_is_reported_and_nothing_is_overwritten() {
    let (image, items) = sample();
    assert_eq!(image.len(), 2, "{:?}", image.keys());
    let mut random = Random(11);
    let mut reported = 0;
    for _ in 0..2000 {
        let name = image.keys().nth(random.below(2)).unwrap().clone();
        let mut damaged = image.clone();
        let bytes = damaged.get_mut(&name).unwrap();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        let last = *frames(&image[&name]).last().unwrap();
        let torn = name.starts_with("log") && at >= last;
        let (opened, disk) = open(&damaged);
        match opened {
            Err(StoreError::Damaged { path, .. }) => {
                assert!(path.ends_with(&name), "{path} for {name}");
                assert_eq!(disk.image(), damaged, "{name} at {at}: changed");
                reported += 1;
            }
            Err(error) => panic!("{name} at {at}: {error}"),
            // The last batch is like a torn one (here: the clean end). Else it
            // was padding, which means nothing.
            Ok(engine) => {
                assert_eq!(
                    items_at(&engine, None),
                    items,
                    "{name} at {at}, torn: {torn}"
                );
            }
        }
    }
    assert!(reported > 1500, "{reported}");
}

#[test]
fn a_missing_file_or_end_is_reported() {
    let (image, _) = sample();
    let log = image
        .keys()
        .find(|name| name.starts_with("log"))
        .unwrap()
        .clone();
    let checkpoint = image
        .keys()
        .find(|name| name.starts_with("check"))
        .unwrap()
        .clone();
    let without = |name: &String| {
        let mut image = image.clone();
        image.remove(name);
        image
    };
    let mut short = image.clone();
    let pages = frames(&image[&checkpoint]);
    short
        .get_mut(&checkpoint)
        .unwrap()
        .truncate(pages[pages.len() - 1]);
    let mut cut = image.clone();
    cut.get_mut(&log).unwrap().truncate(10);
    for (what, image) in [
        ("no log", without(&log)),
        ("no checkpoint", without(&checkpoint)),
        ("a short checkpoint", short),
        ("a log without its head", cut),
    ] {
        let (opened, disk) = open(&image);
        assert!(
            matches!(opened.err(), Some(StoreError::Damaged { .. })),
            "{what}"
        );
        assert_eq!(disk.image(), image, "{what}: changed");
    }
}

#[test]
fn a_value_that_looks_like_a_frame_is_no_frame() {
    let (image, items) = sample();
    let log = image.keys().find(|name| name.starts_with("log")).unwrap();
    let good = image[log][frames(&image[log])[1]..].to_vec();
    // Torn off behind the end, at every alignment: frames of another offset.
    for shift in 0..8 {
        let mut torn = image.clone();
        let bytes = torn.get_mut(log).unwrap();
        bytes.extend(std::iter::repeat_n(0xee, 24 + shift));
        bytes.extend_from_slice(&good);
        let (opened, _) = open(&torn);
        assert_eq!(items_at(&opened.unwrap(), None), items);
    }
}

/// Checksums aside, no bytes make the parsers panic or run away.
#[test]
fn parsers_take_any_bytes() {
    let (image, _) = sample();
    let mut random = Random(5);
    for (name, bytes) in &image {
        for at in frames(bytes) {
            for _ in 0..50 {
                let mut payload = bytes[at + FRAME_HEAD..].to_vec();
                payload.truncate(random.below(600));
                for _ in 0..random.below(8) {
                    let index = random.below(payload.len());
                    if let Some(byte) = payload.get_mut(index) {
                        *byte = random.draw() as u8;
                    }
                }
                let parsed = match name.starts_with("log") {
                    true => parse_log(&payload).map(|(_, records)| records.len()),
                    false => parse_page(&payload).map(|records| records.len()),
                };
                assert!(parsed.unwrap_or(0) <= payload.len());
                let _ = parse_head(&payload);
            }
        }
    }
}
