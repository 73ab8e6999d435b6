"""The loss of a recipe, on the scores of a micro-batch.

Shape letters: `G` groups of a micro-batch, `N` candidates of a group, `P` pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crossrank.training.losses import LOSSES


@dataclass(frozen=True)
class GroupLoss:
    """A loss of `losses.LOSSES` with its options.

    Attributes:
        name: A key of `LOSSES`.
        options: Keyword arguments of its function.
    """

    name: str
    options: dict[str, float]

    def __call__(self, scores_P: Tensor, batch: dict[str, Any]) -> Tensor:
        """Return the mean over the groups of a micro-batch; all micro-batches of a run have the same number of them.

        Args:
            scores_P: Of all candidates, group by group.
            batch: With `mask`, bool, and `labels` and `teacher`, float32, each `(G, N)` and 0 where no candidate is.
        """
        mask_GN = batch["mask"]
        scores_GN = torch.zeros(mask_GN.shape, dtype=scores_P.dtype, device=scores_P.device)
        scores_GN = scores_GN.masked_scatter(mask_GN, scores_P)
        loss = LOSSES[self.name]
        targets = [batch["teacher"], mask_GN] if loss.targets == "teacher" else [batch["labels"], mask_GN]
        if self.name == "margin_mse":
            targets.append(batch["labels"])
        return loss.function(scores_GN, *targets, **self.options).mean()
