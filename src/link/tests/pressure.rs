//! Backpressure: when a link stops reading because of its output, and how it goes on.

use super::*;
use crate::error::CloseReason;

/// Marks that a few bytes reach: high at 16, low at 4.
fn low_marks() -> Limits {
    Limits {
        high_water: 16,
        low_water: 4,
        ..Limits::default()
    }
}

on_both! {
    fn after_the_flush_reading_resumes_by_itself<SHORT>() {
        let reads = [bytes(&[1; 16]), Read::Blocked, bytes(&[2; 5])];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, low_marks(), answer(echo));
        driver.arrive();
        let reads = driver.calls().reads;
        driver.arrive();
        assert_eq!(driver.calls().reads, reads, "read above the high-water mark");
        assert_eq!(driver.shared.stats.pressure_pauses, 1);
        // Only the room is an event now; the input's own is long gone.
        driver.make_room();
        assert_eq!(driver.written().len(), 21);
    }

    fn a_link_under_pressure_reads_again_at_the_low_mark_and_is_drained_once<SHORT>() {
        let reads = [bytes(&[1; 16]), Read::Blocked, bytes(&[2; 3])];
        let room = [Write::Take(11), Write::Blocked, Write::Take(1), Write::Blocked];
        let script = Script::<SHORT>::new(reads, full(room));
        let mut driver = Driver::new(script, low_marks(), answer(echo));
        driver.arrive();
        driver.arrive();
        driver.make_room();
        assert_eq!((driver.link.pending(), driver.seen.len()), (5, 1));
        driver.make_room();
        assert_eq!(driver.seen[1..], [Seen::Drained, Seen::Data(vec![2; 3])]);
        driver.settle();
        assert_eq!(driver.written().len(), 19);
        assert_eq!(driver.seen.len(), 3, "{:?}", driver.seen);
    }

    fn what_goes_out_at_once_is_no_pressure_however_much_it_is<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"go")], []);
        let mut driver = Driver::new(script, low_marks(), answer(|link, data| {
            for _ in 0..4 {
                assert_eq!(link.write(&[1; 15]), Pressure::Low);
            }
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.seen, [Seen::Data(b"go".to_vec())]);
        assert_eq!(driver.written(), [1; 60]);
    }

    fn a_link_that_reads_on_does_not_stop_under_pressure<SHORT>() {
        let reads = [bytes(&[1; 16]), Read::Blocked, bytes(&[2; 5]), Read::Eof];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, low_marks(), answer(echo));
        driver.outside(|link| link.read_on(true));
        driver.arrive();
        driver.arrive();
        assert_eq!(driver.link.pending(), 21);
        assert_eq!(driver.seen[1..], [Seen::Data(vec![2; 5]), Seen::Eof(vec![])]);
        assert_eq!(driver.shared.stats.pressure_pauses, 0);
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Finished));
        assert_eq!(driver.written().len(), 21);
    }

    fn input_left_under_pressure_comes_again_with_no_new_bytes<SHORT>() {
        let script = Script::<SHORT>::new([bytes(&[1; 40])], full([]));
        let mut driver = Driver::new(script, low_marks(), answer(|link, data| {
            let mut consumed = 0;
            while consumed < data.len() {
                consumed += 8;
                if link.write(&data[consumed - 8..consumed]) == Pressure::High {
                    break;
                }
            }
            consumed
        }));
        driver.arrive();
        assert_eq!(driver.shared.stats.consumed, 16);
        driver.make_room();
        assert_eq!(driver.shared.stats.consumed, 40);
        assert_eq!(driver.written(), [1; 40]);
        assert!(driver.link.is_plain());
    }

    fn input_left_under_pressure_is_offered_again_before_the_end<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], full([]));
        let mut wrote = false;
        let mut driver = Driver::new(script, low_marks(), answer(move |link, data| {
            if !std::mem::replace(&mut wrote, true) {
                link.write(&[1; 16]);
                return 1;
            }
            data.len()
        }));
        driver.outside(|link| link.read_on(true));
        driver.arrive();
        assert_eq!(driver.seen, [Seen::Data(b"abc".to_vec())]);
        driver.make_room();
        let again = [Seen::Drained, Seen::Data(b"bc".to_vec()), Seen::Eof(vec![])];
        assert_eq!(driver.seen[1..], again);
    }
}
