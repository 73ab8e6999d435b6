"""From logits to the scores that a caller asks for: the label that counts, calibration, activation.

Shape letters: `P` pairs, `L` labels.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import numpy.typing as npt

from crossrank.models.checkpoint import Checkpoint
from crossrank.types import Scores

logger = logging.getLogger(__name__)

ScoreType = Literal["logit", "probability"]


class ScoreScale:
    """The scales that the scores of a checkpoint can be on."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._is_told = False

    def named(self, score_type: ScoreType) -> ScoreType:
        """Return the scale that the scores will be on; logs once where the checkpoint knows no probability."""
        checkpoint = self._checkpoint
        if checkpoint.settings.calibration or checkpoint.num_labels > 1 or checkpoint.activation == "sigmoid":
            return score_type
        if score_type == "probability" and not self._is_told:
            self._is_told = True
            logger.warning(
                "%s states the identity as its activation and has no calibration, so its scores stay logits: "
                "`crossrank calibrate` fits one",
                checkpoint.name,
            )
        return "logit"

    @property
    def is_monotone(self) -> bool:
        """Whether a probability grows with its logit: a softmax over several labels need not."""
        return self._checkpoint.settings.calibration is not None or self._checkpoint.num_labels == 1

    def scores(self, logits: npt.NDArray[np.float32]) -> Scores:
        """Return the logit that is the score, float32 `(P,)`, of logits `(P, L)`."""
        return np.ascontiguousarray(logits[:, self._checkpoint.label], np.float32)

    def convert(self, logits: npt.NDArray[np.float32], score_type: ScoreType) -> tuple[Scores, ScoreType]:
        """Return the scores of logits `(P, L)`, `(P,)`, on the scale asked for if there is one, and its name."""
        scale = self.named(score_type)
        return (self.scores if scale == "logit" else self._probabilities)(logits), scale

    def _probabilities(self, logits: npt.NDArray[np.float32]) -> Scores:
        calibration = self._checkpoint.settings.calibration
        if calibration:
            return sigmoid(np.float32(calibration.slope) * self.scores(logits) + np.float32(calibration.intercept))
        if logits.shape[1] == 1:
            return sigmoid(self.scores(logits))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return self.scores(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: Scores) -> Scores:
    """Return `1 / (1 + exp(-x))` in float32, without overflow at either end."""
    powers = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + powers), powers / (1 + powers)).astype(np.float32)
