//! How a link writes. How output holds back input is in `pressure.rs`.

use nix::errno::Errno;

use super::*;
use crate::error::CloseReason;

on_both! {
    fn a_stream_that_takes_one_byte_a_write_gets_all<SHORT>() {
        let message: Vec<u8> = (0..50).collect();
        let trickle = (0..50).flat_map(|_| [Write::Take(1), Write::Blocked]);
        let script = Script::<SHORT>::new([bytes(&message)], trickle);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.settle();
        assert_eq!(driver.written(), message);
        let calls = driver.calls();
        assert!(calls.writes >= 50, "{calls:?}");
        assert!(driver.link.is_plain());
    }

    fn one_byte_a_write_without_a_refusal_between_gets_all<SHORT>() {
        let trickle = (0..50).map(|_| Write::Take(1));
        let script = Script::<SHORT>::new([bytes(&[3; 50])], trickle);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.settle();
        assert_eq!(driver.written(), [3; 50]);
        assert_eq!(driver.calls().writes, if SHORT { 1 } else { 50 });
    }

    fn sixteen_small_writes_in_one_callback_are_one_write_call<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"go")], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            for n in 0..16 {
                assert_eq!(link.write(&[n; 64]), Pressure::Low);
            }
            data.len()
        }));
        driver.arrive();
        let calls = driver.calls();
        assert_eq!((calls.writes, calls.gathered_writes), (1, 0));
        assert_eq!(driver.written().len(), 16 * 64);
    }

    fn a_large_write_goes_straight_and_leaves_nothing_pending<SHORT>() {
        let script = Script::<SHORT>::new([bytes(&[9; 60_000])], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            assert_eq!(link.write(data), Pressure::Low);
            assert_eq!(link.pending(), 0);
            assert_eq!(link.shared.stats().bytes_out, 60_000);
            data.len()
        }));
        driver.arrive();
        let calls = driver.calls();
        assert_eq!((calls.writes, calls.gathered_writes), (1, 0));
        assert!(driver.link.is_plain());
    }

    fn of_a_large_write_only_the_rest_is_queued<SHORT>() {
        let script =
            Script::<SHORT>::new([bytes(&[9; 60_000])], [Write::Take(1000), Write::Blocked]);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.write(data);
            assert_eq!(link.pending(), 59_000);
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.written().len(), 1000);
        driver.make_room();
        assert_eq!(driver.written(), [9; 60_000]);
    }

    fn what_is_gathered_goes_out_with_a_large_write_in_one_call<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"go")], [Write::Take(3), Write::Blocked]);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.write(b"head");
            assert_eq!(link.pending(), 0);
            link.write(&[9; 20_000]);
            link.write(b"tail");
            data.len()
        }));
        driver.arrive();
        // Where a short write shows nothing, the second try is the one that is refused.
        assert_eq!(driver.calls().gathered_writes, if SHORT { 1 } else { 2 });
        assert_eq!((driver.written(), driver.link.pending()), (&b"hea"[..], 20_005));
        driver.settle();
        assert_eq!(driver.written()[..4], *b"head");
        assert_eq!(driver.written()[4..20_004], [9; 20_000]);
        assert_eq!(driver.written()[20_004..], *b"tail");
    }

    fn what_somebody_else_writes_keeps_its_place<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"own")], full([]));
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.outside(|link| link.write(b"first "));
        driver.arrive();
        driver.outside(|link| link.write(b" last"));
        assert_eq!(driver.link.pending(), 14);
        driver.make_room();
        assert_eq!(driver.written(), b"first own last");
    }

    fn a_large_write_of_somebody_else_goes_straight_and_is_progress<SHORT>() {
        let mut driver =
            Driver::new(Script::<SHORT>::new([], []), Limits::default(), answer(echo));
        driver.outside(|link| {
            assert_eq!(link.write(&[1; 100_000]), Pressure::Low);
            assert_eq!((link.pending(), link.shared.stats.bytes_out), (0, 100_000));
        });
        assert_eq!((driver.calls().writes, driver.written().len()), (1, 100_000));
        assert!(driver.moved, "the idle timeout would not learn of it");
    }

    fn of_a_large_write_of_somebody_else_the_rest_is_queued<SHORT>() {
        let script = Script::<SHORT>::new([], [Write::Take(30_000), Write::Blocked]);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        let message: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        let pressure = driver.outside(|link| link.write(&message));
        assert_eq!((pressure, driver.link.pending()), (Pressure::High, 70_000));
        driver.make_room();
        assert_eq!(driver.seen, [Seen::Drained]);
        assert!(driver.written() == message, "out of order");
    }

    fn a_large_write_of_somebody_else_takes_with_it_what_is_queued<SHORT>() {
        let mut driver =
            Driver::new(Script::<SHORT>::new([], []), Limits::default(), answer(echo));
        driver.outside(|link| {
            link.write(b"first");
            assert_eq!((link.pending(), link.shared.stats.bytes_out), (5, 0));
            link.write(&[1; 20_000]);
            assert_eq!(link.pending(), 0);
        });
        assert_eq!((driver.calls().gathered_writes, &driver.written()[..6]), (1, &b"first\x01"[..]));
    }

    fn nobody_is_slow_who_was_not_asked<SHORT>() {
        // A broadcast that heeds nothing: 10 MiB in small pieces to a peer that takes all of it.
        let limits = Limits { max_output: 1 << 20, ..Limits::default() };
        for outside in [true, false] {
            let input = (!outside).then(|| bytes(b"go"));
            let script = Script::<SHORT>::new(input, []);
            let mut most = 0;
            let mut speak = move |link: &mut Hands<'_>, data: &[u8]| {
                for _ in 0..10 << 10 {
                    assert_ne!(link.write(&[1; 1 << 10]), Pressure::Closed);
                    most = most.max(link.pending());
                }
                assert!(most <= 64 << 10, "{most} bytes were queued before the socket was asked");
                data.len()
            };
            let mut driver = Driver::new(script, limits.clone(), answer(speak));
            if outside {
                driver.outside(|link| speak(link, b""));
            } else {
                driver.arrive();
            }
            driver.settle();
            assert_eq!((driver.written().len(), driver.closed), (10 << 20, None));
        }
    }

    fn whoever_writes_to_a_quick_peer_is_stopped_by_pressure_and_told_when_to_go_on<SHORT>() {
        let mut driver =
            Driver::new(Script::<SHORT>::new([], []), Limits::default(), answer(echo));
        let mut count = 0;
        driver.outside(|link| {
            while link.write(&[1; 60_000]) != Pressure::High {
                count += 1;
                assert!(count < 100, "6 MB in one callback");
            }
            assert_eq!(link.pending(), 0, "the socket would have taken it");
        });
        assert_eq!((driver.seen.len(), driver.queued), (0, true), "told within the same turn");
        driver.turn();
        assert_eq!(driver.seen, [Seen::Drained]);
    }

    fn a_large_write_of_somebody_else_leaves_what_he_has_gathered_for_himself<SHORT>() {
        let mut driver =
            Driver::new(Script::<SHORT>::new([], []), Limits::default(), answer(echo));
        driver.outside(|link| {
            assert!(link.shared.gathered.push(b"his own"));
            link.write(&[1; 20_000]);
            assert_eq!(link.shared.gathered.bytes(), b"his own");
            link.shared.gathered.clear();
        });
        assert!(driver.written() == [1; 20_000]);
    }

    fn a_write_after_the_end_is_dropped_and_counted<SHORT>() {
        let ends: [fn(&mut Hands<'_>); 2] =
            [|link| link.finish(), |link| link.close(CloseReason::Closed)];
        for end in ends {
            let script = Script::<SHORT>::new([bytes(b"go")], []);
            let mut driver = Driver::new(script, Limits::default(), answer(move |link, data| {
                link.write(b"kept");
                end(link);
                assert_eq!(link.write(b"lost"), Pressure::Closed);
                assert_eq!(link.write(&[0; 20_000]), Pressure::Closed);
                data.len()
            }));
            driver.arrive();
            assert_eq!(driver.written(), b"kept");
            assert_eq!(driver.shared.stats.dropped, 20_004);
            assert_eq!(driver.calls().fins, 1);
        }
    }

    fn after_a_failed_write_later_ones_are_dropped_without_a_try<SHORT>() {
        let script = Script::<SHORT>::new(
            [bytes(b"go"), Read::Blocked, bytes(b"on")],
            [Write::Error(Errno::EPIPE)],
        );
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            for _ in 0..2 {
                link.write(&[0; 20_000]);
            }
            data.len()
        }));
        driver.arrive();
        driver.arrive();
        assert_eq!(driver.calls().writes, 1);
        assert_eq!(driver.shared.stats.dropped, 80_000);
        assert_eq!(driver.outside(|link| link.write(b"x")), Pressure::Closed);
    }

    fn too_much_pending_output_cuts_the_link_off<SHORT>() {
        let limits = Limits { max_output: 100, gather: 10, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(b"go")], full([]));
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            assert_eq!(link.write(&[1; 100]), Pressure::High);
            assert_eq!(link.write(&[1]), Pressure::Closed);
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.closed, Some(CloseReason::OutputOverflow));
        assert_eq!((driver.calls().resets, driver.calls().fins), (1, 0));
        assert_eq!(driver.shared.stats.dropped, 101);
    }

    fn the_size_of_one_write_cuts_nobody_off<SHORT>() {
        let limits = Limits { max_output: 100, gather: 10, ..Limits::default() };
        let room = [Write::Take(50), Write::Blocked];
        let script = Script::<SHORT>::new([bytes(b"go")], room);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            assert_eq!(link.write(&[1; 1000]), Pressure::High);
            data.len()
        }));
        driver.arrive();
        assert_eq!((driver.link.pending(), driver.closed), (950, None));
        driver.settle();
        assert_eq!((driver.written().len(), driver.closed), (1000, None));
        assert_eq!(driver.seen[1..], [Seen::Drained]);
    }

    fn what_all_keep_together_bounds_whoever_makes_the_output<SHORT>() {
        let limits = Limits { max_pending: 1 << 20, ..Limits::default() };
        let script = Script::<SHORT>::new([], full([]));
        let mut driver = Driver::new(script, limits, answer(echo));
        let mut written = 0;
        let pressure = driver.outside(|link| loop {
            written += 10_000;
            match link.write(&[1; 10_000]) {
                Pressure::Closed => break Pressure::Closed,
                // A naive broadcast: it goes on.
                _ => assert!(written < 2 << 20, "no bound"),
            }
        });
        assert_eq!((pressure, driver.closed), (Pressure::Closed, Some(CloseReason::OutputOverflow)));
        assert_eq!(driver.shared.memory.held(), 0);
    }

    fn a_flush_takes_no_more_writes_than_its_budget<SHORT>() {
        let limits = Limits { io_budget: 2, ..Limits::default() };
        let script = Script::<SHORT>::new([], full([]));
        let mut driver = Driver::new(script, limits, answer(echo));
        driver.outside(|link| link.write(&[1; 10]));
        let before = driver.calls().writes;
        driver.link.stream.set_room((0..10).map(|_| Write::Take(1)));
        driver.make_room();
        assert_eq!(driver.calls().writes - before, if SHORT { 1 } else { 2 });
        assert_eq!(driver.queued, !SHORT);
        while driver.turn() {}
        assert_eq!(driver.written(), [1; 10]);
    }

    fn a_callback_that_has_much_to_say_to_a_peer_that_takes_it_all_has_a_budget_too<SHORT>() {
        let limits = Limits { io_budget: 4, gather: 10, high_water: 100, ..Limits::default() };
        let questions: Vec<u8> = (0..200).collect();
        let script = Script::<SHORT>::new([bytes(&questions)], []);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            let mut answers = data.iter().map(|&question| link.write(&[question; 20]));
            let stop = answers.position(|pressure| pressure == Pressure::High);
            stop.map_or(data.len(), |last| last + 1)
        }));
        driver.arrive();
        let (mut turns, mut before) = (1, 0);
        loop {
            // The first write of the callback is free, and each turn has one.
            let writes = driver.calls().writes - before;
            assert!(writes <= 4 + 1, "{writes} writes in turn {turns}");
            before += writes;
            if !driver.turn() {
                break;
            }
            turns += 1;
        }
        assert!(turns > 10, "all in {turns} turns");
        let answers: Vec<u8> = questions.iter().flat_map(|&question| [question; 20]).collect();
        assert_eq!(driver.written(), answers);
        assert!(driver.link.is_plain());
    }

    fn one_large_answer_is_not_queued_though_the_budget_is_spent<SHORT>() {
        let limits = Limits { io_budget: 1, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(b"go"), Read::Blocked, bytes(b"on")], []);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            assert_eq!(link.write(&[1; 100_000]), Pressure::Low);
            data.len()
        }));
        for round in 1..=2 {
            driver.arrive();
            assert_eq!(driver.written().len(), round * 100_000);
            assert_eq!(driver.calls().writes, round);
            assert_eq!(driver.shared.stats.pending, 0, "it was queued");
            while driver.turn() {}
        }
    }

    fn the_owner_s_mark_stands_beside_pending_output_only<SHORT>() {
        let script = Script::<SHORT>::new([], full([Write::Take(2), Write::Blocked]));
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        assert!(driver.link.mark().is_none() && !driver.moved);
        driver.outside(|link| link.write(b"abc"));
        assert!(std::mem::take(&mut driver.moved));
        *driver.link.mark().unwrap() = 7;
        driver.make_room();
        assert!(std::mem::take(&mut driver.moved));
        assert_eq!(driver.link.mark(), Some(&mut 7));
        driver.make_room();
        assert!(driver.link.mark().is_none());
    }

    fn a_write_of_nothing_takes_no_buffers<SHORT>() {
        let mut driver =
            Driver::new(Script::<SHORT>::new([], []), Limits::default(), answer(echo));
        assert_eq!(driver.outside(|link| link.write(b"")), Pressure::Low);
        assert!(driver.link.is_plain() && !driver.moved);
    }

    fn what_is_written_before_the_handshake_waits_for_it<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"hi"), Read::Eof], []);
        let mut driver =
            Driver::in_phase(script, Limits::default(), answer(echo), Phase::Connecting);
        driver.outside(|link| link.write(b"hello "));
        assert_eq!(driver.calls().writes, 0);
        assert!(!driver.link.has(crate::link::Flags::OPENED));
        driver.link.connected();
        driver.settle();
        assert_eq!(driver.written(), b"hello hi");
        assert_eq!(driver.closed, Some(CloseReason::Finished));
        assert!(driver.link.has(crate::link::Flags::OPENED));
    }
}
