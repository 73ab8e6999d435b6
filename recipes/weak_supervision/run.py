r"""From a click log and a corpus to a validated reranker, in one command.

    python recipes/weak_supervision/run.py --log clicks.jsonl --corpus corpus.jsonl --assessor openai/MODEL -o WORK
    python recipes/weak_supervision/run.py --log clicks.jsonl --corpus corpus.jsonl \
        --judged-queries queries.jsonl --judgements judgements.csv -o WORK

Clicks become labels, negatives are mined, a reranker is trained on both, the checkpoint is selected on queries that an
assessor or people have judged, and the report is about other queries that they have judged. WORK keeps every step: the
same command goes on where an interrupted one stopped. README.md beside this file says what comes in and what goes out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from crossrank.errors import RerankError
from crossrank.llm.opening import open_chat
from crossrank.models.checkpoint import DEFAULT_MODEL
from sets import Judged, judged_texts, parted, read_labelled, write_judged, write_queries, write_run, write_shown_groups
from steps import Steps

RECIPE = Path(__file__).parents[1] / "weak_supervision.yaml"
# From here on an assessor's grade counts as relevant: it answers at least in part.
ASSESSOR_RELEVANT_FROM = 2
# Candidates of a dev query of people that each checkpoint ranks.
DEV_DEPTH = 30


def main(arguments: Sequence[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        if options.assessor:
            open_chat(options.assessor, base_url=options.base_url)  # a missing key ends it now, not after an hour
        Pipeline(options).run()
    except (RerankError, OSError) as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        print("interrupted: give the same command again to go on", file=sys.stderr)
        sys.exit(130)


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_argument_group("input")
    given.add_argument("--log", type=Path, required=True, help="the click log: JSONL, CSV, TSV or Parquet")
    given.add_argument("--corpus", type=Path, required=True, help="the documents: JSONL as in BEIR, maybe .gz")
    given.add_argument("-o", "--output", type=Path, required=True, help="the folder that keeps every step")
    labels = parser.add_argument_group("labels to select and to report on (from one of them or both)")
    labels.add_argument(
        "--assessor", help="a language model, openai/MODEL or anthropic/MODEL: grades queries of the log"
    )
    labels.add_argument("--held-out", type=int, default=200, help="queries of the log that it grades (200)")
    labels.add_argument("--budget", type=int, default=4000, help="most pairs that it grades (4000)")
    labels.add_argument("--base-url", help="its server, as in http://localhost:8000/v1")
    labels.add_argument("--price", help="US dollars for a million tokens read and written, as in 0.15,0.60")
    labels.add_argument("--judged-queries", type=Path, help="queries that people have judged: JSONL as in BEIR")
    labels.add_argument(
        "--judgements", type=Path, help="their judgements: qrels, or CSV with query_id, document_id, label"
    )
    labels.add_argument("--relevant-from", type=int, default=1, help="the grade of people that is relevant (1)")
    labels.add_argument("--dev-queries", type=int, default=100, help="judged queries to select on, at most half (100)")
    weak = parser.add_argument_group("weak labels")
    weak.add_argument("--click-model", default="naive", help="naive, satisfied, ips, pbm or cascade (naive)")
    weak.add_argument("--min-impressions", type=int, default=5, help="pairs shown less often are left out (5)")
    weak.add_argument("--negatives", choices=("mined", "shown"), default="mined", help="shown: what was not clicked")
    weak.add_argument("--teacher", help="a reranker whose scores the new one learns")
    search = parser.add_argument_group("search")
    search.add_argument(
        "--retriever", action="append", help="bm25 (the default) or dense:MODEL; the first one ranks first"
    )
    search.add_argument("--language", default="english", help="of the corpus, for BM25 (english)")
    search.add_argument("--depth", type=int, default=100, help="candidates of a judged query (100)")
    training = parser.add_argument_group("training")
    training.add_argument("--model", default=DEFAULT_MODEL, help=f"what is trained further ({DEFAULT_MODEL})")
    training.add_argument("--recipe", type=Path, default=RECIPE, help="how: a file of `crossrank train`")
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in training.num_epochs=2")
    training.add_argument("--baseline", default=DEFAULT_MODEL, help=f"a reranker beside it, or none ({DEFAULT_MODEL})")
    parser.add_argument("--seed", type=int, default=0, help="of whatever is drawn (0)")
    options = parser.parse_args(arguments)
    check(parser, options)
    return options


def check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message where the options do not go together."""
    if (options.judged_queries is None) != (options.judgements is None):
        parser.error("--judged-queries and --judgements go together")
    if not options.assessor and not options.judgements:
        parser.error(
            "a checkpoint is selected on labels: --assessor openai/MODEL, or --judged-queries and --judgements"
        )
    if options.teacher and options.negatives == "shown":
        parser.error("--teacher scores what is mined: it does not go with --negatives shown")
    if min(options.held_out, options.budget, options.dev_queries, options.depth) < 1:
        parser.error("--held-out, --budget, --dev-queries and --depth are at least 1")
    files = (options.log, options.corpus, options.judged_queries, options.judgements, options.recipe)
    missing = next((path for path in files if path is not None and not path.exists()), None)
    if missing is not None:
        parser.error(f"{missing}: no such file")


