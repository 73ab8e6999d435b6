"""An open-loop load generator: requests leave when the clock says so, whether or not the server keeps up.

Latency counts from the planned moment, so a slow server cannot hide behind a slow client. `saturate` is the closed loop
beside it, for the most that a server can do. HTTP/1.1 on plain asyncio streams: a full client library would take the
cores that the server is measured on.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field


@dataclass
class Load:
    """What came back: seconds by status; status 0 is a broken connection."""

    rate: float
    seconds: float
    latencies: dict[int, list[float]] = field(default_factory=dict)

    @property
    def num_sent(self) -> int:
        return sum(map(len, self.latencies.values()))

    @property
    def throughput(self) -> float:
        return len(self.latencies.get(200, [])) / self.seconds

    def percentile(self, share: float, status: int = 200) -> float:
        """Return a latency in milliseconds; infinite where nothing came back."""
        found = sorted(self.latencies.get(status, []))
        return 1000 * found[min(len(found) - 1, int(share * len(found)))] if found else float("inf")


class Connections:
    """Keep-alive connections to one address; as many as are needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: bytes, headers: str = "") -> int:
        """Send a request and return its status; 0 if the connection breaks."""
        reused = bool(self._free)
        try:
            reader, writer = self._free.pop() if reused else await asyncio.open_connection("127.0.0.1", self._port)
            head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            lines = answer.decode().lower().split("\r\n")
            length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            # The server closes connections that were idle for a while.
            return await self.post(path, body, headers) if reused else 0
        self._free.append((reader, writer))
        return int(lines[0].split()[1])

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()
        self._free.clear()


async def drive(
    port: int, path: str, bodies: list[bytes], *, rate: float, seconds: float, seed: int, headers: str = ""
) -> Load:
    """Send requests at a mean rate a second with exponential gaps, and wait for all answers."""
    rng = random.Random(seed)
    connections, load = Connections(port), Load(rate, seconds)
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def send(body: bytes, planned: float) -> None:
        status = await connections.post(path, body, headers)
        load.latencies.setdefault(status, []).append(time.perf_counter() - planned)

    planned = began + rng.expovariate(rate)
    while planned < began + seconds:
        await asyncio.sleep(max(0.0, planned - time.perf_counter()))
        task = asyncio.create_task(send(rng.choice(bodies), planned))
        running.add(task)
        task.add_done_callback(running.discard)
        planned += rng.expovariate(rate)
    if running:
        await asyncio.wait(running)
    # Until the last answer: a backlog that is worked off later is no throughput of the first seconds.
    load.seconds = time.perf_counter() - began
    connections.close()
    return load


async def saturate(port: int, path: str, bodies: list[bytes], *, clients: int, seconds: float) -> float:
    """Return the answers a second that so many clients get which send the next request when they have an answer."""
    connections = Connections(port)
    began = time.perf_counter()
    answered = 0

    async def ask(number: int) -> None:
        nonlocal answered
        rng = random.Random(number)
        while time.perf_counter() < began + seconds:
            status = await connections.post(path, rng.choice(bodies))
            answered += status == 200

    await asyncio.gather(*map(ask, range(clients)))
    connections.close()
    return answered / (time.perf_counter() - began)
