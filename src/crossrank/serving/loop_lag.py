"""How late the event loop is: the time that a request waits before anybody reads it, which no queue counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_INTERVAL_S = 0.1
_NUM_KEPT = 3


class LoopLag:
    """Measures the running event loop, ten times a second.

    Attributes:
        seconds: How late it has been each time of late: one long pause is no overload.

    Source: the minimum over an interval as the sign of a standing queue, Nichols & Jacobson, "Controlling queue delay"
    (2012).
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._latest: deque[float] = deque([0.0] * _NUM_KEPT, _NUM_KEPT)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure the loop that this is called in."""
        self._due = time.monotonic() + _INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._tick)

    def stop(self) -> None:
        """End."""
        if self._timer:
            self._timer.cancel()

    def _tick(self) -> None:
        self._latest.append(max(0.0, time.monotonic() - self._due))
        self.seconds = min(self._latest)
        self.start()
