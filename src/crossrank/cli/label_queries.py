"""`crossrank label queries`: synthetic queries for the documents of a corpus, and the filter that they must pass."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
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
from crossrank.cli.options import JsonOption
from crossrank.cli.terminal import note, print_json, progress
from crossrank.errors import InputError, RerankError

if TYPE_CHECKING:
    from crossrank.llm.client import Meter
    from crossrank.llm.synthesis import QueryWriter
    from crossrank.types import Document

# Characters; what is shorter says too little to be asked for.
_SHORTEST = 40


def label_queries(
    corpus: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Documents: JSONL as in BEIR.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The writer: openai/MODEL or anthropic/MODEL.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    documents: Annotated[int, typer.Option(min=1, help="Most documents to write for, drawn at random.")] = 500,
    per_document: Annotated[int, typer.Option(min=1, help="Queries for each.")] = 3,
    retriever: Annotated[
        str, typer.Option(help="Of the round trip: bm25 or dense:MODEL. A query must find its own document.")
    ] = "bm25",
    within: Annotated[int, typer.Option(min=1, help="Among so many first candidates.")] = 1,
    split: Annotated[str, typer.Option(help="Name of the judgements: qrels/SPLIT.tsv.")] = "train",
    seed: Annotated[int, typer.Option(help="Of the documents drawn.")] = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    base_url: BaseUrlOption = None,
    price: PriceOption = None,
    cache: CacheOption = None,
    concurrency: ConcurrencyOption = 8,
    per_minute: PerMinuteOption = None,
    passage_tokens: PassageTokensOption = 512,
) -> None:
    """Write queries that the documents of a corpus answer, and keep those that find their document again.

    The folder has queries.jsonl, qrels/SPLIT.tsv, dropped.jsonl and report.json.
    """
    from crossrank.data.beir import open_corpus
    from crossrank.data.new_folder import check_new_folder
    from crossrank.retrieval.selection import open_retriever

    check_new_folder(output)
    if retriever.startswith("run:"):
        raise InputError("no run knows queries that are yet to be written: --retriever is bm25 or dense:MODEL")
    search = open_retriever(retriever)
    chat = ChatOptions(model, base_url, price, cache, concurrency, per_minute, passage_tokens)
    with open_corpus(corpus) as found:
        ids = [str(document.id) for document in found if len(document.text.strip()) >= _SHORTEST]
        chosen = sorted(random.Random(seed).sample(ids, min(documents, len(ids))))
        drawn = [document for document in map(found.get, chosen) if document is not None]
        if not drawn:
            raise InputError(f"{corpus}: no document of at least {_SHORTEST} characters")
        written = _write_queries(chat, drawn, per_document, dry_run=dry_run)
        if written is None:
            return
        queries, sources, report = written
        with progress("documents of the round trip", total=len(found)) as advance:
            search.index(found, on_progress=advance)
    with progress("queries", total=len(queries)) as advance:
        from crossrank.mining.round_trip import found_again

        ranks = found_again(queries, sources, search, within=within, on_progress=advance)
    report |= {"documents": len(drawn), "written": len(queries), "kept": len(ranks)}
    report |= {"model": model, "retriever": retriever, "within": within, "seed": seed}
    _save(output, queries, sources, ranks, split=split, report=report)
    note(f"{len(ranks)} of {len(queries)} queries find their document again: {output}")
    if as_json:
        print_json(report)


def _write_queries(
    chat: ChatOptions, documents: list[Document], per_document: int, *, dry_run: bool
) -> tuple[dict[str, str], dict[str, str], dict[str, Any]] | None:
    """Return texts and source documents by the ids of the queries, and a report; None after a dry run."""
    from crossrank.llm.client import Meter
    from crossrank.llm.synthesis import QueryWriter
    from crossrank.types import Usage

    asker = chat.asker()
    writer, prices = QueryWriter(asker, per_document=per_document), asker.client.prices
    estimate = sum((writer.estimate(document, prices) for document in documents), Usage())
    note_estimate(estimate)
    if dry_run:
        return None
    meter = Meter()
    with (
        telling_what_is_kept(chat, lambda: meter.usage(prices)),
        progress("documents", total=len(documents)) as advance,
    ):
        queries, sources, repeated = _collect(documents, writer, meter, asker.client.map, advance)
    usage = meter.usage(prices)
    note(describe_usage(usage))
    if not queries:
        raise RerankError(f"no query was written: {'; '.join(meter.failures[:3])}")
    return queries, sources, _report(meter, repeated) | {"estimate": asdict(estimate), "usage": asdict(usage)}


def _collect(
    documents: list[Document], writer: QueryWriter, meter: Meter, spread: Any, advance: Callable[..., None]
) -> tuple[dict[str, str], dict[str, str], int]:
    """Return texts and source documents by the ids of the queries, and how many repeated one of another document."""
    from crossrank.llm.asking import Forgiveness

    queries: dict[str, str] = {}
    sources: dict[str, str] = {}
    seen: set[str] = set()
    repeated = 0
    forgiveness = Forgiveness(meter)

    def write(document: Document) -> list[str]:
        return forgiveness.attempt(partial(writer.write, document, meter), [], subject=f"document {document.id!r}")

    for document, texts in zip(documents, spread(write, documents), strict=True):
        advance()
        fresh = [text for text in texts if text.casefold() not in seen]
        repeated += len(texts) - len(fresh)
        seen.update(text.casefold() for text in fresh)
        for number, text in enumerate(fresh, start=1):
            queries[f"{document.id}-q{number}"] = text
            sources[f"{document.id}-q{number}"] = str(document.id)
    return queries, sources, repeated


def _report(meter: Meter, repeated: int) -> dict[str, Any]:
    return {"repeated": repeated, "repairs": meter.repairs, "failures": list(meter.failures)}


def _save(
    output: Path,
    queries: dict[str, str],
    sources: dict[str, str],
    ranks: dict[str, int],
    *,
    split: str,
    report: dict[str, Any],
) -> None:
    from crossrank.data.new_folder import check_id, new_folder

    for query_id in ranks:
        check_id(query_id)
    with new_folder(output) as folder:
        (folder / "qrels").mkdir()
        kept = [{"_id": query_id, "text": queries[query_id]} for query_id in ranks]
        dropped = [
            {"_id": query_id, "text": text, "document_id": sources[query_id]}
            for query_id, text in queries.items()
            if query_id not in ranks
        ]
        for name, rows in (("queries.jsonl", kept), ("dropped.jsonl", dropped)):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / name).write_text("".join(lines), encoding="utf-8")
        judgements = "".join(f"{query_id}\t{sources[query_id]}\t1\n" for query_id in ranks)
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judgements}", encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
