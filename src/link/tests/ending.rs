//! How a link ends.

use nix::errno::Errno;

use super::driver::Play;
use super::*;
use crate::error::CloseReason;
use crate::readiness::Readiness;

/// Echoes, and doesn't finish when the peer has.
struct Lasting;

impl Play for Lasting {
    fn data(&mut self, link: &mut Hands<'_>, data: &[u8]) -> usize {
        echo(link, data)
    }
    fn eof(&mut self, _: &mut Hands<'_>, _: &[u8]) {}
}

/// Echoes, and says "bye" before it's closed.
struct Polite;

impl Play for Polite {
    fn data(&mut self, link: &mut Hands<'_>, data: &[u8]) -> usize {
        echo(link, data)
    }
    fn closing(&mut self, link: &mut Hands<'_>, reason: CloseReason) {
        assert_eq!((reason, link.pending()), (CloseReason::Drained, 0));
        assert_eq!(link.write(b"bye"), Pressure::Low);
    }
}

on_both! {
    fn at_the_peer_s_end_the_rest_is_flushed_before_ours<SHORT>() {
        let script =
            Script::<SHORT>::new([bytes(b"abcdef"), Read::Eof], [Write::Take(2), Write::Blocked]);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        assert_eq!((driver.closed, driver.written()), (None, &b"ab"[..]));
        assert_eq!(driver.calls().fins, 0);
        driver.make_room();
        assert_eq!(driver.written(), b"abcdef");
        assert_eq!(driver.closed, Some(CloseReason::Finished));
        assert_eq!(driver.calls().resets, 0);
    }

    fn who_finishes_first_reads_on_to_the_peer_s_end<SHORT>() {
        let reads = [bytes(b"go"), Read::Blocked, bytes(b"more"), Read::Blocked, Read::Eof];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            echo(link, data);
            link.finish();
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.calls().fins, 0, "the FIN overtook output");
        driver.make_room();
        assert_eq!((driver.calls().fins, driver.written()), (1, &b"go"[..]));
        driver.arrive();
        assert_eq!(driver.seen[1], Seen::Data(b"more".to_vec()));
        assert_eq!((driver.closed, driver.shared.stats.dropped), (None, 4));
        driver.arrive();
        assert_eq!(driver.closed, Some(CloseReason::Finished));
        assert_eq!(driver.calls().fins, 1);
    }

