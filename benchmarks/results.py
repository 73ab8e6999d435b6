"""The grid of docs/results.md: `run` evaluates (an interrupted one goes on), `write` makes the page of what is stored.

python benchmarks/results.py run --data DATA --work WORK --dense MODEL
python benchmarks/results.py write --data DATA --work WORK --dense MODEL --out docs/results.md
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes/crossrank-mini-en-v1"))

from collections_en import LEFT_OUT, TRAINING
from crossrank.evaluation.languages import summarise

MEASURE, RECALL = "nDCG@10", "R@5"
STAGES = ("bm25", "dense")
HEADS = ("BM25", "BM25 + model", "BM25, fused", "dense", "dense + model", "dense, fused")


class Group(NamedTuple):
    """Data sets that are evaluated, averaged and corrected for being several together."""

    name: str
    title: str
    data: tuple[str, ...]
    num_queries: int
    depth: int


LARGE = (
    "medquad", "code-functions", "powershell-docs", "cpp-docs", "php-docs", "web-docs", "business-central-docs",
    "design-specs", "digitalgov",
)  # fmt: skip

GROUPS = (
    Group("left-out", "English, kept out of training", LEFT_OUT, 50, 50),
    Group(
        "training",
        "English, dev queries of the sets that the model was trained on",
        tuple(name for name in TRAINING if name not in LARGE),
        50,
        50,
    ),
    Group("large", "The same, larger corpora", LARGE, 50, 50),
    Group(
        "languages",
        "Other languages",
        ("beir:{}/faquad:pt", "beir:{}/cmrc2018-dev:zh", "beir:{}/iapp-thai:th"),
        50,
        50,
    ),
    Group("japanese", "Japanese, a larger corpus", ("beir:{}/jaquad:ja",), 50, 50),
    Group("xquad", "xquad: twelve languages, and two pools that cross their borders", ("xquad:{}/xquad",), 30, 20),
    Group("pages", "The text of page images", ("docpages",), 50, 50),
)


def command(group: Group, stage: str, args: argparse.Namespace, extra: Sequence[str]) -> list[str]:
    """Return the evaluation of a group after one first stage."""
    sources = [(text if "{}" in text else f"{{}}/{text}").format(args.data) for text in group.data]
    return [
        "crossrank", "evaluate", *(part for source in sources for part in ("--data", source)), "--split", "dev",
        "--first-stage", f"dense:{args.dense}" if stage == "dense" else stage, "--fuse", "checkpoint",
        "--num-queries", str(group.num_queries), "--depth", str(group.depth), *extra,
        "-o", f"{args.work}/{stage}/{group.name}",
    ]  # fmt: skip


def run(args: argparse.Namespace, extra: Sequence[str]) -> None:
    for group in GROUPS:
        for stage in STAGES:
            print(f"{group.name}, {stage}", file=sys.stderr, flush=True)
            words = [sys.executable, "-m", *command(group, stage, args, extra)]
            if code := subprocess.run(words, stdout=subprocess.DEVNULL).returncode:
                sys.exit(code)


def read(work: Path, stage: str, group: Group) -> dict[str, Any]:
    """Return `results.json` of one evaluation."""
    found: dict[str, Any] = json.loads((work / stage / group.name / "results.json").read_text(encoding="utf-8"))
    return found


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def fused(found: Mapping[str, Any]) -> Mapping[str, Any]:
    (only,) = found["fused"].values()
    return dict(only)


def values(both: Sequence[Mapping[str, Any]], measure: str) -> list[float]:
    """Return a set's figures in the order of `HEADS`, of as many first stages as there are."""
    return [
        value[measure]
        for found in both
        for value in (found["first_stage"], found["reranked"], fused(found)["measures"])
    ]


def bold_best(numbers: Sequence[float]) -> list[str]:
    texts = [f"{number:.3f}" for number in numbers]
    return [f"**{text}**" if text == max(texts) else text for text in texts]


def means(rows: Iterable[Sequence[float]]) -> list[float]:
    columns = list(zip(*rows, strict=True))
    return [sum(column) / len(column) for column in columns]


def system_table(both: Sequence[Mapping[str, Any]], measure: str, *, only_mean: bool = False) -> str:
    """Return a row a set, and their mean."""
    by_set = {name: values([each[name] for each in both], measure) for name in both[0]}
    queries = {name: both[0][name]["queries"] for name in by_set}
    rows = [[name, str(queries[name]), *bold_best(numbers)] for name, numbers in by_set.items()]
    mean = [f"mean of {len(by_set)}", str(sum(queries.values())), *bold_best(means(by_set.values()))]
    return table(
        (measure, "queries", *HEADS[: 3 * len(both)]), [mean] if only_mean else [*rows, mean] if len(rows) > 1 else rows
    )


def difference_table(both: Sequence[Mapping[str, Any]]) -> str:
    """Return what the model adds to each first stage, alone and fused."""
    rows = [
        [name, *(difference(part) for each in both for part in (each[name], fused(each[name])))] for name in both[0]
    ]
    heads = (head for head in HEADS[: 3 * len(both)] if head not in ("BM25", "dense"))
    return table((f"difference in {MEASURE}", *heads), rows)


