use std::net::{Ipv4Addr, SocketAddr};

use super::*;

const HOUR: u64 = 3_600_000;

/// Any source.
fn v4(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}

/// What places depend on: another one in each run would be another test.
const KEY: u64 = 42;

#[test]
fn a_bucket_that_is_always_asked_lets_through_exactly_its_rate_for_hours() {
    // 7 and 999 do not divide a second into whole milliseconds.
    for per_second in [1, 7, 999] {
        let mut bucket = Bucket::new(Rate {
            per_second,
            burst: 5,
        });
        let passed = (0..=2 * HOUR).filter(|&now| bucket.take(now)).count();
        // Asked once a millisecond, the burst lasts until it is used up; then there is the rate
        // and no more.
        assert_eq!(passed, 5 + 7_200 * per_second as usize);
    }
}

#[test]
fn a_rate_over_one_a_millisecond_is_exact_too() {
    let mut bucket = Bucket::new(Rate {
        per_second: 12_345,
        burst: 20,
    });
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
    let mut bucket = Bucket::new(rate);
    assert_eq!((0..10).filter(|_| bucket.take(u64::MAX)).count(), 3);
    assert!(!bucket.take(0), "time that steps back gives nothing");
}

#[test]
fn zero_means_never() {
    let mut bucket = Bucket::new(Rate {
        per_second: 100,
        burst: 0,
    });
    assert!(!bucket.take(HOUR));
    assert!(!Bucket::new(Rate::even(0)).take(HOUR));
    let mut bucket = Bucket::new(Rate {
        per_second: 0,
        burst: 1,
    });
    assert!(bucket.take(0));
    assert!(!bucket.take(HOUR));
}

#[test]
fn the_next_line_says_how_many_were_suppressed() {
    let mut limiter = LogLimiter::new(2, 2);
    assert_eq!(limiter.permit(0), Some(Suppressed(0)));
    assert_eq!(limiter.permit(0), Some(Suppressed(0)));
    assert_eq!(limiter.permit(0), None);
    assert_eq!(limiter.permit(499), None);
    assert_eq!(limiter.permit(500), Some(Suppressed(2)));
    assert_eq!(limiter.permit(1_000), Some(Suppressed(0)));
}

#[test]
fn no_line_is_lost_from_the_count() {
    let mut limiter = LogLimiter::new(3, 5);
    let (mut written, mut told, mut pending) = (0, 0, 0);
    for now in 0..HOUR {
        match limiter.permit(now) {
            Some(suppressed) => {
                written += 1;
                told += suppressed.0;
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

#[test]
fn in_any_second_there_is_no_more_than_the_rate_and_a_tenth() {
    for per_second in [1, 7, 10, 25, 10_000] {
        let mut bucket = Bucket::new(Rate::even(per_second));
        let mut passed = Vec::new();
        for now in 0..5_000 {
            passed.push((0..).take_while(|_| bucket.take(now)).count() as u64);
        }
        let most = u64::from(per_second + (per_second / 10).max(1));
        for second in passed.windows(1_000) {
            let count: u64 = second.iter().sum();
            assert!(count <= most, "{count} in a second of {per_second}");
        }
        let all: u64 = passed.iter().sum();
        assert!(
            all <= most + 4 * u64::from(per_second),
            "{all} of {per_second}"
        );
        assert!(
            all >= 5 * u64::from(per_second) - 1,
            "{all} of {per_second}"
        );
    }
}

/// A flood of senders that are forged at random, and one source that asks 50 times a second, for so
/// many seconds from `from` on: how many of its datagrams pass, how many were sent, and how many of
/// the flood's pass.
fn ask_in_a_flood(caps: &mut Caps, from: u64, seconds: u64) -> (u64, u64, u64) {
    let (mut passed, mut sent, mut flood) = (0, 0, 0);
    for now in from..from + seconds * 1_000 {
        // 100,000 a second, none twice.
        for forged in 0..100 {
            let sender = 0x8000_0000 + (now as u32) * 100 + forged;
            flood += u64::from(caps.take(v4(sender), now));
        }
        if now % 20 == 0 {
            sent += 1;
            passed += u64::from(caps.take(v4(1), now));
        }
    }
    (passed, sent, flood)
}

#[test]
fn a_source_that_was_heard_before_a_flood_of_forged_ones_gets_its_share() {
    let mut caps = Caps::new(Some(1_000), Some(100), 1_024, KEY);
    for now in (0..2_000).step_by(20) {
        assert!(caps.take(v4(1), now));
    }
    let (passed, sent, flood) = ask_in_a_flood(&mut caps, 2_000, 10);
    assert_eq!(passed, sent);
    // What is left goes to the others all the same.
    assert!((9_400..=9_600).contains(&flood), "{flood}");
}

#[test]
fn a_source_that_comes_during_a_flood_and_goes_on_gets_its_share_after_a_second() {
    // The table is larger than what the flood sends between two of its datagrams.
    let mut caps = Caps::new(Some(1_000), Some(100), 1 << 16, KEY);
    ask_in_a_flood(&mut caps, 0, 2);
    let (passed, sent, _) = ask_in_a_flood(&mut caps, 2_000, 10);
    assert_eq!(passed, sent);
}

#[test]
fn many_known_sources_together_get_no_more_than_the_cap() {
    let mut caps = Caps::new(Some(100), Some(100), 64, KEY);
    let mut passed = 0;
    for now in 0..10_000 {
        for source in 0..20 {
            passed += u64::from(caps.take(v4(source), now));
        }
    }
    assert!(passed <= 100 * 10 + 10, "{passed}");
}

#[test]
fn one_datagram_that_goes_round_is_dropped_after_a_thousand_times() {
    let mut repeats = Repeats::new(100, KEY);
    let from: SocketAddr = ([127, 0, 0, 1], 5000).into();
    // Twenty times a millisecond.
    let rounds = (0..10_000).position(|round| !repeats.take(from, b"round", round / 20));
    // The first one is none, then there are ten seconds' worth and what is gained meanwhile.
    let rounds = rounds.unwrap();
    assert!((1_001..=1_010).contains(&rounds), "{rounds}");
}

#[test]
fn datagrams_that_differ_in_anything_are_no_repeats() {
    let mut repeats = Repeats::new(0, KEY);
    let from = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let long = |at: usize, byte| {
        let mut data = vec![0; 1_000];
        data[at] = byte;
        data
    };
    for (from, data) in [
        (from(5000), b"a".to_vec()),
        (from(5001), b"a".to_vec()),
        (from(5000), b"b".to_vec()),
        (from(5000), b"".to_vec()),
        (from(5000), vec![0; 999]),
        (from(5000), long(0, 1)),
        (from(5000), long(999, 1)),
    ] {
        assert!(repeats.take(from, &data, 0), "{from} {}", data.len());
        // At once, unless another one has its place, which it takes over in time.
        let repeated = (0..64).any(|_| !repeats.take(from, &data, 0));
        assert!(repeated, "{from} {}", data.len());
    }
}

#[test]
fn more_datagrams_than_are_remembered_do_not_go_round_for_good_either() {
    let mut repeats = Repeats::new(100, KEY);
    let from: SocketAddr = ([127, 0, 0, 1], 5000).into();
    let mut under_way: Vec<u32> = (0..4_000).collect();
    let mut sent = 0;
    while !under_way.is_empty() {
        under_way.retain(|number| {
            sent += 1;
            // Forty a millisecond.
            repeats.take(from, &number.to_be_bytes(), sent / 40)
        });
        assert!(sent < 1_000_000, "{} are still under way", under_way.len());
    }
}
