"""What must hold of a soak, and its summary."""

import dataclasses
import itertools
import statistics

# The server's counters that every sample has.
COUNTERS = ["open", "accepted", "refused", "bytes_in", "bytes_out", "held", "pending", "unconsumed", "frames_in", "frames_out",
            "reads_paused", "datagrams_in", "datagrams_out", "polls", "events"]

# By how much the anonymous memory may grow over the last half of a run, in bytes, by the trend of its samples. It is never
# quite level: hostile peers make the server keep some MiB, now more and now less, and the allocator keeps what it once took.
# A leak grows with the connections and messages that pass, and those of half an hour make even a byte of each far more than
# this: the summary says how much of each the bound is.
MEMORY_BOUND = 1 << 20
# A run that is shorter has no half that tells a trend from a beginning.
TREND_S = 600
# The kinds of hostile peers that the server has to end, and the reasons that it may give. Two clocks run for a peer that
# never reads: the server's write timeout, from the last byte that the socket took, and the system's TCP_USER_TIMEOUT, half
# as long again, from when the peer's window closed. On a machine that stalls the second may be over first: a failure.
ENDED = {
    "sends_an_endless_line": ["frame_too_long"],
    "leaves_a_line_unfinished": ["idle_timeout"],
    "never_reads": ["write_timeout", "failed"],
}
# The kinds that reset: at most as many connections may be closed as reset. Fewer, where the end came before the reset.
RESETS = ["resets_before_it_is_accepted", "resets_mid_transfer", "closes_with_the_echo_unread"]


@dataclasses.dataclass
class Run:
    """All that is known of a run at its end."""

    began: str
    machine: str
    revision: str
    seed: int
    seconds: int
    connections: int
    hostile_peers: int
    calibrated: float | None
    rate: int
    codes: dict
    before: dict
    after: dict
    samples: list
    probes: list
    load: dict
    datagrams: dict
    hostile: dict
    server: dict
    datagrams_lost_by_the_system: int
    packets_without_room: int = 0

    def last_half(self):
        return [row for row in self.samples if self.seconds / 2 <= row["at_s"] <= self.seconds]


@dataclasses.dataclass
class Verdict:
    """One thing that must hold."""

    what: str
    holds: bool
    figures: str


def judge(run):
    return [
        *endings(run),
        *connections(run),
        *messages(run),
        *datagrams(run),
        *identities(run),
        *hostile(run),
        *resources(run),
    ]


def endings(run):
    probes = sorted({probe["exit_code"] for probe in run.probes})
    codes = {**run.codes, "probes": probes}
    zero = all(code == 0 for code in run.codes.values()) and probes in ([], [0])
    yield Verdict("every program ended with exit code 0", zero, str(codes))
    yield Verdict("the server's drain cut nobody off", run.server["cut"] == 0, f"{run.server['cut']} cut")


def connections(run):
    load = run.load["connections"]
    trouble = {name: load[name] for name in ("lost", "refused", "timed_out", "failed", "dialing", "missing")}
    yield Verdict("the load lost no connection", not any(trouble.values()), str(trouble))
    dialed = load["established"] + sum(probe.get("established", 0) for probe in run.probes) + run.hostile["connected"]
    accepted = sum(run.server[name] for name in ("accepted", "refused", "accept_aborted"))
    yield Verdict("the server accepted every connection that was established", accepted == dialed,
                  f"{dialed:,} established, {accepted:,} accepted")


def messages(run):
    told = run.load["messages"]
    whole = told["sent"] == told["echoed"] == told["verified"]
    trouble = {name: told[name] for name in ("corrupt", "lost", "outstanding", "timed_out")}
    yield Verdict("every message came back byte by byte", whole and not any(trouble.values()),
                  f"{told['sent']:,} sent, {told['verified']:,} verified, {trouble}")
    share = told["unsent"] / max(1, told["sent"] + told["unsent"])
    yield Verdict("every message that was due was sent", told["unsent"] == 0, f"{told['unsent']:,} not ({share:.4%})")
    frames = told["sent"] + told["unmeasured"] + sum(probe.get("frames", 0) for probe in run.probes)
    # The last line of a hostile peer may have no newline, and what the peer sent may have been discarded.
    most = frames + run.hostile["newlines_sent"] + run.hostile["connected"]
    yield Verdict("the server's frames are those that were sent", frames <= run.server["frames_in"] <= most,
                  f"{run.server['frames_in']:,}, between {frames:,} and {most:,}")


