"""A soak of `oread serve`: steady load, churn and hostile peers for as long as asked, and a verdict.

    soak.py --oread PROGRAM --out FOLDER --seconds N [--connections N] [--rate N]
    soak.py --judge FOLDER

`scripts/soak.sh` builds the program, calls this, and plots. Linux alone: the figures are read from /proc. What is
written to FOLDER: samples.csv, probes.csv, run.json, summary.md, and the output of every program that took part. `--judge`
judges once more what a run has left there.

Exit code 0: all checks hold. 1: one does not, or a program ended before its time; what and when stands on standard error.
"""

import argparse
import csv
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import random
import resource
import signal
import subprocess
import sys
import threading
import time

import checks

# How much of what a closed loop of as many connections, in the same company, reaches just before the load sends, in percent.
LOAD_PERCENT = 70
# A paced load costs more a message than a closed loop, which always finds full batches. Where it can't keep up with its rate
# in a trial, it sends this much of that, in percent, and tries again.
RETREAT_PERCENT = 85
# How many of the connections are hostile, in percent.
HOSTILE_PERCENT = 1
# How old a connection is, in seconds, when the load closes it and dials another one in its place.
LIFETIME_S = 60
MESSAGE = ["-s", "16-1024", "--framing", "lines"]
SERVE = ["--json", "--stats", "1s", "--framing", "lines", "--idle-timeout", "20s", "--write-timeout", "10s"]
DATAGRAM_SOCKETS = 50
DATAGRAMS_PER_S = 500
# The probe is a second `oread load`, one short run after the other: the load itself tells its latencies at its end alone.
# Each run has just enough messages for a p99.9.
PROBE = ["-c", "50", "-R", "1k", "-s", "64", "--framing", "lines"]
PROBE_S = 15
SAMPLE_S = 5
CALIBRATION_S = 8
TRIAL_S = 20
CALIBRATION_MOST_S = 600
# How long the load waits for an answer, in seconds. A machine that others use stands still now and then.
PATIENCE_S = 20
PATIENCE = ["--message-timeout", f"{PATIENCE_S}s", "--connect-timeout", f"{PATIENCE_S}s"]
# How long a program may take to end once it is time, in seconds: a hostile peer's play and the load's patience are shorter.
END_S = 120

HERE = pathlib.Path(__file__).parent


class Failed(Exception):
    """The soak can't go on, or has shown a fault."""


