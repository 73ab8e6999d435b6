import pytest

from crossrank.errors import InputError
from crossrank.mining.teacher_labels import check_cuts, grade_of


def test_grades_of_probabilities():
    assert [grade_of(p) for p in (0.0, 0.099, 0.1, 0.49, 0.5, 0.9, 1.0)] == [0, 0, 1, 1, 2, 3, 3]
    assert grade_of(0.3, (0.1, 0.2, 0.3)) == 3


@pytest.mark.parametrize("cuts", [(), (0.5,), (0.5, 0.4, 0.6), (0, 0.5, 0.9), (0.1, 0.5, 1), (0.1, 0.1, 0.9)])
def test_impossible_cuts(cuts):
    with pytest.raises(InputError, match="three rising"):
        check_cuts(cuts)
