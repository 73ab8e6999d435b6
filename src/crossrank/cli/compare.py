"""`crossrank compare`: two runs side by side, as a page to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crossrank.cli.evaluation_sources import NumQueriesOption, SplitOption, find_sources, open_source
from crossrank.cli.reports import print_report_table
from crossrank.cli.terminal import note
from crossrank.errors import DataError

RunArgument = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A TREC run.", show_default=False)]


def compare(
    run_a: RunArgument,
    run_b: RunArgument,
    data: Annotated[str, typer.Option("--data", "-d", help="The judged queries: a folder in BEIR layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML page to write.")] = Path("compare.html"),
    split: SplitOption = None,
    num_queries: NumQueriesOption = None,
    measures: Annotated[str, typer.Option(help="The first one decides who won.")] = "nDCG@10,RR@10,R@5",
    top: Annotated[int, typer.Option(min=1, help="Documents of a query that are shown.")] = 10,
    show: Annotated[int, typer.Option(min=1, help="Queries that are shown of those won, and of those lost.")] = 50,
) -> None:
    """Show which queries RUN_B wins and loses against RUN_A, with the documents that moved."""
    from crossrank.evaluation.candidates import read_candidates
    from crossrank.evaluation.measures import parse_measures
    from crossrank.evaluation.run_comparison import compare_runs, comparison_page, summary_table
    from crossrank.evaluation.store import write_text

    parsed = parse_measures(measures)
    if output.is_dir() or not output.parent.is_dir():
        raise DataError(
            "cannot be written: " + ("it is a folder" if output.is_dir() else "no such folder"), path=output
        )
    names = _names(run_a, run_b)
    (source,) = find_sources([data], None, split)
    with open_source(source, split=split) as whole:
        sample = whole.sample(num_queries) if num_queries else whole
        first, second = (read_candidates(path, sample, depth=None) for path in (run_a, run_b))
        comparison = compare_runs(sample, first, second, parsed, names=names, depth=top)
        write_text(output, comparison_page(comparison, sample, num_shown=show))
    print_report_table(summary_table(comparison))
    note(f"written: {output}")


def _names(run_a: Path, run_b: Path) -> tuple[str, str]:
    """Return the names of the files, with their folders where they are the same."""
    if run_a.name != run_b.name:
        return run_a.name, run_b.name
    return str(run_a), str(run_b)
