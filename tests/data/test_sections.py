import pytest
from pydantic import ValidationError

from crossrank.data.sections import Section, section_problems, unknown_key


class Inner(Section):
    learning_rate: float = 1.0


class Outer(Section):
    inner: Inner = Inner()
    name: str


def test_every_problem_is_named_with_its_place():
    with pytest.raises(ValidationError) as error:
        Outer.model_validate({"name": 5, "inner": {"learning_rat": 1}})
    assert section_problems(error.value) == (
        "inner: unknown key 'learning_rat'; did you mean 'learning_rate'?; name: Input should be a valid string"
    )


def test_without_a_near_key_all_are_named():
    assert unknown_key("zzz", ["num", "seed"]) == "unknown key 'zzz'; known are 'num', 'seed'"
