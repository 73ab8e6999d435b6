"""`crossrank label llm`: graded labels from a language model, or from a cross-encoder in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossrank.cli.chat_options import (
    BaseUrlOption,
    CacheOption,
    ChatOptions,
    ConcurrencyOption,
    DryRunOption,
    PassageTokensOption,
    PerMinuteOption,
    PriceOption,
    describe_usage,
    note_estimate,
    telling_what_is_kept,
)
from crossrank.cli.loading import LoadOptions
from crossrank.cli.options import JsonOption
from crossrank.cli.terminal import note, print_json, print_table, progress
from crossrank.errors import DataError, InputError, RerankError

if TYPE_CHECKING:
    from crossrank.data.beir import Corpus
    from crossrank.data.grade_files import GradedPair
    from crossrank.llm.grading import Grader
    from crossrank.types import Document

# Candidates of a query in a run that may be labelled.
DEPTH = 100


class Strategy(StrEnum):
    """How pairs are chosen."""

    stratified = "stratified"
    uncertain = "uncertain"
    disagreeing = "disagreeing"


@dataclass(frozen=True)
class _Pair:
    query_id: str
    query: str
    document: Document


def label_llm(
    queries: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Queries: JSONL as in BEIR.")],
    corpus: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Documents: JSONL as in BEIR.")],
    run: Annotated[
        list[Path], typer.Option(exists=True, dir_okay=False, help="Candidates: a TREC run; give several to pool them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The assessor: openai/MODEL or anthropic/MODEL.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="A cross-encoder as the assessor instead: a folder or a hub name.")
    ] = None,
    budget: Annotated[int, typer.Option(min=1, help="Most pairs to label.")] = 500,
    sample: Annotated[
        Strategy,
        typer.Option(
            help="stratified: over each query's ranking. uncertain: scores in the middle. disagreeing: ranked "
            "differently by several runs."
        ),
    ] = Strategy.stratified,
    cuts: Annotated[
        str, typer.Option(help="Probabilities from which on a teacher gives grade 1, 2 and 3.")
    ] = "0.1,0.5,0.9",
    split: Annotated[str, typer.Option(help="Name of the judgements: qrels/SPLIT.tsv.")] = "dev",
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    price: PriceOption = None,
    cache: CacheOption = None,
    concurrency: ConcurrencyOption = 8,
    per_minute: PerMinuteOption = None,
    passage_tokens: PassageTokensOption = 512,
) -> None:
    """Grade pairs of query and document from 0 to 3, with reasons, within a budget.

    The folder has labels.jsonl, queries.jsonl, qrels/SPLIT.tsv and report.json. Answers are kept in a cache: the same
    command goes on where it was interrupted, and pays for nothing twice. Keys are OPENAI_API_KEY and ANTHROPIC_API_KEY
    of the environment.
    """
    from crossrank.data.beir import open_corpus, read_queries
    from crossrank.data.new_folder import check_new_folder
    from crossrank.mining.label_sampling import sample_pairs

    if (model is None) == (teacher is None):
        raise InputError("name one assessor: a language model (--model openai/MODEL) or a cross-encoder (--teacher)")
    check_new_folder(output)
    texts = read_queries(queries)
    runs = [_read_candidates(path, texts) for path in run]
    chosen = sample_pairs(runs, budget=budget, strategy=sample.value, seed=seed)
    head = {"assessor": model or teacher, "sample": sample.value, "seed": seed, "budget": budget}
    with open_corpus(corpus) as documents:
        if model:
            chat = ChatOptions(model, base_url, price, cache, concurrency, per_minute, passage_tokens)
            pairs, report = _ask_model(chat, list(_pairs(chosen, texts, documents)), dry_run=dry_run)
        else:
            pairs, report = _ask_teacher(str(teacher), cuts, _pairs(chosen, texts, documents), dry_run=dry_run)
    if not dry_run:
        _write(output, pairs, split, head | report, as_json=as_json)


def _write(output: Path, pairs: list[GradedPair], split: str, report: dict[str, Any], *, as_json: bool) -> None:
    from crossrank.data.grade_files import write_grades

    if not pairs:
        reasons = report.get("failures", [])[:3] or ["the runs hold no candidate"]
        raise RerankError(f"no pair could be labelled: {'; '.join(reasons)}")
    counts = Counter(pair.grade for pair in pairs)
    report["pairs"] = len(pairs)
    report["grades"] = {str(grade): counts[grade] for grade in range(4)}
    write_grades(output, pairs, split=split, report=report)
    if as_json:
        print_json(report)
        return
    note(f"{len(pairs)} pairs labelled: {output}")
    rows = [(grade, str(count), f"{count / len(pairs):.3f}") for grade, count in report["grades"].items()]
    print_table("Grades", ("grade", "pairs", "share"), rows)


def _read_candidates(path: Path, queries: dict[str, str]) -> dict[str, list[tuple[str, float]]]:
    from crossrank.data.trec import read_run

    found: dict[str, list[tuple[str, float]]] = {}
    for item in read_run(path):
        if item.query_id not in queries:
            raise DataError(f"no text for query {item.query_id!r}", path=path, line=item.lines[0])
        ordered = sorted(item.candidates, key=lambda candidate: -candidate.score)[:DEPTH]
        found[item.query_id] = [(candidate.document_id, candidate.score) for candidate in ordered]
    return found


def _pairs(chosen: dict[str, list[str]], queries: dict[str, str], corpus: Corpus) -> Iterator[_Pair]:
    for query_id, document_ids in chosen.items():
        for document_id in document_ids:
            document = corpus.get(document_id)
            if document is None:
                raise InputError(f"document {document_id!r} of query {query_id!r} is not in the corpus")
            yield _Pair(query_id, queries[query_id], document)


def _ask_model(chat: ChatOptions, pairs: list[_Pair], *, dry_run: bool) -> tuple[list[GradedPair], dict[str, Any]]:
    from crossrank.llm.client import Meter
    from crossrank.llm.grading import Grader
    from crossrank.types import Usage

    asker = chat.asker()
    grader, prices = Grader(asker), asker.client.prices
    estimate = sum((grader.estimate(pair.query, pair.document, prices) for pair in pairs), Usage())
    note_estimate(estimate)
    if dry_run:
        return [], {}
    meter = Meter()
    with telling_what_is_kept(chat, lambda: meter.usage(prices)):
        graded = list(_graded(grader, pairs, meter, asker.client.map))
    usage = meter.usage(prices)
    note(describe_usage(usage))
    if meter.failures:
        note(f"{len(meter.failures)} pair(s) left out, the first because of {meter.failures[0]}")
    report = {"estimate": asdict(estimate), "usage": asdict(usage), "repairs": meter.repairs}
    return graded, report | {"failures": list(meter.failures)}


def _graded(grader: Grader, pairs: list[_Pair], meter: Any, spread: Any) -> Iterator[GradedPair]:
    from crossrank.data.grade_files import GradedPair
    from crossrank.llm.asking import Forgiveness

    forgiveness = Forgiveness(meter)

    def grade(pair: _Pair) -> Any:
        ask = partial(grader.grade, pair.query, pair.document, meter)
        return forgiveness.attempt(ask, None, subject=f"document {pair.document.id!r}")

    with progress("pairs", total=len(pairs)) as advance:
        answers = spread(grade, pairs)
        for pair, answer in zip(pairs, answers, strict=True):
            advance()
            if answer is not None:
                yield GradedPair(pair.query_id, pair.query, pair.document, answer.value, answer.reason)


def _ask_teacher(
    teacher: str, cuts: str, pairs: Iterator[_Pair], *, dry_run: bool
) -> tuple[list[GradedPair], dict[str, Any]]:
    from crossrank.data.grade_files import GradedPair
    from crossrank.mining.teacher_labels import check_cuts, grade_of

    try:
        bounds = [float(part) for part in cuts.split(",")]
    except ValueError:
        raise InputError(f"--cuts takes three numbers with commas, not {cuts!r}") from None
    check_cuts(bounds)
    by_query: dict[str, list[_Pair]] = {}
    for pair in pairs:
        by_query.setdefault(pair.query_id, []).append(pair)
    total = sum(map(len, by_query.values()))
    note(f"{total} pairs to score")
    if dry_run:
        return [], {}
    reranker = LoadOptions(teacher).load()
    if reranker.checkpoint.settings.calibration is None:
        note(f"{teacher} is not calibrated: check the shares of the grades, or fit it first (crossrank calibrate)")
    graded = []
    with progress("pairs", total=total) as advance:
        for listed in by_query.values():
            ranking = reranker.rank(listed[0].query, [pair.document for pair in listed], score_type="probability")
            if ranking.score_type != "probability":
                raise InputError(f"{teacher} gives no probabilities: fit them first (crossrank calibrate)")
            for hit in ranking:
                pair = listed[hit.index]
                grade = grade_of(hit.score, bounds)
                graded.append(GradedPair(pair.query_id, pair.query, pair.document, grade, teacher_score=hit.score))
            advance(len(listed))
    return graded, {"cuts": bounds}