class Program:
    """A program that takes part, with its output in a file of the folder."""

    def __init__(self, out, name, command):
        self.name = name
        self.stdout = out / f"{name}.out"
        self.stderr = out / f"{name}.err"
        with open(self.stdout, "wb") as stdout, open(self.stderr, "wb") as stderr:
            self.process = subprocess.Popen([str(part) for part in command], stdout=stdout, stderr=stderr)

    @property
    def pid(self):
        return self.process.pid

    def must_run(self):
        code = self.process.poll()
        if code is not None:
            raise Failed(f"{self.name} ended before its time, exit code {code}: {self.last_words()}")

    def last_words(self):
        lines = self.stderr.read_text(errors="replace").splitlines()
        return " / ".join(lines[-3:]) or "it said nothing"

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {seconds} s") from None

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Server(Program):
    """`oread serve`, and what it says of itself."""

    def __init__(self, out, oread, name="server"):
        super().__init__(out, name, [oread, "serve", *SERVE, "127.0.0.1:0"])
        self.addresses = {}
        deadline = time.monotonic() + 10
        while not any(event["event"] == "ready" for event in self.events()):
            self.must_run()
            if time.monotonic() > deadline:
                raise Failed("the server was not ready within 10 s")
            time.sleep(0.05)
        for event in self.events():
            if event["event"] == "listening":
                self.addresses[event["transport"]] = event["address"]

    def events(self):
        # A line that is being written has no end yet.
        text = self.stdout.read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def last_event(self):
        """The last counters, read from the end of a file that grows for hours."""
        with open(self.stdout, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            lines = file.read().split(b"\n")[1:-1]
        return json.loads(lines[-1]) if lines else {}

    def figures(self):
        """What the system says of the process: memory in bytes, descriptors, processor seconds."""
        self.must_run()
        status = kilobytes(f"/proc/{self.pid}/status")
        rollup = kilobytes(f"/proc/{self.pid}/smaps_rollup")
        return {
            "rss": status["VmRSS"],
            "anonymous": rollup["Anonymous"],
            "descriptors": len(os.listdir(f"/proc/{self.pid}/fd")),
            "cpu_s": processor_seconds(self.pid),
        }

    def datagrams_lost_by_the_system(self):
        """Datagrams for which the server's socket had no room: the system's, and nobody else's."""
        port = int(self.addresses["udp"].rsplit(":", 1)[1])
        with open("/proc/net/udp") as table:
            rows = [line.split() for line in table.readlines()[1:]]
        return sum(int(row[-1]) for row in rows if int(row[1].split(":")[1], 16) == port)


def packets_without_room():
    """Packets that the system dropped on their way to any socket, as a processor's queue of them (net.core.netdev_max_backlog)
    was full. Loopback's go through it too: TCP sends them again, datagrams are lost."""
    with open("/proc/net/softnet_stat") as table:
        return sum(int(line.split()[1], 16) for line in table)


def kilobytes(path):
    """The lines `Name: N kB` of a file, in bytes."""
    figures = {}
    with open(path) as file:
        for line in file:
            words = line.split()
            if words[-1] == "kB":
                figures[words[0].rstrip(":")] = int(words[1]) * 1024
    return figures


def anonymous_memory(pid):
    """In bytes. None of a program that ends while it is looked at."""
    try:
        return kilobytes(f"/proc/{pid}/smaps_rollup")["Anonymous"]
    except (OSError, KeyError):
        return None


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_busy_seconds():
    """Processor seconds that all processes of the machine took: not idle, not waiting for a disk."""
    with open("/proc/stat") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def reported(path, code):
    """What a program has left behind in JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Failed(f"no report in {path.name}, exit code {code}: {error}") from None


class Soak:
    """A run: its programs, its samples, its end."""

    def __init__(self, args):
        self.args = args
        self.out = args.out
        self.running = []
        self.samples = []
        self.probes = []
        self.probing = True
        self.began = time.monotonic()
        self.hostile_peers = max(1, args.connections * HOSTILE_PERCENT // 100)

    def age(self):
        return time.monotonic() - self.began

    def start(self, name, command):
        program = Program(self.out, name, command)
        self.running.append(program)
        return program

    def load(self, name, target, options, seconds):
        report = self.out / f"{name}.json"
        command = [self.args.oread, "load", *options, "-d", f"{seconds}s", "-q", "--json", report, target]
        return self.start(name, command), report

    def calibrate(self):
        """The answers a second that a closed loop of as many connections gets, the least of three runs, and the rate to soak
        at: what a paced load keeps up with. All of it in the company of the soak: churn, hostile peers, datagrams and probes.

        On a machine that is shared the runs differ by half. A rate that can't be kept up for long only builds a queue.
        """
        if self.args.rate:
            return None, self.args.rate
        self.server = Server(self.out, self.args.oread, "calibration-server")
        self.running.append(self.server)
        company = self.start_company(CALIBRATION_MOST_S)
        probing = threading.Thread(target=self.probe, args=(CALIBRATION_MOST_S,), daemon=True)
        probing.start()
        reached = min(self.trial(f"calibration-{n}", ["-r", "2k"], CALIBRATION_S)["rate"]["reached"] for n in range(3))
        rate = int(reached * LOAD_PERCENT / 100)
        while self.falls_behind(rate):
            say(f"{rate:,} messages a second can't be kept up")
            rate = rate * RETREAT_PERCENT // 100
        self.probing = False
        probing.join(PROBE_S + END_S)
        for program in company:
            program.stop()
            program.wait(END_S)
            self.running.remove(program)
        self.server.stop()
        self.server.wait(END_S)
        self.running.remove(self.server)
        self.probes, self.probing = [], True
        return reached, rate

    def falls_behind(self, rate):
        """Whether a paced load leaves messages unsent, or is late with them by more than a second."""
        told = self.trial("trial", ["-R", rate], TRIAL_S)
        return told["messages"]["unsent"] > 0 or told["rate"]["max_lag_ns"] > 1_000_000_000

    def trial(self, name, options, seconds):
        """The report of a short load."""
        program, report = self.load(name, self.server.addresses["tcp"], [*options, *self.options()], seconds)
        code = program.wait(seconds + END_S)
        self.running.remove(program)
        return reported(report, code)

    def run(self):
        calibrated, rate = self.calibrate()
        self.server = Server(self.out, self.args.oread)
        self.running.append(self.server)
        time.sleep(1.5)
        before = self.server.figures()
        self.began = time.monotonic()
        self.started_at = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC"
        say(f"{rate:,} messages a second on {self.args.connections:,} connections for {self.args.seconds} s, "
            f"{self.hostile_peers} hostile peers")
        dropped = packets_without_room()
        load, self.load_report = self.load("load", self.server.addresses["tcp"], ["-R", rate, *self.options()], self.args.seconds)
        hostile, datagrams = self.start_company(self.args.seconds)
        probing = threading.Thread(target=self.probe, args=(self.args.seconds,), daemon=True)
        probing.start()
        self.watch([load, hostile, datagrams])
        return self.finish(before, calibrated, rate, probing, dropped)

    def options(self):
        """What all loads over the soak's connections have in common."""
        churn = max(1, self.args.connections // LIFETIME_S)
        return ["-c", self.args.connections, "--churn", churn, *MESSAGE, *PATIENCE]

    def start_company(self, seconds):
        """The hostile peers and the datagrams, which go on for as long as the load."""
        tcp, udp = self.server.addresses["tcp"], self.server.addresses["udp"]
        options = ["-c", DATAGRAM_SOCKETS, "-R", DATAGRAMS_PER_S, "-s", "24-1024", *PATIENCE]
        datagrams, self.datagram_report = self.load("datagrams", f"udp://{udp}", options, seconds)
        command = [sys.executable, "-B", HERE / "hostile.py", "--address", tcp]
        command += ["--peers", self.hostile_peers, "--seed", self.args.seed]
        return self.start("hostile", command), datagrams

    def probe(self, seconds):
        """Measures latencies, one run after the other, until it is told to stop or the seconds are over."""
        while self.probing and seconds - self.age() > PROBE_S + 2:
            at = self.age()
            program, report = self.load("probe", self.server.addresses["tcp"], [*PROBE, *PATIENCE], PROBE_S)
            code = program.process.wait()
            self.running.remove(program)
            try:
                told = reported(report, code)
            except Failed:
                # The exit code tells that something is wrong; a probe that the end of the soak kills tells nothing.
                self.probes.append({"at_s": at, "exit_code": code})
                continue
            # Not to be taken for the next one's.
            report.unlink()
            response = told["latency"]["response"]
            self.probes.append({
                "at_s": round(at + PROBE_S / 2, 1),
                "exit_code": code,
                "established": told["connections"]["established"],
                "frames": told["messages"]["sent"] + told["messages"]["unmeasured"],
                **{name: response[f"{name}_ns"] for name in ("p50", "p90", "p99", "p99_9", "max")},
            })

    def watch(self, programs):
        """Takes samples until the load has ended; a program that ends before it ends the soak."""
        load, *others = programs
        ours = [*programs, self.server]
        while load.process.poll() is None:
            for program in others:
                # The datagrams' load lasts as long as the load, but has less of a ramp.
                if program.name != "datagrams" or self.age() < self.args.seconds:
                    program.must_run()
            self.sample(ours)
            if self.age() > self.args.seconds + 4 * END_S:
                raise Failed("the load does not end")
            time.sleep(SAMPLE_S - self.age() % SAMPLE_S)
        if self.age() < self.args.seconds:
            raise Failed(f"the load ended before its time, exit code {load.process.returncode}: {load.last_words()}")

    def sample(self, ours):
        counters = self.server.last_event()
        figures = self.server.figures()
        alive = [p.pid for p in ours if p.process.poll() is None]
        row = {
            "at_s": round(self.age(), 1),
            **figures,
            "load_anonymous": anonymous_memory(ours[0].pid),
            "load_average": os.getloadavg()[0],
            "busy_s": machine_busy_seconds(),
            "ours_s": sum(processor_seconds(pid) for pid in alive),
            **{name: counters.get(name, 0) for name in checks.COUNTERS},
        }
        last = self.samples[-1] if self.samples else row
        # The server tells its counters every second, and this program may itself have stood still before the last sample.
        if self.age() > 30 and row["at_s"] - last["at_s"] > 4 and row["bytes_in"] == last["bytes_in"]:
            raise Failed("the server has read nothing since the last sample")
        self.samples.append(row)

    def finish(self, before, calibrated, rate, probing, dropped):
        """Ends all programs, one after the other, and gathers what they have counted."""
        self.probing = False
        probing.join(PROBE_S + END_S)
        codes = {}
        for program in list(self.running):
            if program is self.server:
                continue
            if program.name == "hostile":
                program.stop()
            codes[program.name] = program.wait(END_S)
        after = self.settle(before)
        lost = self.server.datagrams_lost_by_the_system()
        dropped = packets_without_room() - dropped
        self.server.stop()
        codes["server"] = self.server.wait(END_S)
        self.write_tables()
        return checks.Run(
            began=self.started_at,
            machine=f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors",
            revision=self.args.revision,
            seed=self.args.seed,
            seconds=self.args.seconds,
            connections=self.args.connections,
            hostile_peers=self.hostile_peers,
            calibrated=calibrated,
            rate=rate,
            codes=codes,
            before=before,
            after=after,
            samples=self.samples,
            probes=self.probes,
            load=reported(self.load_report, codes["load"]),
            datagrams=reported(self.datagram_report, codes["datagrams"]),
            hostile=reported(self.out / "hostile.out", codes["hostile"]),
            server=self.server.last_event(),
            datagrams_lost_by_the_system=lost,
            packets_without_room=dropped,
        )

    def settle(self, before):
        """Waits until the server has as few descriptors as before anybody came, or has had its time for that."""
        deadline = time.monotonic() + 30
        figures = self.server.figures()
        while figures["descriptors"] > before["descriptors"] and time.monotonic() < deadline:
            time.sleep(0.5)
            figures = self.server.figures()
        return figures

    def write_tables(self):
        for name, rows in (("samples", self.samples), ("probes", self.probes)):
            keys = list(dict.fromkeys(key for row in rows for key in row))
            with open(self.out / f"{name}.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, keys)
                writer.writeheader()
                writer.writerows(rows)

    def end(self):
        # Else a probe that is killed is followed by the next one.
        self.probing = False
        for program in list(self.running):
            program.kill()


def say(words):
    print(f"soak: {words}", file=sys.stderr, flush=True)


def interrupted(number, _frame):
    raise Failed(f"ended by {signal.Signals(number).name}")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--oread", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--connections", type=int, default=4000)
    parser.add_argument("--rate", type=int, help="messages a second; not given: calibrated")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the hostile peers' dice")
    parser.add_argument("--revision", default="unknown", help="what the program was built from, for the summary")
    parser.add_argument("--judge", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.judge is None and None in (args.oread, args.out, args.seconds):
        parser.error("--oread, --out and --seconds are needed, or --judge")
    return args


def soak(args):
    """Runs it. `None`: it has failed on the way, which has been said."""
    args.out.mkdir(parents=True, exist_ok=True)
    # Both ends raise their own limit as far as they may; this says it before the first dial.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 2 * args.connections:
        say(f"FAILED: {hard} descriptors are too few for {args.connections} connections that come and go")
        return None
    soak = Soak(args)
    # Else the programs would outlive this one, and load the machine.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        return soak.run()
    except Failed as failed:
        say(f"FAILED after {soak.age():.0f} s: {failed}")
        if soak.samples:
            soak.write_tables()
        return None
    finally:
        soak.end()


def main():
    args = parse()
    if args.judge:
        out, run = args.judge, checks.Run(**json.loads((args.judge / "run.json").read_text()))
    else:
        out, run = args.out, soak(args)
        if run is None:
            return 1
        (out / "run.json").write_text(json.dumps(dataclasses.asdict(run)))
    verdicts = checks.judge(run)
    summary = checks.summary(run, verdicts)
    (out / "summary.md").write_text(summary)
    print(summary)
    broken = [verdict for verdict in verdicts if not verdict.holds]
    for verdict in broken:
        say(f"FAILED after {run.seconds} s: {verdict.what}: {verdict.figures}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
