"""`crossrank label`: relevance labels from click logs, language models and teachers."""

from __future__ import annotations

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crossrank.cli.label_agreement import label_agreement
from crossrank.cli.label_llm import label_llm
from crossrank.cli.label_queries import label_queries
from crossrank.cli.options import CorpusOption, JsonOption, SkipBadOption
from crossrank.cli.terminal import note, note_skipped, print_json, print_table

label = typer.Typer(no_args_is_help=True, help="Relevance labels: from clicks, a language model, a teacher.")
label.command("llm")(label_llm)
label.command("agreement")(label_agreement)
label.command("queries")(label_queries)


class ClickModel(StrEnum):
    """How clicks become labels."""

    naive = "naive"
    satisfied = "satisfied"
    ips = "ips"
    pbm = "pbm"
    cascade = "cascade"


@label.command()
def clicks(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="JSONL, CSV, TSV (also .gz) or Parquet; - is stdin.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[
        ClickModel,
        typer.Option(
            help="naive: clicks over impressions. satisfied: last or long clicks. ips: clicks weighed against position "
            "bias. pbm: position-based model. cascade: read until the first click."
        ),
    ] = ClickModel.naive,
    corpus: CorpusOption = None,
    min_impressions: Annotated[int, typer.Option(min=1, help="Leave out pairs that were shown less often.")] = 5,
    prior: Annotated[float, typer.Option(min=0, help="Impressions that the average of all counts as.")] = 5.0,
    relevant_from: Annotated[
        float | None,
        typer.Option(help="Labels above this are relevant in qrels; where two groups of labels part if left out."),
    ] = None,
    satisfied_dwell: Annotated[float, typer.Option(min=0, help="Seconds after which a click is satisfied.")] = 30.0,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Turn a click log into labelled pairs: a folder with labels.jsonl, queries.jsonl and qrels/train.tsv."""
    from crossrank.data.beir import open_corpus
    from crossrank.data.click_logs import read_click_log
    from crossrank.data.label_files import write_labels
    from crossrank.data.text import SkippedLines
    from crossrank.mining.click_counts import count_clicks
    from crossrank.mining.click_labels import label_clicks
    from crossrank.mining.click_models import ESTIMATORS

    skipped = SkippedLines() if skip_bad else None
    counts = count_clicks(read_click_log(log, skipped=skipped), satisfied_dwell_s=satisfied_dwell)
    estimate = ESTIMATORS[model.value](counts, prior_strength=prior)
    labels = label_clicks(counts, estimate, min_impressions=min_impressions, relevant_from=relevant_from)
    report = {"model": model.value} | labels.report() | {"bad_rows": skipped.count if skipped else 0}
    with open_corpus(corpus) if corpus else nullcontext() as documents:
        find = documents.get if documents is not None else None
        unknown = write_labels(output, labels.pairs(), report=report, find_document=find)
    if skipped:
        note_skipped(skipped)
    if unknown:
        note(f"{unknown} labelled pair(s) left out: the corpus has no such document")
    if as_json:
        print_json(report)
        return
    _print_report(report, output)


def _print_report(report: dict[str, Any], output: Path) -> None:
    pairs, queries = report["pairs"], report["queries"]
    note(
        f"{report['pages']} pages, {report['clicks']} clicks on {report['impressions']} impressions\n"
        f"{queries['labelled']} of {queries['seen']} queries, {pairs['labelled']} of {pairs['seen']} pairs labelled "
        f"({pairs['shown_too_rarely']} shown too rarely), {pairs['relevant']} relevant (label above "
        f"{report['relevant_from']:.3f}): {output}"
    )
    rows = [
        (str(row["position"]), str(row["impressions"]), _share(row["ctr"]), _share(row.get("propensity")))
        for row in report["positions"]
    ]
    print_table("Clicks by position", ("position", "impressions", "clicks per impression", "propensity"), rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
