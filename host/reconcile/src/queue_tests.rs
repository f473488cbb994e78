#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use std::collections::HashSet;

fn keys(capacity: usize) -> Keys<u32> {
    let backoff = Backoff {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };
    Keys::new(capacity, backoff)
}

#[test]
fn a_key_waits_for_its_own_end_and_backs_off() {
    let mut keys = keys(10);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    keys.add(1);
    keys.add(1);
    assert_eq!(keys.next(start), Ok(1));
    assert_eq!(keys.next(start), Err(None), "once only");
    keys.add(1);
    assert_eq!(keys.next(start), Err(None), "running");
    keys.finish(&1, Finish::Failed, start, 1.0);
    assert_eq!(keys.next(start), Ok(1), "added while it ran");
    keys.finish(&1, Finish::Failed, start, 1.0);
    assert_eq!(keys.next(start), Err(Some(at(2))), "the second failure");
    keys.add_at(1, at(5));
    assert_eq!(keys.next(at(2)), Ok(1), "the earlier time counts");
    keys.finish(&1, Finish::After(Duration::from_secs(7)), at(2), 1.0);
    assert_eq!(keys.next(at(3)), Err(Some(at(9))));
    keys.add(1);
    assert_eq!(keys.next(at(3)), Ok(1), "a change doesn't wait");
    keys.finish(&1, Finish::Done, at(3), 1.0);
    assert_eq!(keys.next(at(100)), Err(None));
    assert!(keys.entries.is_empty());
}

#[test]
fn beyond_capacity_keys_are_dropped_and_it_is_said() {
    let mut keys = keys(2);
    let now = Instant::now();
    for key in [1, 2, 3, 2] {
        keys.add(key);
    }
    assert!(keys.overflowed);
    assert_eq!(
        (keys.next(now), keys.next(now), keys.next(now)),
        (Ok(1), Ok(2), Err(None))
    );
}

/// Whatever happens in whatever order: no key runs twice at once, and none
/// that was added is forgotten.
#[test]
fn no_key_runs_twice_or_is_lost() {
    for seed in 0..200u64 {
        let mut state = seed;
        let mut random = |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % bound
        };
        let mut keys = keys(100);
        let mut now = Instant::now();
        let mut running = HashSet::new();
        let mut owed = HashSet::new();
        for _ in 0..500 {
            let key = random(8) as u32;
            match random(5) {
                0 => {
                    keys.add(key);
                    owed.insert(key);
                }
                1 => {
                    keys.add_at(key, now + Duration::from_secs(random(20)));
                    owed.insert(key);
                }
                2 => now += Duration::from_secs(random(10)),
                3 => {
                    if let Ok(key) = keys.next(now) {
                        assert!(running.insert(key), "seed {seed}: {key} twice");
                        owed.remove(&key);
                    }
                }
                _ => {
                    let Some(key) = running.iter().next().copied() else {
                        continue;
                    };
                    running.remove(&key);
                    let finish = match random(3) {
                        0 => Finish::Done,
                        1 => Finish::Failed,
                        _ => Finish::After(Duration::from_secs(random(5))),
                    };
                    if finish != Finish::Done {
                        owed.insert(key);
                    }
                    keys.finish(&key, finish, now, 0.5);
                }
            }
        }
        for key in running {
            keys.finish(&key, Finish::Done, now, 0.5);
        }
        now += Duration::from_secs(1000);
        while let Ok(key) = keys.next(now) {
            owed.remove(&key);
            keys.finish(&key, Finish::Done, now, 0.5);
        }
        assert!(
            owed.is_empty() && keys.entries.is_empty(),
            "seed {seed}: {owed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn workers_wait_for_keys_and_times() {
    let backoff = Backoff {
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };
    let queue = Queue::new(10, backoff);
    let start = Instant::now();
    queue.add_after("late", Duration::from_secs(30));
    let waiting = queue.clone();
    let first = tokio::spawn(async move { waiting.next().await });
    tokio::task::yield_now().await;
    queue.add("soon");
    assert_eq!(first.await.unwrap(), "soon");
    assert_eq!(queue.next().await, "late");
    assert_eq!(start.elapsed().as_secs(), 30);
}
