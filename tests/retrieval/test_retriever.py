import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossrank.errors import InputError
from crossrank.retrieval.retriever import DocumentIds, best_rows, full_text
from crossrank.types import Document


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=40), st.integers(1, 50))
def test_best_rows_are_the_start_of_a_stable_sort(scores, depth):
    expected = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:depth]
    assert best_rows(np.array(scores, np.float32), depth).tolist() == expected


def test_the_title_stands_before_the_text():
    assert full_text(Document("b c", title="a")) == "a b c"
    assert full_text(Document("b c")) == "b c"


def test_ids_are_there_and_differ():
    ids = DocumentIds()
    ids.add(Document("x", id="d1"))
    with pytest.raises(InputError, match="document 2 of the corpus has no id"):
        ids.add(Document("y"))
    with pytest.raises(InputError, match="document 2 of the corpus has the id 'd1' of document 1"):
        ids.add(Document("y", id="d1"))
    assert (len(ids), ids[0], "d1" in ids, "d2" in ids) == (1, "d1", True, False)
