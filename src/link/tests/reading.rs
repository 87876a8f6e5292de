//! How a link reads, and what of it the handler sees.

use nix::errno::Errno;

use super::*;
use crate::error::CloseReason;
use crate::link::{Flags, Link, Step};
use crate::readiness::Readiness;

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec())
}

on_both! {
    fn data_and_fin_in_one_event_are_both_seen<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        assert_eq!(driver.seen, [data(b"abc"), Seen::Eof(vec![])]);
        assert_eq!(driver.written(), b"abc");
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn data_and_fin_in_one_event_outlive_a_pause<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.outside(|link| link.pause());
        driver.arrive();
        assert_eq!(driver.calls().reads, 0);
        driver.outside(|link| link.resume());
        assert_eq!(driver.seen, [data(b"abc"), Seen::Eof(vec![])]);
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn data_and_fin_in_one_event_outlive_a_pause_between_them<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.pause();
            echo(link, data)
        }));
        driver.arrive();
        assert_eq!(driver.seen, [data(b"abc")]);
        driver.outside(|link| link.resume());
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn data_and_fin_in_one_event_outlive_a_spent_budget<SHORT>() {
        let limits = Limits { io_budget: 1, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, limits, answer(echo));
        driver.arrive();
        assert_eq!(driver.seen, [data(b"abc")]);
        while driver.turn() {}
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn an_end_is_found_though_its_event_does_not_say_readable<SHORT>() {
        let script = Script::<SHORT>::new([Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        assert!(driver.link.stream.arrive().is_some());
        driver.event(Readiness::READ_CLOSED);
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn an_error_is_found_though_its_event_does_not_say_readable<SHORT>() {
        let script = Script::<SHORT>::new([Read::Error(Errno::ETIMEDOUT)], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        assert!(driver.link.stream.arrive().is_some());
        driver.event(Readiness::ERROR);
        assert_eq!(driver.closed, Some(CloseReason::Failed(Errno::ETIMEDOUT as u16)));
    }

    fn urgent_data_makes_it_read_on_past_a_short_read<SHORT>() {
        let reads = [bytes(b"before"), Read::Urgent, bytes(b"behind")];
        let mut driver =
            Driver::new(Script::<SHORT>::new(reads, []), Limits::default(), answer(echo));
        driver.arrive();
        assert_eq!(driver.written(), b"beforebehind");
        assert_eq!(driver.calls().reads, 3);
    }

    fn urgent_data_outlives_a_pause_between_its_two_sides<SHORT>() {
        let reads = [bytes(b"before"), Read::Urgent, bytes(b"behind")];
        let script = Script::<SHORT>::new(reads, []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.pause();
            echo(link, data)
        }));
        driver.arrive();
        assert_eq!(driver.written(), b"before");
        driver.outside(|link| link.resume());
        assert_eq!(driver.written(), b"beforebehind");
    }

    fn once_a_read_is_refused_urgent_data_is_forgotten<SHORT>() {
        let reads = [bytes(b"before"), Read::Urgent, Read::Blocked, bytes(b"behind")];
        let script = Script::<SHORT>::new(reads, []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        assert_eq!(driver.calls().reads, 2);
        driver.arrive();
        assert_eq!(driver.written(), b"beforebehind");
        assert_eq!(driver.calls().reads, if SHORT { 3 } else { 4 });
    }

    fn a_short_read_saves_the_next_one_only_where_it_shows_something<SHORT>() {
        let script = Script::<SHORT>::new([bytes(&[7; 64])], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        let calls = driver.calls();
        assert_eq!((calls.reads, calls.writes), (if SHORT { 1 } else { 2 }, 1));
        assert_eq!(driver.written(), [7; 64]);
    }

    fn a_full_read_is_followed_by_another<SHORT>() {
        let limits = Limits { read_buffer: 4, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(b"12345678")], []);
        let mut driver = Driver::new(script, limits, answer(echo));
        driver.arrive();
        assert_eq!(driver.seen, [data(b"1234"), data(b"5678")]);
        assert_eq!(driver.calls().reads, 3);
    }

    fn unconsumed_input_comes_again_in_front_of_new<SHORT>() {
        let reads = [bytes(b"ab"), Read::Blocked, bytes(b"cd"), Read::Blocked, bytes(b"ef")];
        let script = Script::<SHORT>::new(reads, []);
        let play = answer(|_, data| data.len() / 3 * 3);
        let mut driver = Driver::new(script, Limits::default(), play);
        driver.settle();
        assert_eq!(driver.seen, [data(b"ab"), data(b"abcd"), data(b"def")]);
        assert!(driver.link.is_plain());
    }

    fn unconsumed_input_does_not_come_again_without_a_cause<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"ab")], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|_, _| 0));
        driver.arrive();
        driver.event(Readiness::READABLE | Readiness::WRITABLE);
        driver.outside(|link| link.resume());
        assert_eq!(driver.seen, [data(b"ab")]);
    }

    fn unconsumed_input_is_shown_at_the_end<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"ab"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|_, _| 1));
        driver.arrive();
        assert_eq!(driver.seen, [data(b"ab"), Seen::Eof(b"b".to_vec())]);
        assert_eq!(driver.shared.stats.discarded, 1);
    }

    fn input_left_while_paused_comes_again_after_resume<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc")], []);
        let mut first = true;
        let mut driver = Driver::new(script, Limits::default(), answer(move |link, data| {
            if std::mem::take(&mut first) {
                link.pause();
                return 1;
            }
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.seen, [data(b"abc")]);
        driver.outside(|link| link.resume());
        assert_eq!(driver.seen, [data(b"abc"), data(b"bc")]);
        assert!(driver.link.is_plain());
    }

    fn who_pauses_and_resumes_within_one_callback_is_shown_the_rest<SHORT>() {
        // Three requests in one piece, and the end with them: each is a job that is done at once.
        let script = Script::<SHORT>::new([bytes(b"aabbcc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.pause();
            link.write(&data[..2]);
            link.resume();
            2
        }));
        driver.settle();
        assert_eq!(driver.written(), b"aabbcc");
        let shown = [data(b"aabbcc"), data(b"bbcc"), data(b"cc"), Seen::Eof(vec![])];
        assert_eq!(driver.seen, shown);
    }

    fn to_be_shown_the_rest_costs_budget_and_taking_nothing_is_not_shown_again<SHORT>() {
        let limits = Limits { io_budget: 3, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(&[1; 10])], []);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            link.pause();
            link.resume();
            usize::from(data.len() > 4)
        }));
        driver.arrive();
        assert_eq!((driver.seen.len(), driver.queued), (3, true), "it spun");
        while driver.turn() {}
        assert_eq!(driver.seen.len(), 7);
        assert_eq!(driver.seen.last(), Some(&data(&[1; 4])));
    }

    fn too_much_unconsumed_input_closes<SHORT>() {
        let limits = Limits { max_input: 8, ..Limits::default() };
        let reads = [bytes(b"1234"), Read::Blocked, bytes(b"567"), Read::Blocked, bytes(b"8")];
        let script = Script::<SHORT>::new(reads, []);
        let mut driver = Driver::new(script, limits, answer(|_, _| 0));
        driver.arrive();
        driver.arrive();
        assert_eq!(driver.link.phase(), Phase::Open);
        driver.arrive();
        assert_eq!(driver.link.reason(), Some(CloseReason::InputOverflow));
        assert_eq!(driver.shared.stats.discarded, 8);
    }

    fn too_much_unconsumed_input_is_no_fault_while_paused<SHORT>() {
        let limits = Limits { max_input: 8, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(&[1; 20])], []);
        let mut paused = false;
        let mut driver = Driver::new(script, limits, answer(move |link, data| {
            if !std::mem::replace(&mut paused, true) {
                link.pause();
                return 0;
            }
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.link.phase(), Phase::Open);
        // However large the read buffer is: no more is kept than may be.
        assert_eq!(driver.shared.stats.unconsumed, 8);
        driver.outside(|link| link.resume());
        assert_eq!(driver.seen[1], data(&[1; 8]));
        assert_eq!(driver.shared.stats.consumed, 20);
    }

    fn too_much_unconsumed_input_is_a_fault_after_resume<SHORT>() {
        let limits = Limits { max_input: 8, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(&[1; 20])], []);
        let mut paused = false;
        let mut driver = Driver::new(script, limits, answer(move |link, _| {
            if !std::mem::replace(&mut paused, true) {
                link.pause();
            }
            0
        }));
        driver.arrive();
        assert_eq!(driver.link.phase(), Phase::Open);
        driver.outside(|link| link.resume());
        assert_eq!(driver.link.reason(), Some(CloseReason::InputOverflow));
    }

    fn too_much_unconsumed_input_is_no_fault_under_pressure<SHORT>() {
        let limits = Limits { max_input: 8, high_water: 10, low_water: 0, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(&[1; 20])], full([]));
        let mut wrote = false;
        let mut driver = Driver::new(script, limits, answer(move |link, data| {
            if !std::mem::replace(&mut wrote, true) {
                assert_eq!(link.write(&[2; 10]), Pressure::High);
                return 0;
            }
            data.len()
        }));
        driver.arrive();
        assert_eq!((driver.link.phase(), driver.seen.len()), (Phase::Open, 1));
        driver.make_room();
        assert_eq!(driver.seen[..3], [data(&[1; 8]), Seen::Drained, data(&[1; 8])]);
        assert_eq!(driver.shared.stats.consumed, 20);
    }

    fn kept_input_never_grows_past_its_maximum<SHORT>() {
        let limits = Limits { max_input: 8, high_water: 1, ..Limits::default() };
        let reads = [bytes(b"12345"), Read::Blocked, bytes(b"6789abc")];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, limits, answer(|link, _| {
            link.write(b"!");
            0
        }));
        driver.outside(|link| link.read_on(true));
        driver.arrive();
        driver.arrive();
        assert_eq!(driver.seen, [data(b"12345"), data(b"12345678")]);
        assert_eq!(driver.shared.stats.bytes_in, 8);
    }

    fn an_interrupted_call_is_made_again<SHORT>() {
        let reads = [
            Read::Interrupted, bytes(b"ab"), Read::Interrupted, Read::Interrupted, bytes(b"cd"),
            Read::Interrupted, Read::Eof,
        ];
        let writes = [
            Write::Interrupted, Write::Take(1), Write::Interrupted, Write::Take(1), Write::Blocked,
            Write::Interrupted,
        ];
        let mut driver =
            Driver::new(Script::<SHORT>::new(reads, writes), Limits::default(), answer(echo));
        driver.settle();
        assert_eq!(driver.written(), b"abcd");
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn spurious_events_are_harmless<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        let flags = [
            Readiness::READABLE, Readiness::WRITABLE, Readiness::PRIORITY, Readiness::READ_CLOSED,
            Readiness::WRITE_CLOSED, Readiness::ERROR,
        ];
        for flag in flags {
            driver.event(flag);
            driver.event(flag);
        }
        assert_eq!((driver.link.phase(), driver.seen.len()), (Phase::Open, 0));
        driver.arrive();
        assert_eq!(driver.written(), b"abc");
        for flag in flags {
            driver.event(flag);
        }
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn a_turn_takes_no_more_reads_than_its_budget_and_nothing_is_stranded<SHORT>() {
        let limits = Limits { io_budget: 3, read_buffer: 2, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(&[5; 40])], []);
        let mut driver = Driver::new(script, limits, answer(echo));
        driver.arrive();
        assert!(driver.queued);
        let mut before = driver.calls().reads;
        assert_eq!(before, 3);
        while driver.turn() {
            let now = driver.calls().reads;
            assert!(now - before <= 3);
            before = now;
        }
        assert_eq!(driver.written(), [5; 40]);
    }

    fn what_all_keep_together_stops_who_keeps_most_and_not_who_keeps_little<SHORT>() {
        let limits = Limits { max_pending: 100 << 10, high_water: 1 << 20, ..Limits::default() };
        let reads = [bytes(&[1; 60_000]), Read::Blocked, bytes(b"more")];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, limits, answer(echo));
        driver.arrive();
        assert_eq!(driver.link.pending(), 60_000);
        driver.arrive();
        assert_eq!(driver.seen.len(), 1, "read, though it keeps more than is left");
        driver.drive();
        assert_eq!(driver.shared.stats.pending_pauses, 1);
        let another = |input: &[u8]| {
            let reads = [bytes(input), Read::Blocked, bytes(b"again")];
            let mut link = Link::new(Script::<SHORT>::new(reads, full([])), Phase::Open);
            link.untag(Flags::UNGREETED);
            link
        };
        let read = |driver: &mut Driver<_, SHORT>, other: &mut Link<Script<SHORT>>| {
            let (shared, scratch) = (&mut driver.shared, &mut [0; 64 << 10]);
            other.stream.arrive();
            other.ready(Readiness::READABLE);
            shared.begin_turn();
            match other.next(shared, scratch) {
                Step::Fresh(count) => {
                    other.write(shared, &scratch[..count]);
                    other.consumed(shared, &scratch[..count], count);
                    other.next(shared, scratch);
                    Some(count)
                }
                _ => None,
            }
        };
        let mut little = another(b"hello");
        assert_eq!(read(&mut driver, &mut little), Some(5));
        assert_eq!(read(&mut driver, &mut little), Some(5), "stopped, though it keeps little");
        let mut much = another(&[2; 60_000]);
        let count = read(&mut driver, &mut much).unwrap();
        assert!(count < 45_000, "read {count}, more than was left");
        assert_eq!(read(&mut driver, &mut much), None, "read, though it keeps more than is left");
        // Its own output is out: what the others have is none of its business, and no arrival will
        // remind it.
        driver.link.stream.make_room();
        driver.link.ready(Readiness::WRITABLE);
        driver.shared.begin_turn();
        let scratch = &mut [0; 64];
        let step = driver.link.next(&mut driver.shared, scratch);
        assert!(matches!(step, Step::Drained), "{step:?}");
        let step = driver.link.next(&mut driver.shared, scratch);
        assert!(matches!(step, Step::Fresh(4)), "{step:?}");
    }
}

#[test]
#[should_panic(expected = "on_data consumed 4 of 3 bytes")]
fn a_handler_that_consumes_more_than_there_was_is_told_so() {
    let script = Script::<true>::new([bytes(b"abc")], []);
    Driver::new(script, Limits::default(), answer(|_, data| data.len() + 1)).arrive();
}
