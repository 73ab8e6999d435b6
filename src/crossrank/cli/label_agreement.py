"""`crossrank label agreement`: how far two assessors agree, people or models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from crossrank.cli.options import JsonOption
from crossrank.cli.terminal import note, print_json, print_table

LabelsArgument = Annotated[
    Path,
    typer.Argument(
        exists=True,
        help="A folder of `crossrank label`; CSV, TSV or JSONL with ids and grades; or qrels.",
        show_default=False,
    ),
]


def label_agreement(
    first: LabelsArgument,
    second: LabelsArgument,
    relevant_from: Annotated[int, typer.Option(min=1, help="The grade from which on a document is relevant.")] = 2,
    as_json: JsonOption = False,
) -> None:
    """Compare two sets of labels: Cohen's kappa (binary, nominal, weighted) and the confusion matrix.

    A CSV of human labels has the columns query_id, document_id and label.
    """
    from crossrank.data.grade_files import read_grades
    from crossrank.evaluation.agreement import compare_labels

    report = compare_labels(read_grades(first), read_grades(second), relevant_from=relevant_from).to_dict()
    if as_json:
        print_json(report)
        return
    note(f"{report['pairs']} pairs labelled by both")
    note(f"{report['only_first']} pairs by {first} alone, {report['only_second']} by {second} alone")
    note(f"{second} grades {report['second_minus_first']:+.2f} against {first} on average")
    rows = [
        ("same grade", f"{report['same_grade']:.3f}", ""),
        ("same relevance", f"{report['same_relevance']:.3f}", ""),
    ]
    rows += [
        (f"kappa, binary (relevant from {relevant_from})", *_interval(report["kappa_binary"])),
        ("kappa, all grades alike", *_interval(report["kappa_nominal"])),
        ("kappa, linear weights", *_interval(report["kappa_linear"])),
        ("kappa, quadratic weights", *_interval(report["kappa_quadratic"])),
    ]
    print_table("Agreement", ("measure", "value", "95% interval"), rows)
    matrix = report["confusion"]
    columns = (f"{first.name} \\ {second.name}", *map(str, range(len(matrix))))
    print_table("Confusion", columns, [(str(grade), *map(str, row)) for grade, row in enumerate(matrix)])


def _interval(kappa: dict[str, Any]) -> tuple[str, str]:
    if kappa["value"] is None:
        return "not defined", "all pairs have the same grade"
    return f"{kappa['value']:.3f}", f"{kappa['low']:.3f} to {kappa['high']:.3f}"