def difference(found: Mapping[str, Any]) -> str:
    (low, high), p_value = found["ci95"][MEASURE], found["p_value"][MEASURE]
    star = " \\*" if p_value < 0.05 else ""
    return f"{found['delta'][MEASURE]:+.3f} [{low:+.2f}, {high:+.2f}]{star}"


def language_table(both: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Return a row a language, the macro mean, and the worst language of each column."""
    by_language = {str(both[0][name]["language"]): values([each[name] for each in both], MEASURE) for name in names}
    rows = [[language, *bold_best(numbers)] for language, numbers in by_language.items()]
    columns = zip(*by_language.values(), strict=True)
    found = [summarise(dict(zip(by_language, column, strict=True))) for column in columns]
    rows.append(["macro mean", *bold_best([each.macro_mean for each in found])])
    rows.append(["worst", *(f"{each.worst_value:.3f} ({each.worst})" for each in found)])
    return table((MEASURE, *HEADS[: 3 * len(both)]), rows)


def pools(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the sets of xquad by what is searched."""
    titles = {"x2en": "Questions in eleven languages over English paragraphs",
              "mixed": "Questions in twelve languages over the paragraphs of all"}  # fmt: skip
    found: dict[str, list[str]] = {}
    for name in names:
        _, _, config = name.partition("-")
        found.setdefault(titles.get(config.partition(".")[0], "One language"), []).append(name)
    return found


def section(group: Group, work: Path) -> str:
    results = [read(work, stage, group) for stage in STAGES]
    both = [found["datasets"] for found in results]
    first = next(iter(both[0].values()))
    parts = [f"## {group.title}\n", f"At most {group.num_queries} queries a set, top {first['depth']}.\n"]
    if group.name == "xquad":
        parts += [f"### {title}\n\n{language_table(both, names)}" for title, names in pools(both[0]).items()]
    else:
        parts.append(system_table(both, MEASURE))
        if len(both[0]) > 1:
            parts.append(system_table(both, RECALL, only_mean=True))
        parts.append(difference_table(both))
    return "\n".join(parts)


def is_stored(work: Path, group: Group) -> bool:
    return all((work / stage / group.name / "results.json").is_file() for stage in STAGES)


def intro(args: argparse.Namespace, groups: Sequence[Group]) -> str:
    found = [read(args.work, stage, group) for group in groups for stage in STAGES]
    missing = [group.title for group in GROUPS if group not in groups]
    not_yet = f"Not evaluated yet: {'; '.join(missing)}.\n\n" if missing else ""
    cells = [cell for each in found for cell in each["datasets"].values()]
    pairs, seconds = sum(cell["pairs"] for cell in cells), sum(cell["seconds"] for cell in cells)
    versions = ", ".join(f"{name} {number}" for name, number in found[0]["versions"].items())
    model = found[0]["model"]
    stated = argparse.Namespace(data="DATA", dense="all-MiniLM-L6-v2", work="WORK")
    commands = "\n".join(shlex.join(command(group, stage, stated, [])) for group in GROUPS for stage in STAGES)
    return f"""# Results

What the model **{model["name"]}** adds to two first stages, BM25 and the bi-encoder all-MiniLM-L6-v2 ("dense"), on each
development set. Each figure is over all queries of a seeded sample; a relevant document that the first stage
missed is a miss. "Fused": with the first stage's scores, by the weight that the model states
({next(iter(first_fused(found)))}). Bold: the best of a row. A difference stands with its 95% bootstrap interval;
\\* is p < 0.05 by a paired randomisation test, corrected over the sets of its table (Holm).

Read it with care. Samples are small, so look at the interval before the difference. In the sets that were made of the
structure of documents (`recipes/crossrank-mini-en-v1/collections_en.py` names them) one relevant document a query is
known, and others count as misses. The sets of the second and third table lent the model their train splits. It was
trained on English alone.

{not_yet}{pairs:,} pairs were scored in {seconds:.0f} s: {pairs / seconds:.0f} a second, {model["backend"]} in
{model["precision"]}. {versions}.

## Commands

`python benchmarks/results.py run --data DATA --work WORK --dense all-MiniLM-L6-v2` gives these and can be interrupted;
with `write` for `run` it makes this page of what they wrote. `DATA` holds the collections in BEIR layout; `WORK` then
has every measure, p-value, query and run.

```
{commands}
```
"""


def first_fused(found: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    return (name for each in found for cell in each["datasets"].values() for name in cell["fused"])


def write(args: argparse.Namespace) -> None:
    groups = [group for group in GROUPS if is_stored(args.work, group)]
    page = "\n".join([intro(args, groups), *(section(group, args.work) for group in groups)])
    args.out.write_text(page, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("run", "write"))
    parser.add_argument("--data", required=True, help="the folder of the BEIR folders")
    parser.add_argument("--work", type=Path, required=True, help="one folder an evaluation")
    parser.add_argument("--dense", required=True, help="a folder or a hub name of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, default=Path("docs/results.md"))
    args, extra = parser.parse_known_args()  # more options go to every evaluation
    run(args, extra) if args.step == "run" else write(args)


if __name__ == "__main__":
    main()
