import pytest

from crossrank.data.published import LAYOUTS
from crossrank.errors import InputError
from crossrank.evaluation.measures import parse_measures
from crossrank.evaluation.suites import MODALITIES, SUITES, find_suite


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suite_is_consistent(suite):
    (measure,) = parse_measures(suite.measure)
    assert measure.name == suite.measure
    titles = [part.data.title for part in suite.parts]
    assert len(set(titles)) == len(titles)
    groups = {part.group for part in suite.parts}
    assert {group for column in suite.columns.values() for group in column} <= groups
    assert {part.data.layout for part in suite.parts} <= set(LAYOUTS)
    heads = set(suite.columns) or set(MODALITIES)
    for row in suite.references:
        assert row.values
        assert set(row.values) <= heads
        assert all(0 < value < 1 for value in row.values.values())
        assert row.source


def test_the_sets_of_the_field():
    assert set(SUITES) == {"nvidia-text", "nvidia-visual", "beir", "nanobeir", "vidore-v3"}
    text = find_suite("nvidia-text")
    families = [part.data.family for part in text.parts]
    assert families.count("MIRACL") == 18
    assert families.count("MLQA") == 42
    assert families.count("MLDR") == 13
    assert [part.data.title for part in text.parts][:4] == ["NQ", "HotpotQA", "FiQA", "TechQA"]
    assert len({part.group for part in find_suite("beir").parts}) == 15
    assert len(find_suite("beir").parts) == 14 + 12
    assert len(find_suite("nanobeir").parts) == 13
    assert len(find_suite("vidore-v3").parts) == 8 * 6
    assert len(find_suite("nvidia-visual").parts) == 10 + 4 + 8
    assert find_suite("nvidia-text").measure == find_suite("nvidia-visual").measure == "R@5"
    assert {find_suite(name).measure for name in ("beir", "nanobeir", "vidore-v3")} == {"nDCG@10"}


def test_published_rows_as_they_are_on_the_cards():
    rows = {row.system: row.values for row in find_suite("nvidia-text").references}
    assert rows["embed-1b-v2 + rerank-1b-v2"] == {
        "BEIR + TechQA": 0.7364, "MIRACL": 0.6580, "MLQA": 0.8683, "MLDR": 0.7069,
    }  # fmt: skip
    assert rows["e5-v5 + rerankqa-mistral-4b-v3"] == {"BEIR + TechQA": 0.7545}
    visual = {row.system: row.values for row in find_suite("nvidia-visual").references}
    assert visual["embed-vl-1b-v2 + rerank-vl-1b-v2"] == {"text": 0.7612, "image": 0.7612, "image+text": 0.7764}
    assert visual["jina-reranker-m0"] == {"text": 0.6931, "image": 0.7833}


def test_queries_that_are_documents_are_known():
    marked = {part.data.title for suite in SUITES.values() for part in suite.parts if part.data.queries_are_documents}
    assert marked == {"ArguAna", "Quora", "NanoArguAna", "NanoQuoraRetrieval"}


def test_an_unknown_suite_names_the_known_ones():
    with pytest.raises(InputError, match="no suite 'mteb': choose one of nvidia-text, nvidia-visual, beir"):
        find_suite("mteb")
