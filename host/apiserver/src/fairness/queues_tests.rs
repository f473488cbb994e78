use super::{Queues, Served, Shape, Waiting, deal};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};

const SHAPE: Shape = Shape {
    queues: 64,
    hand: 6,
    length: 50,
};

fn shape() -> impl Strategy<Value = Shape> {
    (1_usize..130, 1_usize..10, 1_usize..60).prop_map(|(queues, hand, length)| Shape {
        queues,
        hand: hand.min(queues),
        length,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzzing::cases(500)))]

    #[test]
    fn a_hand_is_of_different_queues(hash in any::<u64>(), shape in shape()) {
        let hand = deal(hash, shape);
        prop_assert_eq!(hand.len(), shape.hand);
        let different: BTreeSet<usize> = hand.iter().copied().collect();
        prop_assert_eq!(different.len(), hand.len());
        prop_assert!(hand.iter().all(|at| *at < shape.queues));
    }
}

/// A flow that has `backlog` requests of `seats` under way or waiting at all
/// times.
#[derive(Clone, Copy, Debug)]
struct Flow {
    hash: u64,
    seats: u32,
    backlog: usize,
}

/// What each flow was served, in seat-seconds, on `seats` seats for `seconds`,
/// when every service takes `took`; and its longest wait.
fn simulate(flows: &[Flow], shape: Shape, seats: u32, seconds: f64, took: f64) -> Vec<(f64, f64)> {
    let mut queues = Queues::new(shape);
    let mut running: VecDeque<(f64, usize, Served)> = VecDeque::new();
    let mut owners: Vec<(usize, f64)> = Vec::new();
    let mut counts = vec![0_usize; flows.len()];
    let mut outcome = vec![(0.0, 0.0_f64); flows.len()];
    let (mut now, mut used) = (0.0, 0);
    while now < seconds {
        for (which, flow) in flows.iter().enumerate() {
            while counts[which] < flow.backlog {
                let waiting = Waiting {
                    id: owners.len() as u64,
                    seats: flow.seats,
                };
                if queues.push(waiting, flow.hash, seats, now).is_none() {
                    break;
                }
                owners.push((which, now));
                counts[which] += 1;
            }
        }
        while let Some(served) = queues.pop(seats, now, |s| used == 0 || used + s <= seats) {
            used += served.waiting.seats;
            let id = usize::try_from(served.waiting.id).expect("small");
            let (which, arrived) = owners[id];
            outcome[which].1 = outcome[which].1.max(now - arrived);
            running.push_back((now + took, which, served));
        }
        let Some((ends, which, served)) = running.pop_front() else {
            break;
        };
        now = ends;
        used -= served.waiting.seats;
        counts[which] -= 1;
        outcome[which].0 += f64::from(served.waiting.seats) * took;
        queues.end(&served, seats, now);
    }
    outcome
}

#[test]
fn an_elephant_gets_no_more_than_its_hand_and_mice_do_not_wait() {
    let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mouse = |n| Flow {
        hash: hash(n),
        seats: 1,
        backlog: 1,
    };
    let elephant = Flow {
        hash: hash(99),
        seats: 1,
        backlog: 300,
    };
    let mut flows: Vec<Flow> = (1..=4).map(mouse).collect();
    flows.push(elephant);
    let outcome = simulate(&flows, SHAPE, 8, 100.0, 0.1);
    for (served, longest) in &outcome[..4] {
        // Alone it would be served for 100 seconds.
        assert!(*served > 30.0, "{outcome:?}");
        assert!(*longest < 1.0, "{outcome:?}");
    }
    assert!(outcome[4].0 > 100.0, "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzzing::cases(60)))]

    /// Flows in queues of their own that always want more get equal shares.
    #[test]
    fn no_flow_starves(
        wants in proptest::collection::vec((1_u32..4, 4_usize..40), 2..6),
        seats in 1_u32..12,
    ) {
        // One queue a flow: no two share one.
        let shape = Shape { queues: 64, hand: 1, length: 50 };
        let flow = |(n, (wide, backlog)): (usize, &(u32, usize))| Flow {
            hash: n as u64,
            seats: (*wide).min(seats),
            backlog: *backlog,
        };
        let flows: Vec<Flow> = wants.iter().enumerate().map(flow).collect();
        let outcome = simulate(&flows, shape, seats, 400.0, 0.25);
        let all: f64 = outcome.iter().map(|o| o.0).sum();
        let fair = all / f64::from(u32::try_from(flows.len()).expect("few"));
        let could = |f: &Flow| 400.0 * f64::from(f.seats) * f.backlog as f64;
        for (flow, (served, _)) in flows.iter().zip(&outcome) {
            let due = fair.min(could(flow)) * 0.5;
            prop_assert!(*served > due, "{flow:?} of {flows:?} on {seats}: {outcome:?}");
        }
    }

    /// Whatever comes and goes, what was put in comes out once, and seats add up.
    #[test]
    fn nothing_is_lost_or_served_twice(
        steps in proptest::collection::vec((0_u8..4, any::<u64>(), 1_u32..5), 1..400),
        shape in shape(),
    ) {
        let mut queues = Queues::new(shape);
        let (mut waiting, mut running, mut used) = (Vec::new(), Vec::new(), 0_u32);
        for (id, (what, hash, seats)) in steps.into_iter().enumerate() {
            let (id, now) = (id as u64, id as f64 / 7.0);
            match what {
                0 | 1 => {
                    let new = Waiting { id, seats };
                    if let Some(at) = queues.push(new, hash, 10, now) {
                        waiting.push((at, id));
                    }
                }
                2 => {
                    let fits = |s| used == 0 || used + s <= 10;
                    let served = queues.pop(10, now, fits);
                    if let Some(served) = served {
                        let known = (served.queue, served.waiting.id);
                        let at = waiting.iter().position(|w| *w == known);
                        prop_assert!(at.is_some(), "{served:?}");
                        waiting.swap_remove(at.unwrap_or_default());
                        used += served.waiting.seats;
                        running.push(served);
                    }
                }
                _ if hash % 2 == 0 && !waiting.is_empty() => {
                    let at = usize::try_from(hash / 2).unwrap_or(0) % waiting.len();
                    let (queue, id) = waiting.swap_remove(at);
                    prop_assert!(queues.remove(queue, id));
                    prop_assert!(!queues.remove(queue, id));
                }
                _ => if let Some(served) = running.pop() {
                    used -= served.waiting.seats;
                    queues.end(&served, 10, now);
                },
            }
            prop_assert_eq!(queues.is_empty(), waiting.is_empty());
        }
        for served in running {
            queues.end(&served, 10, 1e6);
        }
        let mut left = 0;
        while queues.pop(10, 1e6, |_| true).is_some() {
            left += 1;
        }
        prop_assert_eq!(left, waiting.len());
    }
}