def datagrams(run):
    told, server = run.datagrams["udp"], run.server
    sent = told["sent"] + run.datagrams["messages"]["unmeasured"]
    # Those whose socket had no room are counted one by one; those that found a processor's queue full only together with TCP's,
    # of which there are far more: so it excuses few.
    came = server["datagrams_in"] + run.datagrams_lost_by_the_system
    on_the_way = min(run.packets_without_room, sent // 1000)
    yield Verdict("every datagram came in, or the system says that it had no room", came <= sent <= came + on_the_way,
                  f"{sent:,} sent, {server['datagrams_in']:,} came in, {run.datagrams_lost_by_the_system:,} found no room in "
                  f"the socket, {run.packets_without_room:,} packets of any kind none in a processor's queue")
    out = server["datagrams_out"] + server["datagrams_dropped"]
    yield Verdict("every datagram was answered, or counted as dropped", out == server["datagrams_in"],
                  f"{server['datagrams_in']:,} in, {server['datagrams_out']:,} out, {server['datagrams_dropped']:,} dropped")
    excused = run.datagrams_lost_by_the_system + server["datagrams_dropped"] + on_the_way
    good = told["lost"] <= excused and told["corrupt"] == told["duplicated"] == 0
    yield Verdict("no datagram was lost otherwise, doubled or changed", good,
                  f"{told['lost']:,} lost, {excused:,} excused, {told['duplicated']} doubled, {told['corrupt']} corrupt")


def identities(run):
    s = run.server
    closed = sum(s["closed"].values())
    holds = s["bytes_in"] == s["consumed"] + s["unconsumed"] + s["discarded"]
    yield Verdict("bytes_in = consumed + unconsumed + discarded", holds,
                  f"{s['bytes_in']:,} = {s['consumed']:,} + {s['unconsumed']:,} + {s['discarded']:,}")
    holds = s["written"] == s["bytes_out"] + s["pending"] + s["dropped"]
    yield Verdict("written = bytes_out + pending + dropped", holds,
                  f"{s['written']:,} = {s['bytes_out']:,} + {s['pending']:,} + {s['dropped']:,}")
    yield Verdict("accepted = open + closed", s["accepted"] == s["open"] + closed,
                  f"{s['accepted']:,} = {s['open']:,} + {closed:,}")
    left = {name: s[name] for name in ("open", "pending", "unconsumed", "held")}
    yield Verdict("nothing is left at the end", not any(left.values()), str(left))


def hostile(run):
    played, closed = run.hostile["played"], run.server["closed"]
    yield Verdict("no hostile peer was served wrongly", not run.hostile["faults"],
                  f"{sum(played.values()):,} plays, faults: {run.hostile['faults'] or 'none'}")
    expected = {kind: played.get(kind, 0) for kind in ENDED}
    found = {kind: sum(closed[reason] for reason in reasons) for kind, reasons in ENDED.items()}
    yield Verdict("the server ended those peers that it had to end, and no others", expected == found,
                  f"{found} of {sum(expected.values()):,}; {closed['failed']:,} by the system's timeout")
    resets = sum(played.get(kind, 0) for kind in RESETS)
    told = {"finished", "reset"}.union(*ENDED.values())
    others = {reason: count for reason, count in closed.items() if count and reason not in told}
    yield Verdict("all others finished, or reset themselves", not others and closed["reset"] <= resets,
                  f"{closed['finished']:,} finished, {closed['reset']:,} reset of {resets:,}, others: {others or 'none'}")


def resources(run):
    before, after = run.before["descriptors"], run.after["descriptors"]
    yield Verdict("the server's descriptors are as many as before", before == after, f"{before} before, {after} after")
    if run.seconds < TREND_S:
        return
    growth, accepted, frames = memory_growth(run)
    yield Verdict("the server's memory does not grow over the last half", growth <= MEMORY_BOUND,
                  f"{growth / 1024:+,.0f} KiB by its trend, at most {MEMORY_BOUND >> 10:,} KiB; as much would be "
                  f"{MEMORY_BOUND / max(1, accepted):.1f} bytes of each of {accepted:,} connections, or "
                  f"{MEMORY_BOUND / max(1, frames):.3f} of each of {frames:,} messages")
    counts = [row["descriptors"] for row in run.last_half()]
    middle = len(counts) // 2
    drift = statistics.median(counts[middle:]) - statistics.median(counts[:middle])
    yield Verdict("the server's descriptors do not grow over the last half", drift <= run.hostile_peers,
                  f"{drift:+.0f} from its first to its second part")


def memory_growth(run):
    """How much anonymous memory the trend of the last half adds over it, and how many connections and frames came meanwhile.

    The trend is the median of the slopes between any two samples (Theil and Sen): single peaks don't move it.
    """
    rows = run.last_half()
    # Some hundred samples tell as much as some thousand, and have fewer pairs.
    rows = rows[:: max(1, len(rows) // 400)]
    slopes = [(b["anonymous"] - a["anonymous"]) / (b["at_s"] - a["at_s"]) for a, b in itertools.combinations(rows, 2)]
    first, last = rows[0], rows[-1]
    growth = statistics.median(slopes) * (last["at_s"] - first["at_s"])
    return growth, last["accepted"] - first["accepted"], last["frames_in"] - first["frames_in"]


def milliseconds(nanoseconds):
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:,.2f}"


def median_and_most(rows, name, unit=1):
    values = [row[name] / unit for row in rows if row[name] is not None]
    return f"{statistics.median(values):,.1f} (at most {max(values):,.1f})" if values else "-"


def summary(run, verdicts):
    """The run in Markdown: what it was, its figures, its checks."""
    steady = [row for row in run.samples if 30 <= row["at_s"] <= run.seconds] or run.samples
    first, last = steady[0], steady[-1]
    span = max(1e-9, last["at_s"] - first["at_s"])
    per_s = {name: (last[name] - first[name]) / span for name in ("cpu_s", "busy_s", "ours_s")}
    mib = 1 << 20
    response = run.load["latency"]["response"]
    lines = [
        f"- {run.seconds} s from {run.began}; {run.machine}; oread {run.load['version']} at {run.revision}; seed {run.seed}",
        f"- {run.rate:,} messages a second on {run.connections:,} connections"
        + (f": {100 * run.rate / run.calibrated:.0f}% of the {run.calibrated:,.0f} that a closed loop reached just before"
           if run.calibrated else ""),
        f"- {run.load['connections']['replaced']:,} connections closed and dialed again; {run.hostile['connected']:,} hostile "
        f"ones, {run.hostile_peers} at a time",
        f"- {run.load['messages']['verified']:,} messages verified, {run.server['bytes_in'] / (1 << 30):,.1f} GiB in; "
        f"{run.datagrams['udp']['received']:,} datagrams",
        f"- load average {median_and_most(steady, 'load_average')}; in a second the machine's processors were busy for "
        f"{per_s['busy_s']:.2f} s, of that with the soak's programs {per_s['ours_s']:.2f}, with the server {per_s['cpu_s']:.2f}",
        "",
        "| of the server | median (at most), after 30 s |",
        "|---|---|",
        f"| resident memory, MiB | {median_and_most(steady, 'rss', mib)} |",
        f"| anonymous memory, MiB | {median_and_most(steady, 'anonymous', mib)} |",
        f"| memory behind pending output and unconsumed input, MiB | {median_and_most(steady, 'held', mib)} |",
        f"| descriptors | {median_and_most(steady, 'descriptors')} |",
        f"| anonymous memory of the load, MiB | {median_and_most(steady, 'load_anonymous', mib)} |",
        f"| before anybody came, and after all had gone: anonymous memory, MiB | {run.before['anonymous'] / mib:.1f}, "
        f"{run.after['anonymous'] / mib:.1f} |",
        "",
        "| latency, ms | p50 | p99 | p99.9 | at most |",
        "|---|---:|---:|---:|---:|",
        f"| the load, whole run | {milliseconds(response['p50_ns'])} | {milliseconds(response['p99_ns'])} | "
        f"{milliseconds(response['p99_9_ns'])} | {milliseconds(response['max_ns'])} |",
        probe_line(run.probes),
        "",
        "| check | | figures |",
        "|---|---|---|",
        *(f"| {v.what} | {'holds' if v.holds else '**BROKEN**'} | {v.figures} |" for v in verdicts),
        "",
    ]
    return "\n".join(lines)


def probe_line(probes):
    def median(name):
        values = [probe[name] for probe in probes if probe.get(name) is not None]
        return milliseconds(statistics.median(values)) if values else "-"

    figures = " | ".join(median(name) for name in ("p50", "p99", "p99_9", "max"))
    return f"| the probes, medians of {len(probes)} | {figures} |"
