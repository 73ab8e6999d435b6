from dataclasses import replace

import pytest

from crossrank.data.published import PublishedSet
from crossrank.data.trec import Candidate
from crossrank.evaluation.comparison import Scored, compare
from crossrank.evaluation.measures import parse_measures
from crossrank.evaluation.ordering import best_first
from crossrank.evaluation.suite_tables import ColumnMean, View, column_means, modality_table, suite_table
from crossrank.evaluation.suites import Part, Reference, Suite


def part(title, group):
    return Part(PublishedSet("mteb", "x", name=title), group)


# One group of two sets, as CQADupStack, and one of one set.
SUITE = Suite(
    "tiny",
    (part("a", "forums"), part("b", "forums"), part("c", "c")),
    "RR@10",
    100,
    {"all": ("forums", "c"), "c alone": ("c",)},
    (Reference("published", {"all": 0.75}, "a card"),),
    "How they differ.",
)
PAGES = replace(SUITE, columns={}, references=(Reference("published", {"image": 0.5}, "a card"),))


def test_a_group_of_sets_counts_as_one():
    values = {View("a", "text"): 0.2, View("b", "text"): 0.4, View("c", "text"): 0.9}
    means = column_means(SUITE, values)
    assert means["all"] == pytest.approx(ColumnMean((0.3 + 0.9) / 2, 2, 2))
    assert means["c alone"] == ColumnMean(0.9, 1, 1)


def test_a_group_without_one_of_its_sets_is_left_out_and_that_is_said():
    means = column_means(SUITE, {View("a", "text"): 0.2, View("c", "text"): 0.9})
    assert means["all"] == ColumnMean(0.9, 1, 2)
    assert column_means(SUITE, {View("a", "text"): 0.2}) == {}


def test_page_suites_have_a_column_for_what_is_looked_at():
    values = {View(title, "image"): 0.5 for title in "abc"} | {View("c", "text"): 0.1}
    assert column_means(PAGES, values) == {"text": ColumnMean(0.1, 1, 2), "image": ColumnMean(0.5, 2, 2)}


@pytest.fixture
def cells(make_set):
    def cell(name, rank):
        data = make_set({"q": {"d0": 1}}, name=name)
        order = [f"d{i}" for i in range(1, rank)] + ["d0"]
        run = {"q": best_first(Candidate(document, -i) for i, document in enumerate(order))}
        scored = Scored("model", "bm25", 10, {"first_stage": run, "reranked": run}, 6, 1.0)
        return compare(data, scored, parse_measures("RR@10"))

    return [cell("a", 1), cell("b", 2), cell("c", 4)]


def test_our_rows_stand_before_the_published_ones(cells):
    table = suite_table(SUITE, cells, {name: View(name, "text") for name in "abc"})
    print(table)
    assert table.title == "tiny: RR@10 beside published figures"
    assert table.columns == ("system", "all", "c alone", "source")
    assert table.rows[-2:] == (("model", "0.5000", "0.2500", "here"), ("published", "0.7500", "-", "a card"))
    assert table.note == "How they differ."


def test_partial_columns_and_samples_are_said(cells):
    sampled = [replace(cell, num_queries_of_set=9) for cell in cells[1:]]
    table = suite_table(SUITE, sampled, {name: View(name, "text") for name in "abc"})
    assert table.rows[-2] == ("model", "0.2500 (1 of 2)", "0.2500", "here")
    assert table.note.startswith("Our rows are on samples of the queries.")


def test_sets_that_were_looked_at_in_several_ways_have_a_column_each(cells):
    views = {"a": View("pages", "text"), "b": View("pages", "image+text"), "c": View("plain", "text")}
    table = modality_table(cells, views)
    assert table.columns == ("data set", "system", "text", "image", "image+text")
    assert table.rows[-1] == ("pages", "model", "1.0000", "-", "0.5000")
    assert {row[0] for row in table.rows} == {"pages"}
    assert modality_table(cells, {name: View(name, "text") for name in "abc"}) is None


def test_three_columns_of_pages(cells):
    views = {"a": View("c", "text"), "b": View("c", "image"), "c": View("c", "image+text")}
    table = suite_table(PAGES, cells, views)
    assert table.columns == ("system", "text", "image", "image+text", "source")
    assert table.rows[-2][1:4] == ("1.0000 (1 of 2)", "0.5000 (1 of 2)", "0.2500 (1 of 2)")
