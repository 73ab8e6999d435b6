"""Whether the loss of a recipe has a meaning for all of its data, found out before the first step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.dataset import TrainingGroups
from crossrank.errors import InputError
from crossrank.training.losses import LOSSES, check_targets


def check_loss_data(name: str, groups: TrainingGroups) -> None:
    """Check that a loss has a meaning for every group of a run, whatever a step will sample of it.

    Args:
        name: Of the loss, a key of `LOSSES`.
        groups: What is trained on.

    Raises:
        InputError: If it has none for one; names the file and the line, and a loss that has.
    """
    loss = LOSSES[name]
    if loss.targets == "teacher":
        for group in groups.without_scores():
            where = f"{group.path}:{group.line}: query {group.query_id!r}"
            if group.scores is None:
                check_targets(name, np.array(group.grades, np.float32), None, where=where)
            raise InputError(
                f"{where}: loss {name!r} needs a teacher score for every candidate, and a group that is filled up with "
                f"documents of other queries has none for these: it has {len(group.rows)} documents of its own, "
                f"{groups.num_passages} are wanted; lower negatives.num, or score more negatives"
            )
    for group in groups.with_grades(lambda grades: _is_odd(loss.labels, grades)):
        where = f"{group.path}:{group.line}: query {group.query_id!r}"
        check_targets(name, np.array(group.grades, np.float32), None, where=where)


def _is_odd(labels: str, grades: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return which grades are none of those that a loss knows."""
    if labels == "binary":
        return ~np.isin(grades, (0, 1))
    return grades > 1 if labels == "shares" else np.zeros(len(grades), np.bool_)
