import json
import re
from html.parser import HTMLParser

import pytest

from crossrank.data.trec import Candidate
from crossrank.evaluation.comparison import BM25, FIRST_STAGE, ORACLE, RERANKED, Scored, compare, correct_over_datasets
from crossrank.evaluation.measures import parse_measures
from crossrank.evaluation.report import report_tables, write_report
from crossrank.evaluation.tables import Table, main_table

MEASURES = parse_measures("nDCG@10,R@5")
NAMES = ("first", "<b>second</b> | set")


def ranked(*ids):
    return tuple(Candidate(document_id, -float(place)) for place, document_id in enumerate(ids))


@pytest.fixture
def cells(make_set):
    """Two models on two sets of two queries; the reranker lifts q1 from place 2 to place 1."""
    found = []
    for model in ("small", "large"):
        for name in NAMES:
            data = make_set({"q1": {"d1": 1}, "q2": {"d2": 1}}, name=name)
            runs = {
                BM25: {"q1": ranked("d3")},
                FIRST_STAGE: {"q1": ranked("d0", "d1"), "q2": ranked("d2", "d0")},
                RERANKED: {"q1": ranked("d1", "d0"), "q2": ranked("d2", "d0")},
                "fused zscore:0.5": {"q1": ranked("d0", "d1"), "q2": ranked("d2", "d0")},
                ORACLE: {"q1": ranked("d1", "d0"), "q2": ranked("d2", "d0")},
            }
            scored = Scored(model, "dense:m", 2, runs, pairs=8, seconds=2.0)
            found.append(compare(data, scored, MEASURES, num_queries_of_set=10))
    return correct_over_datasets(found)


def test_results_json_has_the_documented_form(cells, tmp_path):
    one = [cell for cell in cells if cell.model == "small"]
    write_report(tmp_path, one, {"small": {"parameters": 7}})
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found) == {"datasets", "mean", "model", "versions"}
    first = found["datasets"]["first"]
    wanted = {"queries", "depth", "first_stage", "reranked", "delta", "ci95", "p_value", "pairs", "seconds"}
    assert wanted <= set(first)
    assert (first["queries"], first["depth"], first["pairs"], first["seconds"]) == (2, 2, 4, 2.0)
    before = (1 / 1.584962500721156 + 1) / 2
    assert first["first_stage"] == {"nDCG@10": pytest.approx(before), "R@5": 1.0}
    assert first["reranked"] == {"nDCG@10": 1.0, "R@5": 1.0}
    assert first["delta"]["nDCG@10"] == pytest.approx(1 - before)
    assert first["ci95"]["R@5"] == [0.0, 0.0]
    assert first["p_value"] == {"nDCG@10": 1.0, "R@5": 1.0}
    assert first["bm25"]["nDCG@10"] == 0.0
    assert first["judged"] == {"measure": "Judged@10", "first_stage": 0.5, "reranked": 0.5}
    assert first["queries_won_lost_tied"]["nDCG@10"] == [1, 0, 1]
    assert found["model"] == {"name": "small", "parameters": 7}
    assert found["versions"]["crossrank"]
    assert found["mean"]["delta"]["nDCG@10"] == pytest.approx(1 - before)


def test_several_models_stand_below_models(cells, tmp_path):
    write_report(tmp_path, cells, {"small": {}, "large": {}})
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found["models"]) == ["small", "large"]
    assert set(found["models"]["large"]["datasets"]) == set(NAMES)


def test_a_line_a_query(cells, tmp_path):
    write_report(tmp_path, cells, {"small": {}, "large": {}})
    lines = [json.loads(line) for line in (tmp_path / "per_query.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert [lines[0][key] for key in ("model", "dataset", "query_id", "query")] == [
        "small", "first", "q1", "text of q1",
    ]  # fmt: skip
    assert lines[0]["reranked"] == {"nDCG@10": 1.0, "R@5": 1.0}
    assert lines[0]["oracle_positives"]["nDCG@10"] == 1.0


def test_the_page_needs_nothing_beside_itself(cells, tmp_path):
    write_report(tmp_path, cells, {"small": {}, "large": {}}, command="crossrank evaluate -m 'a<b'")
    page = (tmp_path / "report.html").read_text()
    assert "<code>crossrank evaluate -m &#x27;a&lt;b&#x27;</code>" in page
    assert "<b>second</b>" not in page
    assert "&lt;b&gt;second&lt;/b&gt;" in page
    assert page.count("<svg") == 5  # the differences of all cells, and the queries of each
    tags = []

    class Collect(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append(tag)
            for name, value in attributes:
                assert name != "src", value
                assert name not in ("href", "xlink:href") or value.startswith("#"), value

    Collect().feed(page)
    assert not {"script", "link", "img", "iframe"} & set(tags)
    assert not re.search(r"@import|url\(http", page)


def test_markdown_says_what_a_reader_must_know(cells, tmp_path):
    write_report(tmp_path, cells, {"small": {}, "large": {}}, command="crossrank evaluate")
    text = (tmp_path / "report.md").read_text()
    print(text[:3000])
    assert "    crossrank evaluate" in text
    assert "| no reranking |" in text
    assert "First stage, not reranked: dense:m." in text
    assert "| first | dense:m" not in text
    assert "Optimistic: every relevant document that the first stage missed" in text
    assert "<b>second</b> \\| set" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) > 2


def test_the_baselines_are_always_there(cells):
    small = [cell for cell in cells if cell.model == "small"]
    table = main_table(small)
    print(table)
    assert table.columns[:5] == ("data set", "measure", "BM25", "no reranking", "reranked")
    assert table.rows[0] == (
        "first", "nDCG@10", "0.0000", "0.8155", "1.0000", "+0.1845", "[+0.000, +0.369]", "1.000", "1/0/1", "4.00",
        "2.0",
    )  # fmt: skip
    assert table.rows[-2][:6] == ("mean of 2", "nDCG@10", "0.0000", "0.8155", "1.0000", "+0.1845")
    assert len(report_tables(cells)) == 1 + 2 * 4


def test_numbers_stand_to_the_right():
    table = Table("t", ("a", "b", "c", "d"), (("x", "1", "[-0.1, +1]", "-"), ("2", "", "<0.001", "-")))
    assert [table.is_numeric(i) for i in range(4)] == [False, True, True, False]
