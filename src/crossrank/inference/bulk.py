"""Bulk scoring: a file of pairs, shard by shard, in memory that does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from crossrank.data.pair_files import PairRow, PairShard, place, read_shard
from crossrank.data.score_folder import ShardRecord, write_shard
from crossrank.data.text import display_name
from crossrank.errors import InputError, NumericalError
from crossrank.types import Document, Scores


class BulkScorer(Protocol):
    """A scorer that says what it could not read: a `Reranker`."""

    def score_with_truncation(
        self, pairs: Sequence[tuple[str, str | Document]], *, instruction: str | None = None
    ) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """Return a raw logit a pair, float32 `(P,)`, and whether its document lost text, bool `(P,)`."""
        ...


@dataclass(frozen=True)
class BulkJob:
    """What each shard is scored with.

    Attributes:
        pairs: The file.
        folder: Where shards are put.
        instruction: As in `Reranker.score`.
        skip_bad: Leave out pairs that the model cannot read, such as one whose query leaves no room for a document.
    """

    pairs: Path
    folder: Path
    instruction: str | None = None
    skip_bad: bool = False

    def run(self, scorer: BulkScorer, shard: PairShard) -> ShardRecord:
        """Read, score and write one shard. Doing it twice gives the same file.

        Raises:
            DataError: If the file cannot be read or, without `skip_bad`, a pair cannot be used; names its line.
            NumericalError: If a logit is NaN or infinite; names the lines.
        """
        rows = read_shard(self.pairs, shard)
        try:
            scores, truncated = self._score(scorer, rows)
        except InputError:
            rows = [row for row in rows if self._is_usable(scorer, row)]
            scores, truncated = self._score(scorer, rows)
        except NumericalError as error:
            where = f"{display_name(self.pairs)}, rows {shard.first} to {shard.last}"
            raise NumericalError(f"{where}: {error}") from None
        name = write_shard(self.folder, shard.index, rows, scores, truncated)
        skipped = shard.num_pairs - len(rows)
        return ShardRecord(shard.index, name, shard.first, shard.last, len(rows), int(truncated.sum()), skipped)

    def _score(self, scorer: BulkScorer, rows: list[PairRow]) -> tuple[Scores, npt.NDArray[np.bool_]]:
        pairs = [(row.query, row.document) for row in rows]
        return scorer.score_with_truncation(pairs, instruction=self.instruction)

    def _is_usable(self, scorer: BulkScorer, row: PairRow) -> bool:
        try:
            self._score(scorer, [row])
        except InputError as error:
            if self.skip_bad:
                return False
            message = str(error).removeprefix("pair 0: ")
            raise place(self.pairs, row.number, message) from None
        return True


def run_here(job: BulkJob, scorer: BulkScorer, shards: Iterable[PairShard]) -> Iterator[ShardRecord]:
    """Score shards in this process, one after the other, and yield the record of each.

    Raises:
        DataError: As `BulkJob.run`.
        NumericalError: As `BulkJob.run`.
    """
    for shard in shards:
        yield job.run(scorer, shard)
