//! What holds for any script. Here is how scripts are made; what is played through them is in the
//! modules below.

mod framed;
mod wild;

use nix::errno::Errno;
use proptest::collection::vec;
use proptest::prelude::*;

use super::driver::Play;
use super::*;
use crate::readiness::Readiness;
use framed::{any_framed, check_echo};
use wild::{any_move, check_wild};

/// Where the input is cut, and what stands there; used again and again until all is cut.
type Cuts = Vec<(usize, Option<Read>)>;

fn any_cuts() -> impl Strategy<Value = Cuts> {
    let gap = prop::sample::select(vec![
        None,
        Some(Read::Blocked),
        Some(Read::Blocked),
        Some(Read::Interrupted),
        Some(Read::Urgent),
    ]);
    vec((1..60_usize, gap), 1..8)
}

/// The lines that say `input`, cut, and then `end`.
fn cut(mut input: &[u8], cuts: &Cuts, end: Read) -> Vec<Read> {
    let mut reads = Vec::new();
    for (len, gap) in cuts.iter().cycle() {
        let (first, rest) = input.split_at((*len).min(input.len()));
        reads.push(bytes(first));
        reads.extend(gap.clone());
        input = rest;
        if input.is_empty() {
            break;
        }
    }
    reads.push(end);
    reads
}

fn any_writes() -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        3 => (0..50_usize).prop_map(Write::Take),
        3 => Just(Write::Blocked),
        1 => Just(Write::Interrupted),
    ];
    vec(write, 0..40)
}

/// Limits that a few bytes reach.
fn any_limits() -> impl Strategy<Value = Limits> {
    let sizes = (1..100_usize, 0..120_usize, 50..150_usize, 1..200_usize);
    (sizes, 1..120_usize, 0..120_usize, 1..5_u32).prop_map(
        |((read_buffer, gather, max_input, max_pending), high_water, low_water, io_budget)| {
            Limits {
                read_buffer,
                gather,
                max_input,
                max_pending,
                high_water,
                low_water,
                io_budget,
                ..Limits::default()
            }
        },
    )
}

/// What happens next, as long as a test wants to say it.
#[derive(Clone, Debug)]
enum Hint {
    Arrive,
    Room,
    Turn,
    Spurious(Readiness),
}

fn any_hint() -> impl Strategy<Value = Hint> {
    let flags = vec![
        Readiness::READABLE,
        Readiness::WRITABLE,
        Readiness::READ_CLOSED,
        Readiness::WRITE_CLOSED,
        Readiness::ERROR,
        Readiness::PRIORITY,
    ];
    prop_oneof![
        3 => Just(Hint::Arrive),
        2 => Just(Hint::Room),
        2 => Just(Hint::Turn),
        1 => prop::sample::select(flags).prop_map(Hint::Spurious),
    ]
}

fn follow<P: Play, const SHORT: bool>(driver: &mut Driver<P, SHORT>, hint: &Hint) {
    match *hint {
        Hint::Arrive => {
            driver.arrive();
        }
        Hint::Room => {
            driver.make_room();
        }
        Hint::Turn => {
            driver.turn();
        }
        Hint::Spurious(readiness) => driver.event(readiness),
    }
}

proptest! {
    // Nothing is written beside the sources.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn for_any_script_and_any_framing_what_comes_out_is_what_the_framing_says(
        framed in any_framed(),
        cuts in any_cuts(),
        writes in any_writes(),
        limits in any_limits(),
        read_on: bool,
        hints in vec(any_hint(), 0..30),
    ) {
        let reads = cut(&framed.input, &cuts, Read::Eof);
        check_echo::<true>(&framed, &reads, &writes, &limits, read_on, &hints);
        check_echo::<false>(&framed, &reads, &writes, &limits, read_on, &hints);
    }

    #[test]
    fn whatever_a_handler_does_nothing_is_stranded_and_all_adds_up(
        input in vec(any::<u8>(), 0..400),
        (cuts, reset) in (any_cuts(), prop::bool::weighted(0.2)),
        (mut writes, broken) in (any_writes(), prop::option::weighted(0.3, (0..40_usize, any::<bool>()))),
        in_flight in prop::option::of(0..3_u32),
        (mut limits, max_output, linger) in (any_limits(), 1..400_usize, 0..200_u32),
        moves in vec(any_move(), 0..40),
        hints in vec((any_hint(), prop::option::weighted(0.2, any_move())), 0..40),
    ) {
        limits.max_output = max_output;
        limits.linger_bytes = linger;
        let end = if reset { Read::Error(Errno::ECONNRESET) } else { Read::Eof };
        let reads = cut(&input, &cuts, end);
        if let Some((at, gone)) = broken {
            let error = if gone { Errno::EPIPE } else { Errno::ECONNRESET };
            writes.insert(at.min(writes.len()), Write::Error(error));
        }
        check_wild::<true>((&reads, &writes), &input, &limits, &moves, &hints, in_flight);
        check_wild::<false>((&reads, &writes), &input, &limits, &moves, &hints, in_flight);
    }
}
