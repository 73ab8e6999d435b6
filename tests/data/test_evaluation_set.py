import pytest

from crossrank.data.evaluation_set import EvaluationSet
from crossrank.errors import InputError

QRELS = {f"q{i}": {"d1": 1} for i in range(20)}
WHOLE = EvaluationSet("tiny", dict.fromkeys(QRELS, "text"), {}, QRELS)


def test_a_sample_is_the_same_every_time_and_keeps_the_order():
    sample = WHOLE.sample(5)
    print(list(sample.qrels))
    assert len(sample.qrels) == 5
    assert list(sample.qrels) == [query_id for query_id in QRELS if query_id in sample.qrels]
    assert list(sample.qrels) == ["q0", "q2", "q3", "q9", "q12"]  # written down: it may never change
    assert set(sample.qrels) < set(WHOLE.sample(6).qrels)
    assert list(WHOLE.sample(5, seed=1).qrels) != list(sample.qrels)
    assert WHOLE.sample(100).qrels == QRELS


def test_a_sample_has_a_query():
    with pytest.raises(InputError, match="at least 1 query"):
        WHOLE.sample(0)
