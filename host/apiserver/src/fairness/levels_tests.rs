use super::{Arrival, Kind, Levels, Shape, Spec, limits};
use crate::fairness::queues::Waiting;
use api::kinds;
use api::meta;
use std::collections::BTreeMap;

const SHAPE: Shape = Shape {
    queues: 4,
    hand: 1,
    length: 100,
};

fn limited(shares: u32, lendable: u32, borrowing: Option<u32>, shape: Option<Shape>) -> Spec {
    Spec {
        uid: String::new(),
        kind: Kind::Limited {
            shares,
            lendable,
            borrowing,
            shape,
        },
    }
}

fn usual() -> BTreeMap<String, Spec> {
    let all = kinds::initial_objects().into_iter();
    all.filter(|(kind, _)| kind.plural() == "prioritylevelconfigurations")
        .map(|(_, object)| (meta::name(&object).to_owned(), Spec::parse(&object)))
        .collect()
}

// Table: the usual levels on 600 seats: nominal, floor.
#[test]
fn seats_are_divided_by_shares() {
    let specs = usual();
    for (name, nominal, floor) in [
        ("catch-all", 13, 13),
        ("global-default", 49, 24),
        ("leader-election", 25, 25),
        ("node-high", 98, 73),
        ("system", 74, 50),
        ("workload-high", 98, 49),
        ("workload-low", 245, 24),
    ] {
        let found = limits(specs[name].kind, 245, 600).expect("limited");
        assert_eq!((found.nominal, found.floor), (nominal, floor), "{name}");
    }
    assert_eq!(limits(specs["exempt"].kind, 245, 600), None);
}

struct World {
    levels: Levels,
    next: u64,
}

impl World {
    fn new(total: u32, specs: &[(&str, Spec)]) -> World {
        let mut levels = Levels::new(total);
        let specs = specs.iter().map(|(n, s)| ((*n).to_owned(), s.clone()));
        levels.configure(&specs.collect());
        World { levels, next: 0 }
    }

    /// How many of so many requests are served at once; the rest waits.
    fn flood(&mut self, level: &str, count: usize) -> usize {
        let mut served = 0;
        for _ in 0..count {
            let waiting = Waiting {
                id: self.next,
                seats: 1,
            };
            self.next += 1;
            match self.levels.arrive(level, waiting, 0, 0.0) {
                Arrival::Served(_) => served += 1,
                Arrival::Waits(_) => served += self.levels.dispatch(0.0).len(),
                Arrival::Refused(_) => {}
            }
        }
        served
    }
}

// Table: two levels of 10 seats each; what `b` may have while `a` is idle, and
// what `a` has after.
#[test]
fn idle_seats_are_lent_and_floors_are_kept() {
    for (lendable, borrowing, b_gets, a_gets) in [
        (0, None, 10, 10),
        (50, None, 15, 5),
        (100, None, 20, 1),
        (100, Some(20), 12, 8),
        (100, Some(0), 10, 10),
    ] {
        let mut world = World::new(
            20,
            &[
                ("a", limited(1, lendable, None, Some(SHAPE))),
                ("b", limited(1, 0, borrowing, Some(SHAPE))),
            ],
        );
        let case = (lendable, borrowing);
        assert_eq!(world.flood("b", 50), b_gets, "{case:?}");
        assert_eq!(world.flood("a", 50), a_gets, "{case:?}");
    }
}

#[test]
fn a_level_without_queues_refuses_what_finds_no_seat() {
    let mut world = World::new(3, &[("a", limited(1, 0, None, None))]);
    assert_eq!(world.flood("a", 5), 3);
    let waiting = Waiting { id: 99, seats: 1 };
    let refused = world.levels.arrive("a", waiting, 0, 0.0);
    assert_eq!(refused, Arrival::Refused("concurrency-limit"));
}

#[test]
fn a_wide_request_is_served_alone() {
    let mut world = World::new(2, &[("a", limited(1, 0, None, Some(SHAPE)))]);
    let wide = Waiting { id: 7, seats: 9 };
    assert!(matches!(
        world.levels.arrive("a", wide, 0, 0.0),
        Arrival::Waits(_)
    ));
    let served = world.levels.dispatch(0.0);
    assert_eq!(served.len(), 1);
    assert_eq!(world.flood("a", 1), 0);
    world.levels.end("a", &served[0].1, 1.0);
    assert_eq!(world.levels.dispatch(1.0).len(), 1);
}

#[test]
fn levels_come_and_go_while_requests_wait() {
    let mut world = World::new(2, &[("a", limited(1, 0, None, Some(SHAPE)))]);
    assert_eq!(world.flood("a", 5), 2);
    // No queues any more: nobody new waits, who waits is served in time.
    let one = |spec: Spec| BTreeMap::from([("a".to_owned(), spec)]);
    world.levels.configure(&one(limited(1, 0, None, None)));
    assert_eq!(world.flood("a", 1), 0);
    world
        .levels
        .configure(&one(limited(1, 0, None, Some(SHAPE))));
    assert_eq!(world.flood("a", 1), 0);
    world.levels.configure(&BTreeMap::new());
    let waiting = Waiting { id: 99, seats: 1 };
    assert!(world.levels.arrive("b", waiting, 0, 0.0) == Arrival::Refused("concurrency-limit"));
}
