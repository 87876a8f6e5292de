"""Each check of a soak must be able to fail: a run that is whole passes all, and each fault that is put into it is found.

    python3 -m unittest discover --start-directory scripts/soak
"""

import copy
import unittest

import checks

SECONDS = 1200


def whole_run():
    """The record of a run in which nothing went wrong: 100 connections dialed, of them 10 hostile, 1,000 messages, 50 datagrams."""
    closed = {"finished": 90, "reset": 3, "frame_too_long": 3, "idle_timeout": 2, "write_timeout": 1, "failed": 1, "other": 0}
    server = {
        "accepted": 100, "refused": 0, "accept_aborted": 0, "open": 0, "cut": 0, "closed": closed, "frames_in": 1150,
        "bytes_in": 70, "consumed": 60, "unconsumed": 0, "discarded": 10, "written": 60, "bytes_out": 55, "pending": 0,
        "dropped": 5, "held": 0, "datagrams_in": 49, "datagrams_out": 49, "datagrams_dropped": 0,
    }
    ledger = {name: 0 for name in ("lost", "refused", "timed_out", "failed", "dialing", "missing")}
    trouble = {name: 0 for name in ("corrupt", "lost", "outstanding", "timed_out", "unsent")}
    samples = [
        {"at_s": at, "anonymous": (7 << 20) + at % 3, "descriptors": 90 + at % 2, "accepted": at, "frames_in": 10 * at}
        for at in range(0, SECONDS, 5)
    ]
    return checks.Run(
        began="", machine="", revision="", seed=1, seconds=SECONDS, connections=80, hostile_peers=2, calibrated=None, rate=1,
        codes={"load": 0, "server": 0}, before={"descriptors": 9}, after={"descriptors": 9}, samples=samples,
        probes=[{"exit_code": 0, "established": 10, "frames": 50}],
        load={
            "connections": {**ledger, "established": 80},
            "messages": {**trouble, "sent": 1000, "echoed": 1000, "verified": 1000, "unmeasured": 80},
        },
        datagrams={"udp": {"sent": 45, "lost": 1, "corrupt": 0, "duplicated": 0}, "messages": {"unmeasured": 5}},
        hostile={
            "connected": 10, "newlines_sent": 30, "faults": [],
            "played": {"sends_an_endless_line": 3, "leaves_a_line_unfinished": 2, "never_reads": 2,
                       "resets_mid_transfer": 3, "sends_garbage": 1},
        },
        server=server, datagrams_lost_by_the_system=1,
    )


def put(run, path, value):
    """Puts a value into a record: `server.closed.reset`."""
    *way, last = path.split(".")
    place = vars(run)
    for name in way:
        place = place[name]
    place[last] = value


FAULTS = [
    ("codes.load", 4, "every program ended"),
    ("codes.server", 1, "every program ended"),
    ("probes", [{"exit_code": 5, "established": 10, "frames": 50}], "every program ended"),
    ("server.cut", 1, "drain"),
    ("load.connections.lost", 1, "lost no connection"),
    ("load.connections.established", 81, "accepted every connection"),
    ("server.accepted", 101, "accepted every connection"),
    ("load.messages.corrupt", 1, "byte by byte"),
    ("load.messages.verified", 999, "byte by byte"),
    ("load.messages.timed_out", 1, "byte by byte"),
    ("load.messages.unsent", 1, "was due"),
    ("server.frames_in", 1129, "frames"),
    ("server.frames_in", 1171, "frames"),
    ("server.datagrams_in", 48, "every datagram came in"),
    ("server.datagrams_out", 48, "every datagram was answered"),
    ("datagrams.udp.lost", 2, "no datagram was lost otherwise"),
    ("datagrams.udp.corrupt", 1, "no datagram was lost otherwise"),
    ("server.discarded", 9, "bytes_in ="),
    ("server.dropped", 4, "written ="),
    ("server.closed.finished", 91, "accepted ="),
    ("server.held", 1, "nothing is left"),
    ("hostile.faults", ["one"], "served wrongly"),
    ("server.closed.idle_timeout", 1, "had to end"),
    ("server.closed.write_timeout", 2, "had to end"),
    ("server.closed.reset", 4, "reset themselves"),
    ("server.closed.failed", 2, "had to end"),
    ("server.closed.other", 1, "reset themselves"),
    ("after", {"descriptors": 10}, "as many as before"),
]


def broken(run):
    return [verdict.what for verdict in checks.judge(run) if not verdict.holds]


class Checks(unittest.TestCase):
    def test_a_run_that_is_whole_passes(self):
        self.assertEqual(broken(whole_run()), [])

    def test_each_fault_is_found(self):
        for path, value, what in FAULTS:
            with self.subTest(path):
                run = copy.deepcopy(whole_run())
                put(run, path, value)
                self.assertTrue(any(what in found for found in broken(run)), broken(run))

    def test_packets_that_the_system_dropped_excuse_few_datagrams(self):
        run = whole_run()
        run.datagrams["udp"]["sent"] += 2000
        run.server["datagrams_in"] = run.server["datagrams_out"] = 2047
        run.datagrams["udp"]["lost"] = 3
        self.assertEqual(len(broken(run)), 2)
        run.packets_without_room = 2
        self.assertEqual(broken(run), [])
        run.server["datagrams_in"] = run.server["datagrams_out"] = 2046
        run.packets_without_room = 1000
        self.assertEqual(broken(run), ["every datagram came in, or the system says that it had no room"])

    def test_a_slow_leak_of_memory_is_found_and_a_single_peak_is_none(self):
        run = whole_run()
        run.samples[-10]["anonymous"] += 64 << 20
        self.assertEqual(broken(run), [])
        for row in run.samples:
            row["anonymous"] += row["at_s"] * 2 * checks.MEMORY_BOUND // SECONDS * 11 // 10
        self.assertEqual(broken(run), ["the server's memory does not grow over the last half"])

    def test_descriptors_that_are_kept_are_found(self):
        run = whole_run()
        for row in run.samples:
            row["descriptors"] += row["at_s"] // 100
        self.assertEqual(broken(run), ["the server's descriptors do not grow over the last half"])


if __name__ == "__main__":
    unittest.main()
