"""The `data:` section of a recipe: which sources, how their negatives are sampled. Strict: an unknown key is an error.

A complete section:

    train:
      - data/groups.jsonl                          # the short form: a path alone
      - {path: data/tech-qa, split: train, run: bm25, depth: 50, weight: 2.0}
      - {path: hf://nvidia/embed-nemotron-dataset-v1/FEVER, num_samples: 20000}
    dev:
      - {path: data/tech-qa, split: dev, run: data/tech-qa/run.bm25.trec.gz, depth: 100}
    num_positives: 1
    negatives: {num: 4, sampling: top, when_too_few: fill, same_document: 0}
    seed: 42
    on_bad_row: error
    cache_dir: null
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from crossrank.data.evaluation_set import Modality
from crossrank.data.sections import Section, section_problems
from crossrank.errors import InputError

Format = Literal["auto", "groups", "corpus-id", "hub", "beir", "triples", "pairs", "pages"]
Sampling = Literal["top", "random", "mixed", "rotate"]

# Which formats take which of the keys that not all take.
_KEYS_OF_FORMATS: dict[str, tuple[str, ...]] = {
    "split": ("beir", "hub", "pages"),
    "run": ("beir",),
    "depth": ("beir",),
    "queries": ("triples",),
    "collection": ("triples",),
    "positive_from": ("groups", "beir", "pairs", "pages"),
    "modality": ("groups", "beir", "corpus-id", "pages"),
    "document_field": ("groups", "beir", "corpus-id", "pages"),
}


class SourceConfig(Section):
    """One source of groups. A string in its place is its path.

    Attributes:
        path: A file, a folder, or `hf://organisation/repository[/subset]`.
        format: `"groups"` (JSONL or JSON, one group a row), `"corpus-id"` (JSON that refers to corpus folders),
            `"hub"` (the schema of `hf://`, also as a local folder), `"beir"`, `"triples"` (MS MARCO), `"pairs"`
            (labelled pairs), `"pages"` (tables of queries and page images, as ColPali and ViDoRe have them), or
            `"auto"`, which looks at the path.
        weight: How often each group comes in an epoch: 2 is twice, 0.5 is every second one, the others next time.
        num_samples: Use this many groups, drawn once by the seed; all where None.
        split: Of a BEIR folder or a hub dataset; `train` where None.
        run: The negatives of a BEIR folder: a TREC run, or `"bm25"` to search its corpus. Without it only documents
            that are judged 0 are negatives.
        depth: So many candidates of `run` a query, best first.
        queries: For `qid pid pid` triples, the TSV of the queries.
        collection: For `qid pid pid` triples, the TSV of the passages.
        positive_from: The least grade of a positive, in graded data: it and what is above count as 1, the rest as 0.
            Where None, grades stay as they are, and all above 0 are positives.
        modality: What is read of a document that has a text and an image: `"text"`, `"image"` or `"image+text"`; both
            where None. A source may be listed once for each.
        document_field: Which field of a page says which document it belongs to; `doc_id`, `doc-id`, `document_id`,
            `document` or `file` where None, or else its id, as in `report.pdf#page=3` or `report-p003`.
    """

    path: str = Field(min_length=1)
    format: Format = "auto"
    weight: float = Field(default=1.0, gt=0)
    num_samples: int | None = Field(default=None, ge=1)
    split: str | None = None
    run: str | None = None
    depth: int = Field(default=50, ge=1)
    queries: str | None = None
    collection: str | None = None
    positive_from: float | None = Field(default=None, gt=0)
    modality: Modality | None = None
    document_field: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    def check_keys(self, format: str) -> None:
        """Check that no key was given that this format does not take.

        Raises:
            InputError: If one was.
        """
        for key in sorted(self.model_fields_set & _KEYS_OF_FORMATS.keys()):
            if format not in _KEYS_OF_FORMATS[key]:
                raise InputError(f"{self.path}: {key!r} is not for the format {format!r}")


class NegativesConfig(Section):
    """How the negatives of a group are chosen, by the seed, the epoch and the id of the query alone.

    Attributes:
        num: Negatives a group.
        sampling: `"top"` takes the first ones of the data; `"random"` draws anew each epoch; `"mixed"` takes half from
            the top and draws the rest; `"rotate"` goes on through the list from epoch to epoch.
        when_too_few: `"fill"` with documents of other queries, or `"error"`. Nothing is ever repeated.
        same_document: So many of them come from the other pages of the document that the positive is a page of, where
            it has so many: `"top"` then means the nearest pages.
    """

    num: int = Field(default=4, ge=1)
    sampling: Sampling = "top"
    when_too_few: Literal["fill", "error"] = "fill"
    same_document: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _at_most_all(self) -> NegativesConfig:
        if self.same_document > self.num:
            raise ValueError(f"same_document={self.same_document} is more than num={self.num}")
        return self


class DataConfig(Section):
    """What a reranker is trained on.

    Attributes:
        train: The sources of the training groups.
        dev: The sources of the groups that it is judged on while training.
        num_positives: Most positives a group; others take their turn in later epochs. A group with fewer gets more
            negatives, so that all groups have `num_positives + negatives.num` documents.
        negatives: How negatives are chosen.
        seed: Of everything that is drawn.
        on_bad_row: `"error"` refuses an input with bad rows; `"drop"` leaves them out, and the report counts them.
        cache_dir: Where the converted sources are kept; a folder of the user's cache where None.
    """

    train: Annotated[tuple[SourceConfig, ...], Field(min_length=1, strict=False)]
    dev: Annotated[tuple[SourceConfig, ...], Field(strict=False)] = ()
    num_positives: int = Field(default=1, ge=1)
    negatives: NegativesConfig = NegativesConfig()
    seed: int = Field(default=42, ge=0)
    on_bad_row: Literal["error", "drop"] = "error"
    cache_dir: str | None = None

    @property
    def num_passages(self) -> int:
        """Documents of every group, `N`."""
        return self.num_positives + self.negatives.num


def parse_data_config(value: Any) -> DataConfig:
    """Return the section that plain values (from YAML) describe.

    Raises:
        InputError: If a key is unknown or a value is wrong; names all of them.
    """
    try:
        return DataConfig.model_validate(value)
    except ValidationError as error:
        raise InputError(f"data: {section_problems(error)}") from None