    fn after_the_peer_s_end_a_handler_may_go_on_writing<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"ab"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), Lasting);
        driver.settle();
        assert_eq!(driver.link.phase(), Phase::Open);
        assert_eq!(driver.outside(|link| link.write(b"cd")), Pressure::Low);
        assert_eq!(driver.written(), b"abcd");
        driver.event(Readiness::READABLE | Readiness::READ_CLOSED);
        assert_eq!(driver.seen.len(), 2, "the end was told again");
        driver.outside(|link| link.finish());
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn a_reset_after_the_peer_s_end_is_found_though_nobody_writes<SHORT>() {
        let hang_up = Readiness::READ_CLOSED | Readiness::WRITE_CLOSED | Readiness::ERROR;
        let script = Script::<SHORT>::new([bytes(b"ab"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), Lasting);
        driver.settle();
        // Events lie: the socket is asked, and it has no error.
        driver.event(hang_up);
        assert_eq!(driver.closed, None);
        driver.outside(|link| link.pause());
        driver.link.stream.error = Some(Errno::EPIPE);
        driver.event(hang_up);
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn data_the_end_and_a_reset_in_one_event_are_all_seen<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"ab"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), Lasting);
        let event = driver.link.stream.arrive().unwrap();
        driver.link.stream.error = Some(Errno::EPIPE);
        driver.event(event | Readiness::WRITE_CLOSED | Readiness::ERROR);
        assert_eq!(driver.seen, [Seen::Data(b"ab".to_vec()), Seen::Eof(vec![])]);
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn a_reset_after_the_end_is_found_though_its_event_says_only_error<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"ab"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), Lasting);
        let event = driver.link.stream.arrive().unwrap();
        driver.link.stream.error = Some(Errno::EPIPE);
        driver.event(event | Readiness::ERROR);
        assert_eq!(driver.seen, [Seen::Data(b"ab".to_vec()), Seen::Eof(vec![])]);
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn a_reset_is_not_told_as_an_end_to_who_wanted_to_finish<SHORT>() {
        let reads = [bytes(b"ab"), Read::Eof];
        let mut script = Script::<SHORT>::new(reads, [Write::Error(Errno::ECONNRESET)]);
        script.fin_fails = Some(Errno::ENOTCONN);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            echo(link, data);
            link.finish();
            data.len()
        }));
        driver.settle();
        assert_eq!(driver.seen, [Seen::Data(b"ab".to_vec())]);
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn a_close_with_unread_input_lingers_within_its_bound<SHORT>() {
        let limits =
            Limits { linger_bytes: 100, read_buffer: 10, io_budget: 2, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(&[1; 1000])], []);
        let mut driver = Driver::new(script, limits, answer(|link, _| {
            link.write(b"bye");
            link.close(CloseReason::Closed);
            0
        }));
        driver.arrive();
        assert_eq!((driver.written(), driver.calls().fins), (&b"bye"[..], 1));
        assert_eq!((driver.closed, driver.link.phase()), (None, Phase::Lingering));
        while driver.turn() {}
        assert_eq!(driver.closed, Some(CloseReason::Closed));
        assert_eq!(driver.shared.stats.discarded, 110);
        assert_eq!((driver.seen.len(), driver.calls().resets), (1, 0));
    }

    fn lingering_ends_with_the_peer<SHORT>() {
        for end in [Read::Eof, Read::Error(Errno::ECONNRESET)] {
            let reads = [bytes(b"go"), Read::Blocked, bytes(b"more"), Read::Blocked, end];
            let script = Script::<SHORT>::new(reads, []);
            let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
                link.close(CloseReason::Other(5));
                data.len()
            }));
            driver.arrive();
            driver.arrive();
            assert_eq!(driver.closed, None);
            driver.arrive();
            assert_eq!(driver.closed, Some(CloseReason::Other(5)));
            assert_eq!((driver.shared.stats.discarded, driver.seen.len()), (4, 1));
        }
    }

    fn a_close_flushes_before_it_lingers_and_takes_what_comes_meanwhile<SHORT>() {
        let reads = [bytes(b"go"), Read::Blocked, bytes(b"more"), Read::Blocked, Read::Eof];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            echo(link, data);
            link.close(CloseReason::Closed);
            data.len()
        }));
        driver.arrive();
        // The peer reads nothing before all that it writes is taken.
        driver.arrive();
        assert_eq!((driver.shared.stats.discarded, driver.seen.len()), (4, 1));
        driver.arrive();
        assert_eq!((driver.link.phase(), driver.calls().fins), (Phase::Closing, 0));
        driver.make_room();
        assert_eq!((driver.written(), driver.closed), (&b"go"[..], Some(CloseReason::Closed)));
    }

    fn memory_does_not_outlive_output_because_a_byte_of_input_is_kept<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"go"), Read::Blocked], full([]));
        let limits = Limits { high_water: 1 << 20, max_output: 1 << 20, ..Limits::default() };
        let mut driver = Driver::new(script, limits, answer(|link, _| {
            link.write(&[7; 100_000]);
            1
        }));
        driver.arrive();
        assert!(driver.shared.memory.held() > 100_000);
        driver.make_room();
        assert_eq!((driver.written().len(), driver.link.pending()), (100_000, 0));
        let (kept, held) = (driver.shared.stats().unconsumed, driver.shared.memory.held());
        assert!(held < 32 << 10, "{held} bytes of memory for {kept} of input");
    }

    fn a_close_without_a_bound_to_linger_ends_at_once<SHORT>() {
        let limits = Limits { linger_bytes: 0, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(b"go")], []);
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            link.close(CloseReason::Closed);
            data.len()
        }));
        driver.arrive();
        assert_eq!(driver.closed, Some(CloseReason::Closed));
        assert_eq!(driver.calls().fins, 1);
    }

    fn a_close_after_the_peer_s_end_does_not_linger<SHORT>() {
        let script = Script::<SHORT>::new([Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), Lasting);
        driver.settle();
        driver.outside(|link| link.close(CloseReason::Closed));
        assert_eq!(driver.closed, Some(CloseReason::Closed));
    }

    fn what_a_peer_sent_before_it_went_away_is_delivered_and_no_end_that_it_did_not_send<SHORT>() {
        // An error that the write was told is gone when the read comes to it, which then finds an
        // end that nobody sent.
        let (reset, broken) = (Errno::ECONNRESET, Errno::EPIPE);
        let ends = [
            (broken, Read::Eof, true),
            (broken, Read::Error(reset), false),
            (reset, Read::Eof, false),
            (Errno::ETIMEDOUT, Read::Eof, false),
        ];
        for (failure, end, told) in ends {
            let reads = [bytes(b"go"), Read::Blocked, bytes(b"last words"), end];
            let script = Script::<SHORT>::new(reads, [Write::Error(failure)]);
            let mut driver = Driver::new(script, Limits::default(), answer(echo));
            // All of it is there when the first write fails, and no event follows.
            assert!(driver.link.stream.arrive().is_some());
            assert!(driver.link.stream.arrive().is_some());
            driver.event(Readiness::READABLE);
            let mut seen = Vec::new();
            for callback in &driver.seen {
                match callback {
                    Seen::Data(data) => seen.extend_from_slice(data),
                    other => assert_eq!(*other, Seen::Eof(vec![])),
                }
            }
            assert_eq!(seen, b"golast words");
            assert_eq!(driver.seen.last() == Some(&Seen::Eof(vec![])), told);
            assert_eq!(driver.closed, Some(CloseReason::from_error(&failure.into())));
            assert_eq!(driver.shared.stats.dropped, 12);
        }
    }

    fn a_reset_while_output_is_pending_is_not_told_as_the_peer_s_end<SHORT>() {
        let script = Script::<SHORT>::new(
            [bytes(b"half an upload"), Read::Blocked, Read::Eof],
            full([Write::Error(Errno::ECONNRESET)]),
        );
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        // One event tells of both; the output is tried first.
        driver.link.stream.arrive();
        driver.make_room();
        assert_eq!(driver.seen, [Seen::Data(b"half an upload".to_vec())]);
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn output_that_a_broken_link_drops_has_not_drained<SHORT>() {
        let limits = Limits { high_water: 4, low_water: 0, ..Limits::default() };
        let script = Script::<SHORT>::new(
            [bytes(b"abcdef"), Read::Blocked, bytes(b"gh")],
            full([Write::Error(Errno::EPIPE)]),
        );
        let mut driver = Driver::new(script, limits.clone(), answer(echo));
        driver.settle();
        assert_eq!(driver.seen, [Seen::Data(b"abcdef".to_vec()), Seen::Data(b"gh".to_vec())]);
        // Who paused for the pressure would wait for its end for ever.
        let script =
            Script::<SHORT>::new([bytes(b"abcdef")], full([Write::Error(Errno::EPIPE)]));
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            link.pause();
            echo(link, data)
        }));
        driver.settle();
        assert_eq!((driver.seen.len(), driver.closed), (1, Some(CloseReason::Reset)));
    }

    fn who_has_finished_is_not_done_before_the_peer_has_acknowledged_all<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.link.stream.in_flight = Some(5000);
        driver.settle();
        assert_eq!((driver.closed, driver.calls().fins), (None, 1));
        assert_eq!(driver.link.phase(), Phase::Delivering);
        driver.event(Readiness::WRITABLE | Readiness::WRITE_CLOSED);
        assert_eq!(driver.closed, None, "events lie");
        driver.link.stream.in_flight = Some(0);
        driver.event(Readiness::READ_CLOSED | Readiness::WRITE_CLOSED);
        assert_eq!(driver.closed, Some(CloseReason::Finished));
        assert_eq!((driver.calls().fins, driver.calls().resets), (1, 0));
    }

    fn a_reset_before_the_last_acknowledgement_is_no_good_end<SHORT>() {
        for before in [true, false] {
            let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
            let mut driver = Driver::new(script, Limits::default(), answer(echo));
            let stream = &mut driver.link.stream;
            // A reset throws away what was in flight.
            stream.in_flight = Some(if before { 0 } else { 5000 });
            stream.error = before.then_some(Errno::ECONNRESET);
            driver.settle();
            if !before {
                assert_eq!(driver.closed, None);
                driver.link.stream.in_flight = Some(0);
                driver.link.stream.error = Some(Errno::ECONNRESET);
                driver.event(Readiness::ERROR | Readiness::WRITE_CLOSED);
            }
            assert_eq!(driver.closed, Some(CloseReason::Reset));
        }
    }

    fn a_link_that_breaks_while_it_flushes_its_last_is_closed<SHORT>() {
        let script =
            Script::<SHORT>::new([bytes(b"go")], full([Write::Error(Errno::ECONNRESET)]));
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            echo(link, data);
            link.close(CloseReason::Closed);
            data.len()
        }));
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Closed));
        assert_eq!(driver.shared.stats.dropped, 2);
    }

    fn a_fin_that_fails_is_a_reset_by_the_peer<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"go"), Read::Blocked, Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.finish();
            data.len()
        }));
        driver.link.stream.fin_fails = Some(Errno::ENOTCONN);
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Reset));
        assert_eq!(driver.calls().fins, 1);
    }

    fn a_last_fin_that_fails_ends_the_link_though_no_event_follows<SHORT>() {
        let mut script = Script::<SHORT>::new([bytes(b"x"), Read::Eof], []);
        script.in_flight = Some(1);
        script.fin_fails = Some(Errno::ENOTCONN);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Reset));
    }

    fn an_idle_link_that_drains_is_closed_when_the_peer_is_done<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"too late"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.outside(|link| link.drain());
        assert_eq!((driver.calls().fins, driver.link.phase()), (1, Phase::Lingering));
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Drained));
        assert_eq!(driver.seen, []);
    }

    fn a_link_that_drains_answers_what_has_arrived<SHORT>() {
        let limits = Limits { io_budget: 1, read_buffer: 4, ..Limits::default() };
        let reads = [bytes(b"abcdefghij"), Read::Blocked, Read::Eof];
        let script = Script::<SHORT>::new(reads, full([]));
        let mut driver = Driver::new(script, limits, answer(echo));
        let event = driver.link.stream.arrive().unwrap();
        driver.link.ready(event);
        driver.outside(|link| link.drain());
        driver.settle();
        assert_eq!(driver.written(), b"abcdefghij");
        assert_eq!(driver.closed, Some(CloseReason::Drained));
        assert_eq!(driver.calls().resets, 0);
    }

    fn a_link_that_drains_offers_again_what_was_left_under_pressure<SHORT>() {
        let limits = Limits { high_water: 4, low_water: 0, ..Limits::default() };
        let script = Script::<SHORT>::new([bytes(b"abcdef")], full([]));
        let mut driver = Driver::new(script, limits, answer(|link, data| {
            let count = data.len().min(4);
            link.write(&data[..count]);
            count
        }));
        driver.arrive();
        driver.outside(|link| link.drain());
        driver.make_room();
        assert_eq!(driver.written(), b"abcdef");
        assert_eq!(driver.link.reason(), Some(CloseReason::Drained));
    }

    fn a_link_that_drains_has_its_last_words_once_and_behind_all_else<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc")], [Write::Blocked, Write::Take(2), Write::Blocked, Write::Take(1), Write::Blocked]);
        let mut driver = Driver::new(script, Limits::default(), Polite);
        driver.arrive();
        driver.outside(|link| link.drain());
        assert_eq!(driver.written(), b"", "it spoke before the answer was out");
        driver.settle();
        assert_eq!(driver.written(), b"abcbye");
        assert_eq!((driver.calls().fins, driver.calls().resets), (1, 0));
        assert_eq!(driver.link.reason(), Some(CloseReason::Drained));
    }

    fn a_link_that_is_finished_already_has_no_last_words_when_it_drains<SHORT>() {
        let script = Script::<SHORT>::new([], []);
        let mut driver = Driver::new(script, Limits::default(), Polite);
        driver.outside(|link| link.finish());
        driver.outside(|link| link.drain());
        assert_eq!(driver.written(), b"");
        assert_eq!((driver.calls().fins, driver.shared.stats.dropped), (1, 0));
        assert_eq!(driver.link.reason(), Some(CloseReason::Drained));
    }

    fn a_link_that_drains_closes_though_its_handler_paused_and_resumed_meanwhile<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc")], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.pause();
            link.resume();
            echo(link, data)
        }));
        driver.link.stream.arrive();
        driver.outside(|link| link.drain());
        assert_eq!(driver.written(), b"abc");
        assert_eq!((driver.calls().fins, driver.link.phase()), (1, Phase::Lingering));
    }

    fn a_paused_link_that_drains_does_not_wait_for_its_input<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"unseen"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.outside(|link| link.pause());
        driver.arrive();
        driver.outside(|link| link.drain());
        driver.settle();
        assert_eq!(driver.closed, Some(CloseReason::Drained));
        assert_eq!((driver.seen.len(), driver.shared.stats.discarded), (0, 6));
    }

    fn a_link_that_is_cut_loses_its_output_by_a_reset<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc")], full([]));
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        driver.outside(|link| link.drain());
        assert_eq!(driver.closed, None);
        driver.outside(|link| link.cut());
        assert_eq!(driver.closed, Some(CloseReason::Cut));
        assert_eq!((driver.calls().resets, driver.shared.stats.dropped), (1, 3));
    }

    fn a_link_that_is_cut_while_it_lingers_after_a_drain_says_so<SHORT>() {
        let mut driver =
            Driver::new(Script::<SHORT>::new([], []), Limits::default(), answer(echo));
        driver.outside(|link| link.drain());
        driver.outside(|link| link.cut());
        assert_eq!((driver.closed, driver.calls().resets), (Some(CloseReason::Cut), 0));
    }

    fn an_abort_is_a_reset_and_loses_what_is_gathered<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc")], []);
        let mut driver = Driver::new(script, Limits::default(), answer(|link, data| {
            link.write(b"lost");
            link.abort();
            data.len() - 1
        }));
        driver.arrive();
        assert_eq!(driver.closed, Some(CloseReason::Aborted));
        assert_eq!((driver.written().len(), driver.calls().resets), (0, 1));
        let stats = driver.shared.stats;
        assert_eq!((stats.dropped, stats.discarded), (4, 1));
    }

    fn nothing_reaches_a_link_after_its_end<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"abc"), Read::Eof], []);
        let mut driver = Driver::new(script, Limits::default(), answer(echo));
        driver.arrive();
        // The driver itself asserts that the link says no more but that it's closed, and leaves its
        // stream alone.
        driver.event(Readiness::READABLE | Readiness::WRITABLE | Readiness::ERROR);
        driver.outside(|link| link.resume());
        driver.outside(|link| link.finish());
        driver.outside(|link| link.drain());
        driver.outside(|link| link.abort());
        assert_eq!(driver.outside(|link| link.write(b"late")), Pressure::Closed);
        assert_eq!(driver.link.reason(), Some(CloseReason::Finished));
        assert_eq!(driver.shared.stats.dropped, 4);
    }

    fn finish_before_the_handshake_sends_what_was_written_and_a_fin<SHORT>() {
        let script = Script::<SHORT>::new([bytes(b"reply"), Read::Eof], []);
        let play = answer(|_, data| data.len());
        let mut driver = Driver::in_phase(script, Limits::default(), play, Phase::Connecting);
        driver.outside(|link| {
            link.write(b"request");
            link.finish();
        });
        assert_eq!((driver.calls().writes, driver.calls().fins), (0, 0));
        driver.link.connected();
        driver.drive();
        assert_eq!((driver.written(), driver.calls().fins), (&b"request"[..], 1));
        driver.settle();
        assert_eq!(driver.seen, [Seen::Data(b"reply".to_vec()), Seen::Eof(vec![])]);
        assert_eq!(driver.closed, Some(CloseReason::Finished));
    }

    fn close_before_the_handshake_ends_at_once<SHORT>() {
        let script = Script::<SHORT>::new([], []);
        let mut driver =
            Driver::in_phase(script, Limits::default(), answer(echo), Phase::Connecting);
        driver.link.close(&mut driver.shared, CloseReason::Closed);
        assert_eq!(driver.link.phase(), Phase::Closed);
        assert!(!driver.link.has(crate::link::Flags::OPENED));
    }
}
