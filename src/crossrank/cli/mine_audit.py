"""`crossrank mine audit`: what may be wrong with mined groups, as text, JSON and one HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crossrank.cli.options import JsonOption
from crossrank.cli.terminal import note, print_json, print_table
from crossrank.errors import InputError

if TYPE_CHECKING:
    from crossrank.evaluation.tables import Table
    from crossrank.mining.audit import Audit, Example, Histogram

_BAR_WIDTH = 24
_TEXT_WIDTH = 300


def audit(
    groups: Annotated[
        Path, typer.Argument(metavar="GROUPS", help="JSONL, JSON or Parquet with texts, or corpus-ID JSON.")
    ],
    qrels: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Judgements that the groups may not know.")
    ] = None,
    percent: Annotated[
        float, typer.Option(help="A suspect scores above this share of the lowest positive's score.")
    ] = 0.95,
    near_duplicate: Annotated[float, typer.Option(help="Least similarity to a positive that is reported.")] = 0.9,
    page: Annotated[Path | None, typer.Option("--html", help="Write a page that needs nothing beside itself.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look for false negatives, duplicates and known positives in groups; show scores and coverage."""
    from crossrank.data.audited_groups import open_groups_to_audit
    from crossrank.data.qrels import read_qrels
    from crossrank.mining.audit import audit_groups

    if page and page.suffix.lower() != ".html":
        raise InputError(f"--html names the page to write, as in audit.html, not {page}")
    graded = read_qrels(qrels) if qrels else {}
    relevant = {query_id: {d for d, grade in grades.items() if grade > 0} for query_id, grades in graded.items()}
    with open_groups_to_audit(groups) as read:
        found = audit_groups(read, percent=percent, near_duplicate=near_duplicate, relevant=relevant)
    tables = _tables(found)
    if page:
        from crossrank.evaluation.pages import html_page, html_table
        from crossrank.evaluation.store import write_text

        write_text(page, html_page(f"Audit of {groups.name}", [html_table(table) for table in tables]))
        note(f"page written: {page}")
    if as_json:
        print_json(found.to_dict())
        return
    for table in tables:
        print_table(table.title, table.columns, table.rows)
        if table.note:
            note(table.note)


def _tables(audit: Audit) -> list[Table]:
    from crossrank.mining.audit import Finding

    tables = [_coverage(audit), _findings(audit), *(_histogram(histogram) for histogram in audit.histograms)]
    if audit.most_used:
        tables.append(_most_used(audit))
    for finding in Finding:
        examples = [example for example in audit.examples if example.finding is finding]
        if examples:
            tables.append(_examples(examples, audit.findings[finding]))
    return tables


def _coverage(audit: Audit) -> Table:
    from crossrank.evaluation.tables import Table

    counts = sorted(audit.negatives_of_group.elements())
    spread = f"{counts[0]} to {counts[-1]}, median {counts[len(counts) // 2]}" if counts else "-"
    rows = [
        ("groups", str(audit.groups)),
        ("groups whose query stands above", str(audit.repeated_queries)),
        ("positives", str(audit.positives)),
        ("negatives", str(audit.negatives)),
        ("negatives a group", spread),
        ("different negatives", str(audit.distinct_negatives)),
        *((f"negatives: {source}", str(count)) for source, count in audit.sources.most_common()),
    ]
    return Table("Coverage", ("what", "count"), tuple(rows))


def _findings(audit: Audit) -> Table:
    from crossrank.evaluation.tables import Table
    from crossrank.mining.audit import Finding

    rows = []
    for finding in Finding:
        of = audit.groups if finding is Finding.no_negatives else audit.negatives
        share = f"{100 * audit.findings[finding] / of:.1f}%" if of else "-"
        rows.append((finding.value, str(audit.findings[finding]), share))
    limit = f"Too close: above {audit.percent:g} of the lowest positive's score; only scores of the same kind compare."
    return Table("Findings", ("what", "count", "share"), tuple(rows), limit)


def _histogram(histogram: Histogram) -> Table:
    from crossrank.evaluation.tables import Table

    sides = (histogram.positives, histogram.negatives)
    most = [max(max(side), 1) for side in sides]
    rows = []
    for place, (low, high) in enumerate(zip(histogram.edges, histogram.edges[1:], strict=False)):
        counts = [side[place] for side in sides]
        bars = ["█" * math.ceil(_BAR_WIDTH * count / top) for count, top in zip(counts, most, strict=True)]
        rows.append((f"{low:.3g} to {high:.3g}", str(counts[0]), bars[0], str(counts[1]), bars[1]))
    name = "Scores" if histogram.scale == "score" else f"Scores of {histogram.scale}"
    return Table(name, ("from", "positives", "", "negatives", ""), tuple(rows))


def _most_used(audit: Audit) -> Table:
    from crossrank.evaluation.tables import Table

    rows = tuple((str(count), document_id or "-", _short(text)) for count, document_id, text in audit.most_used)
    return Table("Negatives of the most groups", ("groups", "id", "text"), rows)


def _examples(examples: Sequence[Example], count: int) -> Table:
    from crossrank.evaluation.tables import Table

    rows = tuple(
        (
            f"{example.query_id}: {_short(example.query)}",
            f"{example.document_id or ''} {_short(example.text)}".strip(),
            _scores(example.scores),
            _scores(example.positive_scores),
        )
        for example in examples
    )
    title = examples[0].finding.value.capitalize()
    shown = f"{title}: the first {len(examples)} of {count}" if count > len(examples) else title
    return Table(shown, ("query", "negative", "its score", "lowest positive"), rows)


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{score:.4g}" if name == "score" else f"{name} {score:.4g}" for name, score in scores.items())


def _short(text: str) -> str:
    line = " ".join(text.split()).translate(dict.fromkeys([*range(32), *range(127, 160)], "\ufffd"))
    return line if len(line) <= _TEXT_WIDTH else line[: _TEXT_WIDTH - 1] + "…"
