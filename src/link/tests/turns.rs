//! What a turn may move, what its budget is spent on, and what a write that fails leaves behind.

use nix::errno::Errno;

use super::*;
use crate::error::CloseReason;

on_both! {
    fn what_is_gathered_counts_towards_the_bytes_of_a_turn<SHORT>() {
        let limits = Limits {
            turn_bytes: 32 << 10, io_budget: 64, read_buffer: 100, ..Limits::default()
        };
        let script = Script::<SHORT>::new([bytes(&[7; 3000])], []);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            for _ in 0..12 {
                link.write(&[1; 1024]);
            }
            data.len()
        }));
        driver.arrive();
        assert!(driver.written().len() <= 64 << 10, "{} bytes in a turn", driver.written().len());
    }

    fn a_handler_that_pauses_for_pressure_in_the_callback_that_broke_is_told_the_end<SHORT>() {
        let limits = Limits { io_budget: 1, ..Limits::default() };
        let writes = [Write::Take(100_000), Write::Take(100_000), Write::Take(100_000),
            Write::Error(Errno::ECONNRESET)];
        let reads = [bytes(b"go"), Read::Blocked, Read::Eof];
        let script = Script::<SHORT>::new(reads, writes);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            let answers: Vec<Pressure> = (0..4).map(|_| link.write(&[1; 100_000])).collect();
            assert!(answers.contains(&Pressure::High), "{answers:?}");
            link.pause();
            data.len()
        }));
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn a_write_that_is_not_tried_costs_no_budget<SHORT>() {
        let limits = Limits {
            io_budget: 8, read_buffer: 1, high_water: 1 << 20, ..Limits::default()
        };
        let script = Script::<SHORT>::new([bytes(b"ab")], full([]));
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            if data == b"a" {
                for _ in 0..9 {
                    link.write(&[1; 20_000]);
                }
            }
            data.len()
        }));
        driver.arrive();
        assert_eq!((driver.calls().writes, driver.seen.len()), (1, 2));
    }

    fn an_end_takes_nothing_from_the_pool<SHORT>() {
        let reads = [bytes(b"a"), Read::Blocked, bytes(b"b"), Read::Blocked, Read::Eof];
        let script = Script::<SHORT>::new(reads, []);
        let mut driver = Driver::new(script, Limits::default(), answer(|_, data| {
            if data.len() < 2 { 0 } else { data.len() }
        }));
        driver.arrive();
        driver.arrive();
        assert!(driver.link.buffers.is_none());
        driver.arrive();
        assert!(driver.closed.is_some());
        assert!(driver.shared.pool.take().input.capacity() > 0, "its memory was freed");
    }
}

on_both! {
    fn what_a_handler_left_for_pressure_is_shown_again_when_the_pressure_breaks<SHORT>() {
        for errno in [Errno::EPIPE, Errno::ECONNRESET] {
            let limits = Limits { io_budget: 1, ..Limits::default() };
            let writes = [Write::Take(100_000), Write::Take(100_000), Write::Take(100_000),
                Write::Error(errno)];
            let script = Script::<SHORT>::new([bytes(b"go"), Read::Blocked, Read::Eof], writes);
            let mut first = true;
            let mut driver = Driver::new(script, limits, answer(|link, data| {
                if !std::mem::replace(&mut first, false) {
                    return data.len();
                }
                let answers: Vec<Pressure> = (0..4).map(|_| link.write(&[1; 100_000])).collect();
                assert!(answers.contains(&Pressure::High), "{answers:?}");
                0
            }));
            driver.settle();
            assert_eq!(driver.seen[1..2], [super::Seen::Data(b"go".to_vec())], "{errno} {:?} {:?}", driver.seen, driver.closed);
        }
    }
}
