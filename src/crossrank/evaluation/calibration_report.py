"""The report of a calibration: reliability before and after, and where to cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossrank.evaluation.calibration import LabelledPairs, Method, Quality, Scaling, Threshold
from crossrank.evaluation.pages import html_page, html_plot, html_table, markdown_table
from crossrank.evaluation.plots import curves
from crossrank.evaluation.results import installed_versions
from crossrank.evaluation.store import write_text
from crossrank.evaluation.tables import NOTHING, Table


@dataclass(frozen=True)
class CalibrationResult:
    """A fitted calibration and what it does to pairs that it was not fitted on.

    Attributes:
        model: Its label.
        dataset: Where the labels come from.
        method: `"platt"` or `"temperature"`.
        scaling: The fit.
        fitted_on: Pairs of one half of the queries.
        held_out: Pairs of the other half.
        before: Quality on the held-out pairs before.
        after: And after.
        thresholds: For the wanted precisions.
    """

    model: str
    dataset: str
    method: Method
    scaling: Scaling
    fitted_on: LabelledPairs
    held_out: LabelledPairs
    before: Quality
    after: Quality
    thresholds: Sequence[Threshold]

    def facts(self) -> dict[str, Any]:
        """Return the content of `calibration.json`."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "method": self.method,
            "slope": self.scaling.slope,
            "intercept": self.scaling.intercept,
            "fitted_on": _counts(self.fitted_on),
            "held_out": _counts(self.held_out),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "thresholds": [threshold._asdict() for threshold in self.thresholds],
            "versions": installed_versions(),
        }


def _counts(pairs: LabelledPairs) -> dict[str, int]:
    return {"queries": pairs.num_queries, "pairs": len(pairs), "relevant": int(pairs.relevant.sum())}


def calibration_tables(result: CalibrationResult) -> list[Table]:
    """Return the tables of the report."""
    share = result.held_out.relevant.mean()
    quality = Table(
        f"{result.model} on {result.dataset}",
        ("held-out pairs", "ECE", "Brier", "log loss"),
        tuple(
            (name, f"{found.ece:.4f}", f"{found.brier:.4f}", f"{found.log_loss:.4f}")
            for name, found in (("before", result.before), ("after", result.after))
        ),
        f"probability = sigmoid({result.scaling.slope:.4f} * score {result.scaling.intercept:+.4f})\n"
        f"{result.method}, fitted on {len(result.fitted_on)} candidates of {result.fitted_on.num_queries} queries; "
        f"shown on {len(result.held_out)} of {result.held_out.num_queries} others, of which {share:.1%} are relevant. "
        "Candidates that nobody judged count as not relevant, so true precision is at least what is shown. Another "
        "first stage or depth has another share of relevant candidates: fit on what you will serve.",
    )
    cuts = Table(
        "Where to cut for a wanted precision",
        ("wanted precision", "keep from probability", "precision", "recall"),
        tuple(
            (f"{cut.wanted:g}", *(NOTHING if value is None else f"{value:.4f}" for value in cut[1:]))
            for cut in result.thresholds
        ),
        "Chosen on the pairs of the fit; precision and recall are those of the held-out pairs.",
    )
    return [quality, cuts]


def write_calibration_report(folder: Path, result: CalibrationResult) -> None:
    """Write `calibration.json`, `calibration.md` and `calibration.html`."""
    tables = calibration_tables(result)
    series = {
        f"{name} (ECE {found.ece:.3f})": [(one.probability, one.relevant) for one in found.bins]
        for name, found in (("before", result.before), ("after", result.after))
    }
    plot = curves(series, x_label="mean probability of the bin", y_label="share of relevant pairs", diagonal=True)
    title = f"Calibration of {result.model}"
    write_text(folder / "calibration.json", json.dumps(result.facts(), indent=2) + "\n")
    write_text(folder / "calibration.md", f"# {title}\n\n" + "\n".join(map(markdown_table, tables)))
    sections = [html_table(tables[0]), html_plot("Reliability on held-out pairs", plot), html_table(tables[1])]
    write_text(folder / "calibration.html", html_page(title, sections))
