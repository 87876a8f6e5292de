use std::net::Ipv6Addr;

use super::*;

/// What places depend on: another one in each run would be another test.
const KEY: u64 = 42;

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

#[test]
fn a_source_is_one_whichever_way_its_address_is_written() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        8,
        KEY,
    );
    let plain = Ipv4Addr::new(192, 0, 2, 1);
    assert!(table.take(plain.into(), 0).is_some());
    assert!(table.take(plain.to_ipv6_mapped().into(), 0).is_none());
    assert!(
        table.take(Ipv4Addr::new(192, 0, 2, 2).into(), 0).is_some(),
        "another v4 address is another source"
    );
    assert_eq!(table.places.len(), 2);
}

#[test]
fn a_v6_source_is_a_slash_64() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        8,
        KEY,
    );
    let v6 = |network, host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host));
    assert!(table.take(v6(1, 1), 0).is_some());
    assert!(table.take(v6(1, 2), 0).is_none());
    assert!(table.take(v6(2, 1), 0).is_some());
}

#[test]
fn each_source_has_a_bucket_of_its_own() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 10,
            burst: 2,
        },
        100,
        KEY,
    );
    for source in 0..100 {
        assert_eq!(
            (0..5)
                .filter(|_| table.take(v4(source), 0).is_some())
                .count(),
            2
        );
    }
    for source in 0..100 {
        assert_eq!(
            (0..5)
                .filter(|_| table.take(v4(source), 100).is_some())
                .count(),
            1
        );
    }
}

#[test]
fn a_million_sources_neither_grow_the_table_nor_get_more_than_its_places() {
    const MAX: u32 = 1_024;
    let rate = Rate {
        per_second: 10,
        burst: 4,
    };
    let mut table = SourceBuckets::new(rate, MAX, KEY);
    let mut passed = 0;
    for source in 0..1_000_000_u32 {
        // A hundred packets a millisecond: ten seconds.
        passed += u64::from(table.take(v4(source), u64::from(source / 100)).is_some());
    }
    assert_eq!(
        (table.places.len(), table.index.len()),
        (MAX as usize, MAX as usize)
    );
    assert!(table.places.capacity() <= 2 * MAX as usize);
    assert!(
        table.index.capacity() <= 4 * MAX as usize,
        "{}",
        table.index.capacity()
    );
    assert!(passed <= u64::from(MAX) * (4 + 10 * 10), "{passed}");
    assert!(
        passed >= u64::from(MAX) * 10 * 9,
        "the flood is to get what the places allow: {passed}"
    );
}

#[test]
fn the_source_that_was_silent_for_longest_makes_room() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        3,
        KEY,
    );
    for source in [1, 2, 3, 1] {
        table.take(v4(source), 0);
    }
    assert!(
        table.take(v4(4), 0).is_none(),
        "it takes over an empty bucket"
    );
    let mut known: Vec<_> = table.index.keys().copied().collect();
    known.sort_by_key(|source| format!("{source:?}"));
    assert_eq!(known, [1, 3, 4].map(|bits| Source::from(v4(bits))));
    assert!(
        table.take(v4(5), 1_000).is_some(),
        "after a second at rest the place of 3 is as good as new"
    );
    assert!(!table.index.contains_key(&Source::from(v4(3))));
}

#[test]
fn the_order_of_use_is_right_after_any_use() {
    const MAX: usize = 7;
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        MAX as u32,
        KEY,
    );
    let mut model: Vec<Source> = Vec::new();
    let mut random = 1_u32;
    for _ in 0..10_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let address = v4(random >> 28);
        table.take(address, 0);
        model.retain(|&source| source != Source::from(address));
        model.push(address.into());
        if model.len() > MAX {
            model.remove(0);
        }
        let mut at = table.rings[0].latest;
        for source in model.iter().rev() {
            assert_eq!(table.places[at as usize].source, *source);
            assert_eq!(table.index[source], at);
            at = table.places[at as usize].earlier;
        }
        assert_eq!(at, table.rings[0].latest);
    }
}

#[test]
fn a_table_of_one_place_works() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        0,
        KEY,
    );
    assert!(table.take(v4(1), 0).is_some());
    assert!(table.take(v4(2), 0).is_none());
    assert!(table.take(v4(3), 1_000).is_some());
    assert_eq!(table.places.len(), 1);
}

/// A table in which all of `known` are, at 1,000 ms.
fn table_with(known: std::ops::Range<u32>, max: u32) -> SourceBuckets {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1_000,
            burst: 10,
        },
        max,
        KEY,
    );
    for now in [0, SETTLED_MS] {
        for source in known.clone() {
            table.take(v4(source), now);
        }
    }
    table
}

fn is_known(table: &SourceBuckets, source: u32) -> bool {
    let place = table.index.get(&Source::from(v4(source)));
    place.is_some_and(|&place| table.places[place as usize].standing == Standing::Known)
}

#[test]
fn a_source_is_known_when_it_is_heard_from_again_after_a_second() {
    let mut table = table_with(0..0, 8);
    for (now, standing) in [
        (0, Standing::New),
        (SETTLED_MS - 1, Standing::New),
        (SETTLED_MS, Standing::Known),
        (SETTLED_MS + 1, Standing::Known),
    ] {
        assert_eq!(table.take(v4(1), now), Some(standing));
    }
}

#[test]
fn a_million_new_sources_take_no_known_one_s_place() {
    let mut table = table_with(0..32, 64);
    for source in 1_000..1_001_000 {
        table.take(v4(source), SETTLED_MS);
    }
    assert!((0..32).all(|source| is_known(&table, source)));
    assert_eq!((table.places.len(), table.index.len()), (64, 64));
}

#[test]
fn no_more_than_half_are_known_and_one_makes_room_after_a_minute_of_silence() {
    let mut table = table_with(0..40, 64);
    assert!((0..32).all(|source| is_known(&table, source)));
    assert!((32..40).all(|source| !is_known(&table, source)));
    // Source 0 goes on and keeps its place; source 1 is then the stalest.
    let later = SETTLED_MS + KEPT_MS;
    table.take(v4(0), later - 1);
    table.take(v4(39), later - 1);
    assert!(!is_known(&table, 39));
    table.take(v4(39), later);
    assert!(is_known(&table, 39) && is_known(&table, 0) && !is_known(&table, 1));
    assert_eq!(table.rings.each_ref().map(|ring| ring.len), [8, 32]);
}

#[test]
fn both_rings_hold_every_place_once_whatever_is_heard() {
    let mut table = table_with(0..0, 9);
    let mut random = 1_u32;
    for round in 0..20_000_u64 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        table.take(v4(random >> 28), round * 97);
        let mut found = Vec::new();
        for (ring, standing) in table.rings.iter().zip([Standing::New, Standing::Known]) {
            let mut at = ring.latest;
            for _ in 0..ring.len {
                let place = &table.places[at as usize];
                assert_eq!(place.standing, standing);
                assert_eq!(table.places[place.earlier as usize].later, at);
                found.push(at);
                at = place.earlier;
            }
            assert!(ring.len == 0 || at == ring.latest);
        }
        found.sort_unstable();
        let all: Vec<u32> = (0..table.places.len() as u32).collect();
        assert_eq!(found, all);
        assert!(table.rings[1].len <= 4);
    }
}
