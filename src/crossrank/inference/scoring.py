"""Many pairs to logits in bounded memory: windows of pairs, the next one tokenised while the engine computes.

Shape letters: `P` pairs, `L` labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import EncodedPairs
from crossrank.encoding.visual import Encoder
from crossrank.errors import NumericalError
from crossrank.inference.engine import Engine
from crossrank.types import Document

# Enough for the planner to fill its batches with pairs of one length, and a few megabytes of token ids.
WINDOW_PAIRS = 2048

OnProgress = Callable[[int], None]


@dataclass(frozen=True)
class ScoredPairs:
    """Logits float32 `(P, L)` and, per pair, whether its document was cut, bool `(P,)`; in the order given."""

    logits: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]


def score_pairs(
    pairs: Sequence[tuple[str, str | Document]],
    *,
    encoder: Encoder,
    engine: Engine,
    on_progress: OnProgress | None = None,
) -> ScoredPairs:
    """Encode and score pairs of any number, at least one.

    Args:
        pairs: Query and document.
        encoder: Of the checkpoint.
        engine: Of the checkpoint.
        on_progress: Called with the number of pairs that have been finished since the last call.

    Raises:
        InputError: If a pair cannot be encoded.
        NumericalError: If a logit is NaN or infinite; names the pair.
    """
    windows = [pairs[start : start + WINDOW_PAIRS] for start in range(0, len(pairs), WINDOW_PAIRS)]
    return _score_windows(_encoded_ahead(windows, encoder), engine, on_progress)


def score_encoded(encoded: EncodedPairs, *, engine: Engine, on_progress: OnProgress | None = None) -> ScoredPairs:
    """Score pairs that are token ids already, at least one; as `score_pairs`.

    Raises:
        NumericalError: If a logit is NaN or infinite; names the pair.
    """
    windows = (encoded[start : start + WINDOW_PAIRS] for start in range(0, len(encoded), WINDOW_PAIRS))
    return _score_windows(windows, engine, on_progress)


def _score_windows(windows: Iterable[EncodedPairs], engine: Engine, on_progress: OnProgress | None) -> ScoredPairs:
    logits: list[npt.NDArray[np.float32]] = []
    truncated: list[npt.NDArray[np.bool_]] = []
    for encoded in windows:
        distinct, places = _distinct(encoded)
        window_logits = engine.logits(distinct)[places]
        check_finite(window_logits, first=sum(map(len, logits)), precision=engine.precision)
        logits.append(window_logits)
        truncated.append(encoded.truncated)
        if on_progress:
            on_progress(len(encoded))
    return ScoredPairs(np.concatenate(logits), np.concatenate(truncated))


def _distinct(encoded: EncodedPairs) -> tuple[EncodedPairs, npt.NDArray[np.int64]]:
    """Return each sequence of tokens with its image once, and where each pair's stands among them.

    Equal pairs then have equal scores to the last bit, whatever batches they would have been computed in.
    """
    first: dict[tuple[bytes, ...], int] = {}
    images = encoded.images or [None] * len(encoded)
    rows: list[int] = []
    places = np.empty(len(encoded), np.int64)
    for i, (ids, types, image) in enumerate(zip(encoded.input_ids, encoded.token_type_ids, images, strict=True)):
        shown = b"" if image is None else image.key
        places[i] = first.setdefault((ids.tobytes(), types.tobytes(), shown), len(rows))
        if places[i] == len(rows):
            rows.append(i)
    return (encoded, places) if len(rows) == len(encoded) else (encoded.select(rows), places)


def _encoded_ahead(windows: list[Sequence[tuple[str, str | Document]]], encoder: Encoder) -> Iterator[EncodedPairs]:
    """Yield the encoded windows; while one is used the next one is made."""
    if len(windows) == 1:
        yield encoder.encode(windows[0])
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="crossrank-encode") as ahead:
        pending = ahead.submit(encoder.encode, windows[0])
        for following in windows[1:]:
            encoded = pending.result()
            pending = ahead.submit(encoder.encode, following)
            yield encoded
        yield pending.result()


def check_finite(logits: npt.NDArray[np.float32], *, precision: str, first: int = 0) -> None:
    """Check the logits `(P, L)` of the pairs that are counted from `first`.

    Raises:
        NumericalError: If one is NaN or infinite; names its pair.
    """
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        remedy = "the weights are damaged" if precision == "float32" else 'load with dtype="float32"'
        raise NumericalError(
            f"the model gave {logits[bad[0]].tolist()} for pair {first + int(bad[0])} in {precision} "
            f"({len(bad)} of {len(logits)} pairs in its window are not finite): {remedy}"
        )
