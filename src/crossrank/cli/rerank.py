"""`crossrank rerank`: the documents of files for one query, or a whole run."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crossrank.cli.chat_options import BaseUrlOption, PriceOption
from crossrank.cli.loading import LoadOptions, takes_load_options
from crossrank.cli.options import (
    CorpusOption,
    FilesArgument,
    FuseOption,
    HtmlOption,
    InstructionOption,
    JsonLinesOption,
    JsonOption,
    OnOverflow,
    OnOverflowOption,
    OutputOption,
    PageModality,
    PageModalityOption,
    QueriesOption,
    QueryArgument,
    RankOptions,
    RestartOption,
    RunOption,
    ScoreType,
    ScoreTypeOption,
    SkipBadOption,
    TextColumnOption,
    TopKOption,
)
from crossrank.cli.pages import choose_modality, read_pages
from crossrank.cli.ranking_page import write_ranking_page
from crossrank.cli.rerank_run import rerank_run, whole_run
from crossrank.cli.terminal import is_terminal, note, note_skipped, print_json, print_json_lines, print_ranking
from crossrank.cli.then import (
    KeepOption,
    LLMMethod,
    LLMMethodOption,
    Stages,
    Then,
    ThenOption,
    note_stages,
    read_then,
)
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.types import Document, Ranking

# Characters; less than that is ranked before a progress bar could be read.
LONG_WORK = 200_000


@takes_load_options()
def rerank(
    query: QueryArgument = None,
    files: FilesArgument = None,
    top_k: TopKOption = None,
    on_overflow: OnOverflowOption = OnOverflow.truncate,
    score_type: ScoreTypeOption = ScoreType.logit,
    fuse: FuseOption = False,
    instruction: InstructionOption = None,
    text_column: TextColumnOption = None,
    modality: PageModalityOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
    as_jsonl: JsonLinesOption = False,
    html: HtmlOption = None,
    queries: QueriesOption = None,
    corpus: CorpusOption = None,
    run: RunOption = None,
    output: OutputOption = None,
    restart: RestartOption = False,
    *,
    loading: LoadOptions,
    then: ThenOption = None,
    keep: KeepOption = 20,
    llm_method: LLMMethodOption = LLMMethod.window,
    base_url: BaseUrlOption = None,
    price: PriceOption = None,
) -> None:
    """Rank documents for a query, best first.

    With --queries, --corpus, --run and -o it reranks a whole run; the same command goes on with an interrupted one.
    With --then a language model ranks the best once more; its key is OPENAI_API_KEY or ANTHROPIC_API_KEY.
    """
    ranking = RankOptions(top_k, on_overflow, score_type, fuse, instruction, skip_bad)
    only_files = {
        "QUERY": query, "--text-column": text_column, "--modality": modality, "--json": as_json, "--jsonl": as_jsonl,
        "--html": html,
    }  # fmt: skip
    if fuse and score_type is not ScoreType.logit:
        raise InputError("fused scores are no probabilities: leave out --score-type or --fuse")
    last = read_then(then, keep=keep, method=llm_method, base_url=base_url, price=price)
    files_of_run = whole_run(queries, corpus, run, output, restart=restart, unfit=only_files)
    if files_of_run:
        rerank_run(files_of_run, ranking, loading, last, restart=restart)
        return
    if query is None:
        raise InputError('no query: crossrank rerank "your question" FILE...')
    if query.encode("utf-8", "ignore").decode() != query:
        raise InputError("the query is not valid UTF-8")
    if as_json and as_jsonl:
        raise InputError("--json and --jsonl exclude each other")
    if html and not html.parent.is_dir():
        raise InputError(f"--html: no folder {html.parent} to write into")
    form = OutputForm(as_json, as_jsonl, html)
    rerank_files(query, files or [], ranking, loading, last, text_column=text_column, modality=modality, form=form)


class OutputForm(NamedTuple):
    """How a ranking is shown: as lines or a table where neither JSON form is asked for."""

    as_json: bool = False
    as_jsonl: bool = False
    html: Path | None = None


def rerank_files(
    query: str,
    files: Sequence[Path],
    options: RankOptions,
    loading: LoadOptions,
    then: Then | None = None,
    *,
    text_column: str | None,
    modality: PageModality | None,
    form: OutputForm,
) -> None:
    """Rank the documents of files for one query, and print them.

    Raises:
        RerankError: If a file, the query or the model cannot be used.
    """
    from crossrank.data.documents import read_documents
    from crossrank.data.text import STDIN, SkippedLines

    if not files and (sys.stdin is None or is_terminal(sys.stdin)):
        raise InputError("no FILE, and nothing is piped into standard input: name files or folders to rank")
    skipped = SkippedLines() if options.skip_bad else None
    found = list(read_documents(files or [STDIN], text_column=text_column, skipped=skipped))
    llm = then.open(on_failure="keep") if then else None
    reranker = loading.load()
    read = choose_modality(modality, reranker.checkpoint)
    pages = read_pages(found, read, reranker.checkpoint, named=files, skipped=skipped)
    documents, inputs = pages.documents, pages.inputs
    scores = [_first_stage_score(i, document) for i, document in enumerate(documents)] if options.fuse else []
    stages = Stages(reranker, options, llm, then.keep if then else 0)
    long = is_terminal(sys.stderr) and _is_long(inputs)
    ranking = stages.rank(query, inputs, first_stage_scores=scores, show_progress=long)
    _show(ranking, form)
    if form.html:
        write_ranking_page(form.html, ranking, documents, read=read.value)
    note_stages(ranking.stages)
    if skipped:
        note_skipped(skipped)
    if not documents:
        note("no documents in the input: the ranking is empty")


def _is_long(documents: Sequence[Document]) -> bool:
    return sum(LONG_WORK if document.image is not None else len(document.text) for document in documents) > LONG_WORK


def _show(ranking: Ranking, form: OutputForm) -> None:
    if form.as_json:
        head = {"query": ranking.query, "model": ranking.model, "score_type": ranking.score_type}
        reports = {"stages": [asdict(stage) for stage in ranking.stages]} if ranking.stages else {}
        print_json(head | reports | {"hits": ranking.to_dicts()})
    elif form.as_jsonl:
        print_json_lines(ranking.to_dicts())
    else:
        print_ranking(ranking)


def _first_stage_score(index: int, document: Document) -> float:
    value = document.metadata.get("score")
    try:
        score = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        name = f"record {index + 1}" + (f" (id {document.id!r})" if document.id else "")
        raise InputError(f"--fuse needs a number as `score` in every record; {name} has {value!r}")
    return score
