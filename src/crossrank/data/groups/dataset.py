"""`TrainingGroups`: a mixture of sources as one dataset; what is drawn depends on seed, epoch and query alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.config import NegativesConfig
from crossrank.data.groups.sampling import choose_negatives, hash_text, mix, rotated, shuffled, walk
from crossrank.data.groups.store import GroupStore, StoredGroup, text_key
from crossrank.errors import DataError
from crossrank.types import Document, TrainingGroup


@dataclass(frozen=True)
class MixedSource:
    """A source in a mixture.

    Attributes:
        store: Its groups.
        order: The groups that are used, in an order that the seed decides.
        num_turns: How many groups an epoch takes from here.
    """

    store: GroupStore
    order: npt.NDArray[np.int64]
    num_turns: int

    def group_at(self, turn: int, epoch: int) -> tuple[int, int]:
        """Return a group and how often it came before; the epochs go round and round through the order."""
        position = epoch * self.num_turns + turn
        return int(self.order[position % len(self.order)]), position // len(self.order)


def mix_source(
    store: GroupStore, usable: npt.NDArray[np.int64], weight: float, num_samples: int | None, seed: int
) -> MixedSource:
    """Return a source that gives `weight` times its usable groups, or times `num_samples` of them, an epoch."""
    keys = mix(store.id_keys()[usable] ^ np.uint64(hash_text(f"order {seed}")))
    order = usable[np.argsort(keys, kind="stable")[:num_samples]]
    return MixedSource(store, order, max(1, round(weight * len(order))))


class TrainingGroups:
    """Groups of `num_passages` documents, drawn from a mixture of sources.

    `sample(index, epoch=...)` depends on its arguments and the seed alone, not on what was called before, in which
    process or worker; a group's documents depend on the seed, the epoch and the id of its query. (A source of a weight
    other than 1 counts its own epochs: how often the group came before.) May be pickled, and used after a fork.
    """

    def __init__(
        self, sources: Sequence[MixedSource], *, negatives: NegativesConfig, num_positives: int, seed: int
    ) -> None:
        self._sources = tuple(sources)
        self._negatives = negatives
        self._num_positives = num_positives
        self._seed = seed
        self._ends = np.cumsum([source.num_turns for source in self._sources], dtype=np.int64)

    def __len__(self) -> int:
        """Return how many groups an epoch has."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_passages(self) -> int:
        """Documents of every sampled group, `N`."""
        return self._num_positives + self._negatives.num

    def without_scores(self) -> Iterator[StoredGroup]:
        """Yield the used groups without a teacher's scores for every document that is sampled."""
        for source in self._sources:
            lacking = ~self._scored(source.store)
            yield from (source.store.group(int(row)) for row in np.sort(source.order) if lacking[row])

    def with_grades(self, is_odd: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.bool_]]) -> Iterator[StoredGroup]:
        """Yield the used groups that have a grade of which `is_odd` holds; it gets the grades of many documents."""
        for source in self._sources:
            odd = source.store.has_grade(is_odd)
            yield from (source.store.group(int(row)) for row in np.sort(source.order) if odd[row])

    @property
    def source_sizes(self) -> tuple[int, ...]:
        """How many groups an epoch has of each source; they stand one source behind the other."""
        return tuple(source.num_turns for source in self._sources)

    def find_image_alone(self) -> Document | None:
        """Return a document that is an image without a text, or None where there is none."""
        found = (source.store.find_image_alone() for source in self._sources)
        return next((document for document in found if document is not None), None)

    def _scored(self, store: GroupStore) -> npt.NDArray[np.bool_]:
        if self._negatives.same_document and not store.pages.is_empty:
            return np.zeros(len(store), np.bool_)
        num_passages = np.minimum(store.num_positives(), self._num_positives) + self._num_usable(store)
        return store.has_scores() & (num_passages >= self.num_passages)

    def _num_usable(self, store: GroupStore) -> npt.NDArray[np.int64]:
        """Return how many negatives each group has that are no positive of the same query in another row."""
        numbers, own = store.num_negatives(), store.query_keys()
        everywhere = np.concatenate([source.store.query_keys() for source in self._sources])
        keys, counts = np.unique(everywhere, return_counts=True)
        for index in np.flatnonzero(np.isin(own, keys[counts > 1])):
            group = store.group(int(index))
            known = self._known_positives(group)
            negatives = store.document_keys(group.rows[group.num_positives :])
            numbers[index] = sum(int(key) not in known for key in negatives)
        return numbers

    def sample(self, index: int, *, epoch: int) -> TrainingGroup:
        """Return the group of an index in an epoch, with `num_passages` documents, positives first.

        Raises:
            DataError: If it has too few negatives, and there are none to fill up with or `when_too_few` is `"error"`.
        """
        at, turn = self._locate(index)
        source = self._sources[at]
        row, visits = source.group_at(turn, epoch)
        store, group = source.store, source.store.group(row)
        stream = hash_text(f"{self._seed} {visits} {group.query_id}")
        keys, known = store.document_keys(group.rows), self._known_positives(group)
        positives = rotated(group.num_positives, self._num_positives, visits)
        num = self.num_passages - len(positives)
        pages = self._same_document(store, group.rows[positives], known, num=num, epoch=visits, stream=stream)
        taken = known | {int(key) for key in store.document_keys(pages)}
        usable = np.array([i for i in range(group.num_positives, len(keys)) if int(keys[i]) not in taken], np.int64)
        num -= len(pages)
        sampling = self._negatives.sampling
        negatives = usable[choose_negatives(len(usable), num, sampling=sampling, epoch=visits, stream=stream)]
        others = [store.document(int(row)) for row in pages]
        if len(negatives) < num:
            if self._negatives.when_too_few == "error":
                raise _too_few(group, f"{len(usable)} negatives", num)
            taken |= {int(key) for key in keys[negatives]}
            fill = list(islice(self._documents_elsewhere(at, taken, stream), num - len(negatives)))
            if len(negatives) + len(fill) < num:
                raise _too_few(group, f"{len(usable)} negatives and {len(fill)} documents of other queries", num)
            others += fill
        return _training_group(store, group, np.concatenate([positives, negatives]), others)

    def _same_document(
        self, store: GroupStore, positives: npt.NDArray[np.int64], known: set[int], *, num: int, epoch: int, stream: int
    ) -> npt.NDArray[np.int64]:
        """Return the rows of the negatives that are other pages of the documents of some positives."""
        num = min(num, self._negatives.same_document)
        if num == 0:
            return np.zeros(0, np.int64)
        pages = _other_pages(store, positives, known)
        sampling = self._negatives.sampling
        return pages[choose_negatives(len(pages), num, sampling=sampling, epoch=epoch, stream=stream)]

    def _known_positives(self, group: StoredGroup) -> set[int]:
        """Return the hashes of all documents that are a positive of a group's query in any source."""
        query_key = text_key(group.query)
        return {key for source in self._sources for key in source.store.known_positives(query_key)}

    def _documents_elsewhere(self, at: int, taken: set[int], stream: int) -> Iterator[Document]:
        """Yield documents of other queries, none that is taken and none twice; first those of the same source."""
        for source in (self._sources[at], *self._sources[:at], *self._sources[at + 1 :]):
            store, before = source.store, -1
            while len(taken) != before:  # a round takes at most one document of each group
                before = len(taken)
                for place in walk(stream, len(source.order)):  # in an order without regard to that of the file
                    row = _first_free(store, store.rows(int(source.order[place])), taken, stream)
                    if row is not None:
                        yield store.document(row)

    def full(self, index: int) -> TrainingGroup:
        """Return a group with all its documents, positives first; what a dev set is judged on.

        Where negatives come from the same document, all other pages of it are among them, and a group that is still
        smaller than those of training is filled up with documents of other queries.
        """
        at, turn = self._locate(index)
        store = self._sources[at].store
        group = store.group(self._sources[at].group_at(turn, 0)[0])
        others: list[Document] = []
        if self._negatives.same_document:
            taken = {int(key) for key in store.document_keys(group.rows)} | self._known_positives(group)
            pages = _other_pages(store, group.rows[: group.num_positives], taken)
            taken |= {int(key) for key in store.document_keys(pages)}
            missing = max(0, self.num_passages - len(group.rows) - len(pages))
            stream = hash_text(f"{self._seed} {group.query_id}")
            others = [store.document(int(row)) for row in pages]
            others += islice(self._documents_elsewhere(at, taken, stream), missing)
        return _training_group(store, group, np.arange(len(group.rows)), others)

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"group {index} of {len(self)}")
        at = int(np.searchsorted(self._ends, index, side="right"))
        return at, index - (int(self._ends[at - 1]) if at else 0)


