"""What debiasing, mined negatives and a teacher are worth: the recipe four times over one simulated click log.

    python recipes/weak_supervision/compare.py --data BEIR -o WORK [--seeds 0 1 2] [options of run.py]

BEIR is any folder with the splits train and dev. Clicks are simulated for its train queries (`simulate.py`); its dev
judgements select the checkpoint and, on other queries, make the report. Prints the table as Markdown. Whatever else is
given goes to `run.py`; an interrupted comparison goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from crossrank.models.checkpoint import DEFAULT_MODEL

HERE = Path(__file__).parent
MEASURE = "nDCG@10"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder in BEIR layout with the splits train and dev"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder that keeps everything")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of clicks, negatives and training (0)")
    parser.add_argument("--debiased", default="pbm", help="the click model of the lower rows (pbm)")
    parser.add_argument("--teacher", default=DEFAULT_MODEL, help=f"of the last row ({DEFAULT_MODEL})")
    parser.add_argument("--pages", type=int, default=60000, help="of the log (60000)")
    parser.add_argument("--severity", type=float, default=1.5, help="of the position bias (1.5)")
    parser.add_argument("--shuffle", type=float, default=0.3, help="share of pages in random order (0.3)")
    options, others = parser.parse_known_args()
    rows = {
        "clicks, naive": ["--click-model", "naive", "--negatives", "shown"],
        "clicks, debiased": ["--click-model", options.debiased, "--negatives", "shown"],
        "+ mined negatives": ["--click-model", options.debiased],
        "+ teacher": ["--click-model", options.debiased, "--teacher", options.teacher],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    logs = {seed: simulated(options, seed) for seed in options.seeds}
    for name, row in rows.items():
        for seed, log in logs.items():
            command = [
                *row,
                "--log",
                log,
                "--seed",
                seed,
                "--set",
                f"training.seed={seed}",
                "-o",
                folder(options, name, seed),
            ]
            run(
                "run.py",
                *command,
                "--corpus",
                file_of(options.data, "corpus.jsonl"),
                *judgements(options.data),
                *others,
            )
    print_table(options, list(rows))


def simulated(options: argparse.Namespace, seed: int) -> Path:
    log: Path = options.output / f"log-{seed}.jsonl"
    if not log.exists():
        settings = {name: getattr(options, name) for name in ("data", "pages", "severity", "shuffle")} | {"seed": seed}
        run("simulate.py", "-o", log, *(part for name, value in settings.items() for part in (f"--{name}", value)))
    return log


def judgements(data: Path) -> list[object]:
    return ["--judged-queries", file_of(data, "queries.jsonl"), "--judgements", data / "qrels" / "dev.tsv"]


def file_of(data: Path, name: str) -> Path:
    packed = data / f"{name}.gz"
    return packed if packed.exists() else data / name


def folder(options: argparse.Namespace, row: str, seed: int) -> Path:
    name = "-".join(row.replace(",", "").replace("+", "").split())
    return Path(options.output) / f"{name}-{seed}"


def run(script: str, *arguments: object) -> None:
    code = subprocess.run([sys.executable, str(HERE / script), *map(str, arguments)]).returncode
    if code:
        sys.exit(code)


def print_table(options: argparse.Namespace, rows: list[str]) -> None:
    """Print means over the seeds; differences to the first stage are those of the first seed."""
    seeds = options.seeds
    reports = {(row, seed): trained_in(folder(options, row, seed)) for row in rows for seed in seeds}
    first = reports[rows[0], seeds[0]]
    candidates = f"the first {first['depth']} candidates of {first['first_stage_name']}"
    print(f"\n{first['queries']} queries, {candidates}, seeds {', '.join(map(str, seeds))}\n")
    print(f"| trained on | {MEASURE} | by seed | against the first stage, 95% |\n| --- | --- | --- | --- |")
    print(f"| not reranked | {first['first_stage'][MEASURE]:.3f} | | |")
    for row in rows:
        found = [reports[row, seed]["reranked"][MEASURE] for seed in seeds]
        listed = ", ".join(f"{value:.3f}" for value in found)
        low, high = reports[row, seeds[0]]["ci95"][MEASURE]
        print(f"| {row} | {sum(found) / len(found):.3f} | {listed} | {low:+.3f} to {high:+.3f} |")


def trained_in(work: Path) -> dict[str, Any]:
    """Return what the report says about the trained model, the last one of it."""
    found = json.loads((work / "report" / "results.json").read_text(encoding="utf-8"))
    report = list(found["models"].values())[-1] if "models" in found else found
    (dataset,) = report["datasets"].values()
    return dict(dataset)


if __name__ == "__main__":
    main()
