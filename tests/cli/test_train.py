"""What `crossrank train` judges dev sets by."""

import pytest

from crossrank.cli.train import _measure
from crossrank.errors import InputError

QRELS = {"q": {"a": 1, "b": 0}, "r": {"a": 2, "b": 1}}
RUN = {"q": {"a": -1.0, "b": 0.0}, "r": {"a": 0.0, "b": -1.0}}


@pytest.mark.parametrize(("name", "value"), [("RR@10", 0.75), ("MRR@10", 0.75), ("nDCG@10", (0.63093 + 1) / 2)])
def test_a_measure_is_that_of_evaluations(name, value):
    assert _measure(name)(QRELS, RUN) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nDGC@10", "evaluation.measure: 'nDGC@10' is no measure; known are"),
        ("nDCG@0", "evaluation.measure: 'nDCG@0' is no measure"),
        ("nDCG@10,RR@10", "evaluation.measure 'nDCG@10,RR@10': give one measure"),
    ],
)
def test_what_is_none_is_said_before_the_first_step(name, message):
    with pytest.raises(InputError) as error:
        _measure(name)
    print(error.value)
    assert message in str(error.value)
