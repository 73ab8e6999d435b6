"""How fast a run is: groups, pairs and tokens a second, the share of padding, the peak memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch

_COUNTS = ("num_pairs", "num_tokens", "num_places")


class Throughput:
    """Counts between two lines of the log; time spent on evaluation does not count."""

    def __init__(self) -> None:
        self._paused_at = 0.0
        self._start()

    def _start(self) -> None:
        self._counts = [0.0] * (len(_COUNTS) + 1)
        self._began = time.perf_counter()

    def count(self, batch: dict[str, Any]) -> None:
        """Count a micro-batch of the collator."""
        amounts = [float(batch[name]) for name in _COUNTS] + [float(len(batch["query_ids"]))]
        self._counts = [old + new for old, new in zip(self._counts, amounts, strict=True)]

    def pause(self) -> None:
        """Stop the clock."""
        self._paused_at = time.perf_counter()

    def go_on(self) -> None:
        """Start the clock again."""
        self._began += time.perf_counter() - self._paused_at

    def read(self, accelerator: Any) -> dict[str, float]:
        """Return the rates since the last call, over all processes, and start anew."""
        sums = torch.tensor(self._counts, dtype=torch.float64, device=accelerator.device)
        pairs, tokens, places, groups = accelerator.reduce(sums, reduction="sum").tolist()
        seconds = time.perf_counter() - self._began
        self._start()
        return {
            "groups_per_second": groups / seconds,
            "pairs_per_second": pairs / seconds,
            "tokens_per_second": tokens / seconds,
            "padding_share": 1 - tokens / max(places, 1.0),
            "peak_memory_gb": peak_memory_bytes(accelerator.device) / 1e9,
        }


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory that this process has held: of the device, or on a CPU the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