def _too_few(group: StoredGroup, found: str, wanted: int) -> DataError:
    return DataError(f"query {group.query_id!r} has {found}, {wanted} are wanted", path=group.path, line=group.line)


def _first_free(store: GroupStore, rows: npt.NDArray[np.int64], taken: set[int], stream: int) -> int | None:
    """Return the first document, in an order that the stream decides, that is not taken yet, and take it."""
    keys = store.document_keys(rows)
    for position in shuffled(stream, len(rows)):
        key = int(keys[position])
        if key not in taken:
            taken.add(key)
            return int(rows[position])
    return None


def _other_pages(store: GroupStore, positives: npt.NDArray[np.int64], taken: set[int]) -> npt.NDArray[np.int64]:
    """Return the rows of the documents of some pages, nearest first, none that is taken and none twice."""
    free: dict[int, int] = {}
    for row, key in zip(pages := store.pages.around(positives), store.document_keys(pages), strict=True):
        if int(key) not in taken:
            free.setdefault(int(key), int(row))
    return np.array(list(free.values()), np.int64)


def _training_group(
    store: GroupStore, group: StoredGroup, chosen: npt.NDArray[np.int64], others: Sequence[Document]
) -> TrainingGroup:
    """Return the documents of a group that are chosen, and others, which are negatives without a teacher's score."""
    documents = (*(store.document(int(row)) for row in group.rows[chosen]), *others)
    labels = (*(group.grades[i] for i in chosen), *(0.0 for _ in others))
    scores = None if group.scores is None or others else tuple(group.scores[i] for i in chosen)
    return TrainingGroup(group.query_id, group.query, documents, labels, scores)