class Pipeline:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.output
        self.corpus: Path = options.corpus
        self.retrievers: list[str] = list(dict.fromkeys(options.retriever or ["bm25"]))
        self.baseline: list[str] = [] if options.baseline == "none" else [options.baseline]
        self.steps = Steps(self.work)

    def run(self) -> None:
        clicks = self.label_clicks()
        queries = self.part_queries(clicks)
        judged = self.judge(queries)
        groups = self.mine(queries)
        model = self.train(groups, judged)
        self.report(model, judged)
        print(f"\nthe reranker: {model}\nthe report: {self.work / 'report' / 'report.html'}", file=sys.stderr)

    def label_clicks(self) -> Path:
        options, output = self.options, self.work / "clicks"
        command = ["label", "clicks", options.log, "--corpus", self.corpus, "-o", output]
        command += ["--model", options.click_model, "--min-impressions", options.min_impressions]
        return self.steps.command(output, command, needs=[options.log, self.corpus])

    def part_queries(self, clicks: Path) -> Path:
        options, output = self.options, self.work / "queries"
        settings = {"held_out": options.held_out if options.assessor else 0, "seed": options.seed}
        people = [options.judged_queries, options.judgements] if options.judgements else []

        def make() -> None:
            write_queries(output, clicks, judged_texts(*people) if people else (), **settings)

        needs = [clicks / "labels.jsonl", *(path for path in people if path.is_file())]
        return self.steps.own(output, make, needs=needs, **settings)

    def judge(self, queries: Path) -> Path:
        """Return a BEIR folder with the splits dev and test."""
        options, output = self.options, self.work / "judged"
        needs = [self.corpus]
        run = labels = None
        if options.assessor:
            run, labels = self.ask_assessor(queries / "held-out.jsonl")
            needs += [run, labels / "labels.jsonl"]
        if options.judgements:
            needs += [options.judged_queries, options.judgements]

        def make() -> None:
            dev, test = self.sides(queries / "held-out.jsonl", labels)
            write_judged(output, self.corpus, dev, test, run)

        settings = {name: getattr(options, name) for name in ("dev_queries", "relevant_from", "seed")}
        return self.steps.own(output, make, needs=[path for path in needs if path.is_file()], **settings)

    def ask_assessor(self, held_out: Path) -> tuple[Path, Path]:
        """Return the first stage's run and the folder of labels."""
        options, output = self.options, self.work / "labels"
        runs = [self.search(held_out, retriever, "held-out") for retriever in self.retrievers]
        for name in self.baseline:
            run = self.work / "held-out.baseline.trec"
            command = ["rerank", "--model", name, "--queries", held_out, "--corpus", self.corpus, "--run", runs[0]]
            runs.append(self.steps.command(run, [*command, "-o", run], needs=[runs[0]]))
        command = ["label", "llm", "--queries", held_out, "--corpus", self.corpus, "--model", options.assessor]
        command += [part for run in runs for part in ("--run", run)]
        command += ["--budget", options.budget, "--seed", options.seed, "-o", output]
        for name, value in (("--base-url", options.base_url), ("--price", options.price)):
            command += [name, value] if value else []
        return runs[0], self.steps.command(output, command, needs=runs)

    def search(self, queries: Path, retriever: str, name: str) -> Path:
        number = self.retrievers.index(retriever)
        output = self.work / f"{name}.{number}-{retriever.partition(':')[0]}.trec"
        settings = {"depth": self.options.depth, "language": self.options.language}
        return self.steps.own(
            output,
            lambda: write_run(output, queries, self.corpus, retriever, **settings),
            needs=[queries, self.corpus],
            retriever=retriever,
            **settings,
        )

    def sides(self, held_out: Path, labels: Path | None) -> tuple[Judged, Judged]:
        """Return what the checkpoint is selected on, and what the report is about."""
        options, by_people = self.options, None
        if options.judgements:
            by_people = read_labelled(options.judged_queries, options.judgements, relevant_from=options.relevant_from)
        if labels is None:
            assert by_people is not None
            return parted(by_people, options.dev_queries, seed=options.seed)
        graded = read_labelled(held_out, labels, relevant_from=ASSESSOR_RELEVANT_FROM)
        return (graded, by_people) if by_people else parted(graded, options.dev_queries, seed=options.seed)

    def mine(self, queries: Path) -> Path:
        options, output = self.options, self.work / "groups.jsonl"
        if options.negatives == "shown":
            labels = queries / "labels.jsonl"
            return self.steps.own(output, lambda: write_shown_groups(output, labels), needs=[labels], negatives="shown")
        train = [queries / "train.jsonl", queries / "train.tsv"]
        command = ["mine", "--queries", train[0], "--qrels", train[1], "--corpus", self.corpus, "-o", output]
        command += [part for retriever in self.retrievers for part in ("--retriever", retriever)]
        command += ["--language", options.language, "--seed", options.seed]
        if options.teacher:
            # It decides what its scores mean: nothing is refused for them, and their whole range is kept.
            command += ["--teacher", options.teacher, "--percent", 0, "--sampling", "stratified"]
            command += ["--random-share", 0.25]
        else:
            command += ["--sampling", "random"]
        return self.steps.command(output, command, needs=[*train, self.corpus])

    def train(self, groups: Path, judged: Path) -> Path:
        options, output = self.options, self.work / "model"
        dev = {"path": str(judged), "format": "beir", "split": "dev"}
        if not options.assessor:
            # People have seldom judged what is not relevant: candidates that they have not judged take that place.
            dev |= {"run": str(self.search(judged / "queries.jsonl", self.retrievers[0], "judged")), "depth": DEV_DEPTH}
        settings = {"model.name": options.model, "data.train": [str(groups)], "data.dev": [dev]}
        if options.teacher:
            settings |= {
                "loss": {"name": "kl_divergence"},
                "data.on_bad_row": "drop",
                "data.negatives.when_too_few": "error",
            }
        values = [f"{key}={json.dumps(value)}" for key, value in settings.items()] + options.set
        command = ["train", options.recipe, "--resume", "-o", output]
        command += [part for value in values for part in ("--set", value)]
        model = output / "model"
        self.steps.command(output, command, needs=[groups, judged / "qrels" / "dev.tsv", options.recipe], done=model)
        return model

    def report(self, model: Path, judged: Path) -> None:
        options = self.options
        run = self.search(judged / "queries.jsonl", self.retrievers[0], "judged")
        runs = {"report": run}
        if options.assessor and not options.judgements:
            runs["report-judged"] = judged / "judged.trec"
        for name, candidates in runs.items():
            output = self.work / name
            command = ["evaluate", "--data", judged, "--split", "test", "--run", candidates, "--depth", options.depth]
            command += [part for name in (*self.baseline, model) for part in ("--model", name)]
            command += ["-o", output]
            needs = [candidates, judged / "qrels" / "test.tsv", *sorted(model.glob("*.safetensors"))]
            self.steps.command(output, command, needs=needs, done=output / "results.json")


if __name__ == "__main__":
    main()
