use std::net::Ipv6Addr;

use super::*;

const HOUR: u64 = 3_600_000;

fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

#[test]
fn a_bucket_that_is_always_asked_lets_through_exactly_its_rate_for_hours() {
    // 7 and 999 do not divide a second into whole milliseconds.
    for per_second in [1, 7, 999] {
        let mut bucket = Bucket::new(
            Rate {
                per_second,
                burst: 5,
            },
            0,
        );
        let passed = (0..=2 * HOUR).filter(|&now| bucket.take(now)).count();
        // Asked once a millisecond, the burst lasts until it is used up; then there is the rate
        // and no more.
        assert_eq!(passed, 5 + 7_200 * per_second as usize);
    }
}

#[test]
fn a_rate_over_one_a_millisecond_is_exact_too() {
    let mut bucket = Bucket::new(
        Rate {
            per_second: 12_345,
            burst: 20,
        },
        0,
    );
    let mut passed = 0;
    for now in 0..=60_000 {
        while bucket.take(now) {
            passed += 1;
        }
    }
    assert_eq!(passed, 20 + 60 * 12_345);
}

#[test]
fn a_rest_however_long_gives_one_burst_and_overflows_nothing() {
    let rate = Rate {
        per_second: u32::MAX,
        burst: 3,
    };
    let mut bucket = Bucket::new(rate, 0);
    assert_eq!((0..10).filter(|_| bucket.take(u64::MAX)).count(), 3);
    assert!(!bucket.take(0), "time that steps back gives nothing");
}

#[test]
fn zero_means_never() {
    let mut bucket = Bucket::new(
        Rate {
            per_second: 100,
            burst: 0,
        },
        0,
    );
    assert!(!bucket.take(HOUR));
    let mut bucket = Bucket::new(
        Rate {
            per_second: 0,
            burst: 1,
        },
        0,
    );
    assert!(bucket.take(0));
    assert!(!bucket.take(HOUR));
}

#[test]
fn a_source_is_one_whichever_way_its_address_is_written() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        8,
    );
    let plain = Ipv4Addr::new(192, 0, 2, 1);
    assert!(table.take(plain.into(), 0));
    assert!(!table.take(plain.to_ipv6_mapped().into(), 0));
    assert!(
        table.take(Ipv4Addr::new(192, 0, 2, 2).into(), 0),
        "another v4 address is another source"
    );
    assert_eq!(table.len(), 2);
}

#[test]
fn a_v6_source_is_a_slash_64() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 1,
            burst: 1,
        },
        8,
    );
    let v6 = |network, host| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host));
    assert!(table.take(v6(1, 1), 0));
    assert!(!table.take(v6(1, 2), 0));
    assert!(table.take(v6(2, 1), 0));
}

#[test]
fn each_source_has_a_bucket_of_its_own() {
    let mut table = SourceBuckets::new(
        Rate {
            per_second: 10,
            burst: 2,
        },
        100,
    );
    for source in 0..100 {
        assert_eq!((0..5).filter(|_| table.take(v4(source), 0)).count(), 2);
    }
    for source in 0..100 {
        assert_eq!((0..5).filter(|_| table.take(v4(source), 100)).count(), 1);
    }
}

#[test]
fn a_million_sources_neither_grow_the_table_nor_get_more_than_its_places() {
    const MAX: u32 = 1_024;
    let rate = Rate {
        per_second: 10,
        burst: 4,
    };
    let mut table = SourceBuckets::new(rate, MAX);
    let mut passed = 0;
    for source in 0..1_000_000_u32 {
        // A hundred packets a millisecond: ten seconds.
        passed += u64::from(table.take(v4(source), u64::from(source / 100)));
    }
    assert_eq!(
        (table.len(), table.index.len()),
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
    );
    for source in [1, 2, 3, 1] {
        table.take(v4(source), 0);
    }
    assert!(!table.take(v4(4), 0), "it takes over an empty bucket");
    let mut known: Vec<_> = table.index.keys().copied().collect();
    known.sort_by_key(|source| format!("{source:?}"));
    assert_eq!(known, [1, 3, 4].map(|bits| Source::from(v4(bits))));
    assert!(
        table.take(v4(5), 1_000),
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
        let mut at = table.latest;
        for source in model.iter().rev() {
            assert_eq!(table.places[at as usize].source, *source);
            assert_eq!(table.index[source], at);
            at = table.places[at as usize].earlier;
        }
        assert_eq!(at, table.latest);
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
    );
    assert!(table.take(v4(1), 0));
    assert!(!table.take(v4(2), 0));
    assert!(table.take(v4(3), 1_000));
    assert_eq!(table.len(), 1);
}

#[test]
fn the_next_line_says_how_many_were_suppressed() {
    let mut limiter = LogLimiter::new(
        Rate {
            per_second: 2,
            burst: 2,
        },
        0,
    );
    assert_eq!(limiter.permit(0), Some(0));
    assert_eq!(limiter.permit(0), Some(0));
    assert_eq!(limiter.permit(0), None);
    assert_eq!(limiter.permit(499), None);
    assert_eq!(limiter.permit(500), Some(2));
    assert_eq!(limiter.permit(1_000), Some(0));
}

#[test]
fn no_line_is_lost_from_the_count() {
    let mut limiter = LogLimiter::new(
        Rate {
            per_second: 3,
            burst: 5,
        },
        0,
    );
    let (mut written, mut told, mut pending) = (0, 0, 0);
    for now in 0..HOUR {
        match limiter.permit(now) {
            Some(suppressed) => {
                written += 1;
                told += suppressed;
                pending = 0;
            }
            None => pending += 1,
        }
    }
    assert_eq!(written + told + pending, HOUR);
    assert_eq!(
        written,
        5 + 3 * 3_600 - 1,
        "the last third of a second falls just outside"
    );
}
