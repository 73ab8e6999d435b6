import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.data.trec import Candidate
from crossrank.errors import InputError
from crossrank.evaluation.comparison import Scored, compare
from crossrank.evaluation.languages import language_tables, mean_by_language, summarise
from crossrank.evaluation.measures import parse_measures
from crossrank.evaluation.ordering import best_first


def test_macro_mean_and_worst_by_hand():
    found = summarise({"de": 0.75, "th": 0.25, "en": 0.5})
    assert (found.macro_mean, found.worst, found.worst_value) == (0.5, "th", 0.25)


def test_languages_count_the_same_however_many_sets_they_have():
    by_language = mean_by_language([("de", 1.0), ("en", 0.0), ("de", 0.5)])
    assert by_language == {"de": 0.75, "en": 0.0}
    assert summarise(by_language).macro_mean == 0.375


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.floats(0, 1), min_size=1))
def test_the_worst_is_below_the_mean_and_is_there(values):
    found = summarise(values)
    assert values[found.worst] == found.worst_value == min(values.values())
    assert found.worst_value <= found.macro_mean + 1e-12


def test_there_is_no_mean_of_nothing():
    with pytest.raises(InputError, match="no figures by language"):
        summarise({})


@pytest.fixture
def cell(make_set):
    """A cell in which the model puts the relevant document of each query at a rank."""

    def make(name, language, rank, *, model="m"):
        data = make_set({"q": {"d0": 1}}, name=name, language=language)
        others = [f"d{i}" for i in range(1, 6)]
        order = [*others[: rank - 1], "d0", *others[rank - 1 :]]
        run = {"q": best_first(Candidate(document, -i) for i, document in enumerate(order))}
        first = {"q": best_first(Candidate(document, -i) for i, document in enumerate([*others, "d0"]))}
        return compare(data, Scored(model, "bm25", 10, {"first_stage": first, "reranked": run}, 6, 1.0), MEASURES)

    return make


MEASURES = parse_measures("RR@10")


def test_a_table_a_family_with_its_mean_and_its_worst_language(cell):
    cells = [cell("MLQA-de-en", "de-en", 1), cell("MLQA-hi-en", "hi-en", 4), cell("plain", None, 1)]
    cells += [cell("MLQA-de-en", "de-en", 2, model="n"), cell("MLQA-hi-en", "hi-en", 1, model="n")]
    families = {"MLQA-de-en": "MLQA", "MLQA-hi-en": "MLQA"}
    (table,) = language_tables(cells, families)
    print(*table.rows, sep="\n")
    assert table.title == "MLQA: RR@10 by language"
    assert table.columns[0] == "language"
    assert table.columns[-2:] == ("m", "n")
    assert [row[0] for row in table.rows] == ["de-en", "hi-en", "macro mean of 2", "worst"]
    assert [row[-2] for row in table.rows] == ["1.0000", "0.2500", "0.6250", "0.2500 (hi-en)"]
    assert [row[-1] for row in table.rows] == ["0.5000", "1.0000", "0.7500", "0.5000 (de-en)"]
    assert "first" in table.note


def test_one_language_makes_no_table(cell):
    assert language_tables([cell("MLQA-de-en", "de-en", 1)], {"MLQA-de-en": "MLQA"}) == []
