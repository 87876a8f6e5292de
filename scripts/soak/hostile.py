"""Hostile peers for a soak: N at a time, each of a kind that the dice choose, until SIGTERM.

    hostile.py --address HOST:PORT --peers N --seed N

The server echoes lines. It must end the peers that never read, send an endless line or leave one unfinished; to the odd
but honest ones it must echo every byte. Anything else is a fault. At its end the program prints one line of JSON: how often
each kind was played, what was sent, and the faults. Exit code 1: there were faults.
"""

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import socket
import struct
import sys
import time

# A play may take so long, in seconds. The server's own deadlines, 10 s and 20 s, are shorter; a shared machine may stall.
PATIENCE_S = 90
# A pause between two plays of one peer, in seconds: at most.
PAUSE_S = 2.0
# A peer that can send more than this without reading, or without a newline, is not being stopped: the server keeps 1 MiB
# of a frame, discards some megabytes behind it, and the sockets' buffers hold some more.
ENDLESS_BYTES = 64 << 20


class Fault(Exception):
    """The server did not do what it must."""


class Peer:
    """One connection, in this program's own hands."""

    def __init__(self, ledger, dice):
        self.ledger = ledger
        self.dice = dice
        self.loop = asyncio.get_running_loop()
        self.socket = None

    async def dial(self, address):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await self.loop.sock_connect(self.socket, address)
        self.ledger["connected"] += 1

    async def send(self, data):
        """Sends all of it, and counts what the system took."""
        view = memoryview(data)
        while view:
            try:
                count = self.socket.send(view)
            except BlockingIOError:
                await self.writable()
                continue
            self.ledger["bytes_sent"] += count
            self.ledger["newlines_sent"] += bytes(view[:count]).count(b"\n")
            view = view[count:]

    async def writable(self):
        done = self.loop.create_future()
        self.loop.add_writer(self.socket, lambda: done.done() or done.set_result(None))
        try:
            await done
        finally:
            self.loop.remove_writer(self.socket)

    async def receive(self, most=65536):
        data = await self.loop.sock_recv(self.socket, most)
        self.ledger["bytes_received"] += len(data)
        return data

    async def receive_exactly(self, expected):
        """Receives as many bytes as expected, which must be those."""
        got = bytearray()
        while len(got) < len(expected):
            data = await self.receive(len(expected) - len(got))
            if not data:
                raise Fault(f"an end after {len(got)} of {len(expected)} bytes")
            got += data
        if got != expected:
            raise Fault("an echo that is not what was sent")

    async def expect_end(self):
        if await self.receive():
            raise Fault("bytes behind the last of the echo")

    async def ended_by_server(self):
        """Reads on until the server has ended the connection, by an end or a reset."""
        try:
            while await self.receive():
                pass
        except ConnectionError:
            pass

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self):
        """Closes with linger zero: no FIN, a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def lines(self, count, longest):
        dice = self.dice
        letters = bytes(range(33, 127))
        return b"".join(bytes(dice.choices(letters, k=dice.randint(0, longest))) + b"\n" for _ in range(count))


async def resets_before_it_is_accepted(peer):
    peer.reset()


async def resets_mid_transfer(peer):
    data = peer.lines(8, 4096) * 32
    sending = asyncio.ensure_future(peer.send(data))
    await peer.receive(peer.dice.randint(1, 65536))
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    peer.reset()


async def closes_with_the_echo_unread(peer):
    await peer.send(peer.lines(32, 1024))
    await asyncio.sleep(0.05)


async def never_reads(peer):
    """The server's write timeout has to end it: it stops being read, so it stands still in a send."""
    line = b"n" * 1023 + b"\n"
    try:
        for _ in range(ENDLESS_BYTES // (64 << 10)):
            await peer.send(line * 64)
            await asyncio.sleep(0.001)
    except ConnectionError:
        return
    raise Fault(f"{ENDLESS_BYTES} bytes were taken of a peer that never reads")


async def sends_one_byte_at_a_time(peer):
    line = peer.lines(1, 200)
    for at in range(len(line)):
        await peer.send(line[at : at + 1])
        await asyncio.sleep(0.01)
    await peer.receive_exactly(line)


async def reads_slowly(peer):
    data = peer.lines(8, 4096) * 16
    sending = asyncio.ensure_future(peer.send(data))
    try:
        for at in range(0, len(data), 8192):
            await peer.receive_exactly(data[at : at + 8192])
            await asyncio.sleep(0.1)
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def half_closes_at_once(peer):
    data = peer.lines(8, 4096) * 16
    await asyncio.gather(send_and_half_close(peer, data), receive_all(peer, data))


async def sends_garbage(peer):
    """Any bytes are lines, the last one without an end: all of it comes back."""
    data = os.urandom(peer.dice.randint(1, 1 << 17))
    await asyncio.gather(send_and_half_close(peer, data), receive_all(peer, data))


async def send_and_half_close(peer, data):
    await peer.send(data)
    peer.half_close()


async def receive_all(peer, data):
    await peer.receive_exactly(data)
    await peer.expect_end()


async def sends_urgent_data(peer):
    """An urgent byte is not part of the stream; those before and behind it are."""
    before, behind = peer.lines(1, 20)[:-1], peer.lines(1, 20)
    await peer.send(before)
    peer.socket.send(b"!", socket.MSG_OOB)
    peer.ledger["bytes_sent"] += 1
    await peer.send(behind)
    await peer.receive_exactly(before + behind)


async def sends_an_endless_line(peer):
    """A line over the maximum is refused, and not answered."""
    try:
        for _ in range(ENDLESS_BYTES // (64 << 10)):
            await peer.send(b"e" * (64 << 10))
            await asyncio.sleep(0.001)
    except ConnectionError:
        return
    raise Fault(f"{ENDLESS_BYTES} bytes were taken of one line")


async def leaves_a_line_unfinished(peer):
    """The server's idle timeout has to end it, and to let go of what it kept."""
    await peer.send(b"u" * peer.dice.randint(1, 1 << 17))
    await peer.ended_by_server()


KINDS = [
    resets_before_it_is_accepted,
    resets_mid_transfer,
    closes_with_the_echo_unread,
    never_reads,
    sends_one_byte_at_a_time,
    reads_slowly,
    half_closes_at_once,
    sends_garbage,
    sends_urgent_data,
    sends_an_endless_line,
    leaves_a_line_unfinished,
]


class Crowd:
    """All peers, and what they have seen."""

    def __init__(self, address, began):
        self.address = address
        self.began = began
        self.ledger = collections.Counter(connected=0, bytes_sent=0, newlines_sent=0, bytes_received=0)
        self.played = collections.Counter()
        self.faults = []

    async def play(self, kind, dice):
        """Plays a kind once, on a connection of its own."""
        peer = Peer(self.ledger, dice)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await peer.dial(self.address)
                await kind(peer)
            self.played[kind.__name__] += 1
        except (Fault, OSError) as fault:
            # TimeoutError is an OSError: the server left a peer waiting.
            words = str(fault) or type(fault).__name__
            after = time.monotonic() - self.began
            self.faults.append(f"after {after:.0f} s, a peer that {kind.__name__.replace('_', ' ')}: {words}")
            print(self.faults[-1], file=sys.stderr, flush=True)
        finally:
            if peer.socket is not None:
                peer.socket.close()

    async def play_on(self, dice, stop):
        while not stop.is_set():
            await self.play(dice.choice(KINDS), dice)
            await asyncio.sleep(dice.uniform(0, PAUSE_S))

    def report(self):
        return json.dumps({**self.ledger, "played": dict(self.played), "faults": self.faults})


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--peers", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    host, port = args.address.rsplit(":", 1)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    crowd = Crowd((host, int(port)), time.monotonic())
    # A play that is under way when the end comes is played to its end: it is judged like any other.
    await asyncio.gather(*(crowd.play_on(random.Random(args.seed + n), stop) for n in range(args.peers)))
    print(crowd.report())
    return 1 if crowd.faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
