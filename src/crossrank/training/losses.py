"""Losses: pure functions of scores `(G, N)` and of labels or teacher scores of the same shape.

Every function returns one value a group, float32 `(G,)`: the trainer averages them over the groups of the global
batch, so neither the size of a micro-batch nor the number of processes changes what is minimised. Groups may have
different sizes: `mask_GN` says which places hold a candidate, and what stands elsewhere, infinity and NaN included,
changes neither values nor gradients.

Labels: 0 is not relevant, above 0 relevant, and a higher grade more relevant. `losses.LOSSES` says which losses have a
meaning for several relevant candidates, for grades, or for teacher scores; `check_targets` refuses the other groups.

Shape letters: `G` groups, `N` candidates of a group, padding included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from crossrank.errors import InputError

# Far below any logit, and finite: a masked place takes no probability and no gradient, also where all places are
# masked.
_ABSENT = -1e30


def softmax_cross_entropy(scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the group softmax cross-entropy; each relevant candidate competes with the irrelevant ones alone.

    `mean over p of -log(exp(s_p / t) / (exp(s_p / t) + sum over irrelevant n of exp(s_n / t)))`. With one relevant
    candidate this is the localised contrastive estimation of rerankers, also called InfoNCE.

    Source: Gao, Dai and Callan, "Rethink training of BERT rerankers in multi-stage retrieval pipeline" (2021).
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    relevant_GN = (labels_GN > 0) & mask_GN
    logits_GN = scores_GN / temperature
    rivals_G1 = torch.logsumexp(_keep(logits_GN, ~relevant_GN & mask_GN), dim=1, keepdim=True)
    return _mean(F.softplus(rivals_G1 - logits_GN), relevant_GN)


def binary_cross_entropy(scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor, *, pos_weight: float = 1.0) -> Tensor:
    """Return the pointwise binary cross-entropy, averaged over the candidates.

    `-(w * y * log sigmoid(s) + (1 - y) * log(1 - sigmoid(s)))` with labels `y` between 0 and 1 and `w = pos_weight`,
    for which the number of irrelevant candidates for each relevant one is usual.

    Source: Nogueira and Cho, "Passage re-ranking with BERT" (2019).
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    weight = torch.tensor(pos_weight, dtype=scores_GN.dtype, device=scores_GN.device)
    labels_GN = labels_GN.to(scores_GN.dtype)
    losses_GN = F.binary_cross_entropy_with_logits(scores_GN, labels_GN, pos_weight=weight, reduction="none")
    return _mean(losses_GN, mask_GN)


def margin_ranking(scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor, *, margin: float = 1.0) -> Tensor:
    """Return the hinge loss over all pairs of which one candidate is the more relevant: `max(0, m - (s_i - s_j))`.

    Source: Joachims, "Optimizing search engines using clickthrough data" (2002).
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    return _mean_of_pairs(F.relu(margin - _differences(scores_GN)), _preferred(labels_GN, mask_GN))


def ranknet(scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor, *, sigma: float = 1.0) -> Tensor:
    """Return the logistic loss over all pairs of which one is the more relevant: `log(1 + exp(-sigma * (s_i - s_j)))`.

    Source: Burges et al., "Learning to rank using gradient descent" (2005).
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    return _mean_of_pairs(F.softplus(-sigma * _differences(scores_GN)), _preferred(labels_GN, mask_GN))


def lambda_loss(
    scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor, *, sigma: float = 1.0, mu: float = 10.0
) -> Tensor:
    """Return the NDCG-Loss2++ of the LambdaLoss framework: RankNet's pairs, weighted by what they are worth in nDCG.

    `sum over pairs with y_i > y_j of (rho_ij + mu * delta_ij) * |G_i - G_j| * log2(1 + exp(-sigma * (s_i - s_j)))`,
    where `G_i = (2^y_i - 1) / maxDCG`, `D(r) = log2(1 + r)`, `rho_ij = |1 / D(r_i) - 1 / D(r_j)|` is LambdaRank's
    weight, `delta_ij = |1 / D(|r_i - r_j|) - 1 / D(|r_i - r_j| + 1)|`, and `r_i` is the rank of a candidate under the
    scores, through which no gradient flows. Equal scores keep their order.

    Source: Wang et al., "The LambdaLoss framework for ranking metric optimization" (2018), equations 16 to 19.
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    gains_GN = (torch.exp2(labels_GN.to(scores_GN.dtype)) - 1) * mask_GN
    ranks_GN = _ranks(scores_GN.detach(), mask_GN).to(scores_GN.dtype)
    ideal_G1 = (gains_GN / _discount(_ranks(labels_GN, mask_GN).to(scores_GN.dtype))).sum(dim=1, keepdim=True)
    gains_GN = gains_GN / ideal_G1.clamp_min(torch.finfo(scores_GN.dtype).tiny)
    distances_GNN = _differences(ranks_GN).abs().clamp_min(1)  # the diagonal is no pair
    rho_GNN = _differences(1 / _discount(ranks_GN)).abs()
    delta_GNN = 1 / _discount(distances_GNN) - 1 / _discount(distances_GNN + 1)
    weights_GNN = (rho_GNN + mu * delta_GNN) * _differences(gains_GN).abs() * _preferred(labels_GN, mask_GN)
    return (weights_GNN * F.softplus(-sigma * _differences(scores_GN)) / math.log(2)).sum(dim=(1, 2))


def listnet(scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor) -> Tensor:
    """Return the cross-entropy between the softmax of the grades and the softmax of the scores (top-one ListNet).

    `-sum over i of softmax(y)_i * log softmax(s)_i`.

    Source: Cao et al., "Learning to rank: from pairwise approach to listwise approach" (2007).
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    target_GN = torch.softmax(_keep(labels_GN.to(scores_GN.dtype), mask_GN), dim=1)
    return -(target_GN * _log_softmax(scores_GN, mask_GN)).sum(dim=1)


def listmle(scores_GN: Tensor, labels_GN: Tensor, mask_GN: Tensor) -> Tensor:
    """Return the negative log-likelihood of the order of the grades under the Plackett-Luce model.

    `sum over i of log(sum over j with y_j <= y_i of exp(s_j)) - s_i`, over all candidates but those of the lowest
    grade, about whose order the labels say nothing. With different grades everywhere this is ListMLE; candidates of
    equal grade share one sum, which does not depend on the order in which they are listed.

    Source: Xia et al., "Listwise approach to learning to rank" (2008); the ties as in Breslow's partial likelihood
    (1974).
    """
    scores_GN, labels_GN = _present(mask_GN, scores_GN, labels_GN)
    lowest_G1 = labels_GN.masked_fill(~mask_GN, torch.inf).amin(dim=1, keepdim=True)
    not_above_GNN = (labels_GN[:, None, :] <= labels_GN[:, :, None]) & mask_GN[:, None, :]
    rest_GN = torch.logsumexp(scores_GN[:, None, :].masked_fill(~not_above_GNN, _ABSENT), dim=2)
    return ((rest_GN - scores_GN) * ((labels_GN > lowest_G1) & mask_GN)).sum(dim=1)


def margin_mse(scores_GN: Tensor, teacher_GN: Tensor, mask_GN: Tensor, labels_GN: Tensor) -> Tensor:
    """Return the squared difference of the student's and the teacher's margins, averaged over pairs.

    `((s_p - s_n) - (t_p - t_n))^2` over all pairs of a relevant and an irrelevant candidate.

    Source: Hofstätter et al., "Improving efficient neural ranking models with cross-architecture knowledge
    distillation" (2020).
    """
    scores_GN, teacher_GN = _present(mask_GN, scores_GN, teacher_GN)
    relevant_GN = labels_GN > 0
    pairs_GNN = (relevant_GN & mask_GN)[:, :, None] & (~relevant_GN & mask_GN)[:, None, :]
    return _mean_of_pairs((_differences(scores_GN) - _differences(teacher_GN)) ** 2, pairs_GNN)


def mse(scores_GN: Tensor, teacher_GN: Tensor, mask_GN: Tensor) -> Tensor:
    """Return the squared difference `(s - t)^2` between the scores and the teacher's, averaged over the candidates.

    Source: Ba and Caruana, "Do deep nets really need to be deep?" (2014).
    """
    scores_GN, teacher_GN = _present(mask_GN, scores_GN, teacher_GN)
    return _mean((scores_GN - teacher_GN) ** 2, mask_GN)


def kl_divergence(scores_GN: Tensor, teacher_GN: Tensor, mask_GN: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence of the student's softmax over the group from the teacher's.

    `t^2 * sum over i of q_i * (log q_i - log p_i)` with `q = softmax(teacher / t)` and `p = softmax(s / t)`; the factor
    keeps the size of the gradient independent of the temperature.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015).
    """
    scores_GN, teacher_GN = _present(mask_GN, scores_GN, teacher_GN)
    log_teacher_GN = _log_softmax(teacher_GN / temperature, mask_GN)
    log_student_GN = _log_softmax(scores_GN / temperature, mask_GN)
    return temperature**2 * (log_teacher_GN.exp() * (log_teacher_GN - log_student_GN)).sum(dim=1)


@dataclass(frozen=True)
class Loss:
    """A loss, and the groups that it has a meaning for.

    Attributes:
        function: Takes scores, targets and mask `(G, N)`; MarginMSE also the labels.
        targets: Whether its targets are labels or teacher scores.
        labels: What labels it reads: `"binary"` 0 or 1; `"shares"` anything from 0 to 1; `"grades"` any from 0 up.
        contrast: Whether a group needs candidates of different labels, because it would otherwise teach nothing.
    """

    function: Callable[..., Tensor]
    targets: Literal["labels", "teacher"] = "labels"
    labels: Literal["binary", "shares", "grades"] = "grades"
    contrast: bool = True


LOSSES: dict[str, Loss] = {
    "softmax_cross_entropy": Loss(softmax_cross_entropy, labels="binary"),
    "binary_cross_entropy": Loss(binary_cross_entropy, labels="shares", contrast=False),
    "margin_ranking": Loss(margin_ranking),
    "ranknet": Loss(ranknet),
    "lambda_loss": Loss(lambda_loss),
    "listnet": Loss(listnet),
    "listmle": Loss(listmle),
    "margin_mse": Loss(margin_mse, targets="teacher"),
    "mse": Loss(mse, targets="teacher", contrast=False),
    "kl_divergence": Loss(kl_divergence, targets="teacher", contrast=False),
}


def check_targets(
    name: str, labels_N: npt.NDArray[np.float32], teacher_N: npt.NDArray[np.float32] | None, *, where: str
) -> None:
    """Check that a loss has a meaning for one group.

    Args:
        name: Of the loss, a key of `LOSSES`.
        labels_N: The labels of the group, float32 `(N,)`.
        teacher_N: Its teacher scores, float32 `(N,)`, or None where it has none.
        where: The group, for the error.

    Raises:
        InputError: If it has none; says which loss has.
    """
    loss = LOSSES[name]
    if loss.targets == "teacher" and (teacher_N is None or not np.isfinite(teacher_N).all()):
        raise InputError(f"{where}: loss {name!r} needs a teacher score for every candidate, and one is missing")
    if (labels_N < 0).any() or not np.isfinite(labels_N).all():
        raise InputError(f"{where}: a label is negative or not a number; 0 is not relevant, above 0 relevant")
    if loss.labels == "binary" and not np.isin(labels_N, (0, 1)).all():
        raise InputError(
            f"{where}: loss {name!r} knows relevant (1) and not relevant (0), but a label is {_odd(labels_N):g}; give "
            "the source positive_from, which makes grades 1 and 0, or use lambda_loss, ranknet, listnet or listmle"
        )
    if loss.labels == "shares" and (labels_N > 1).any():
        raise InputError(
            f"{where}: loss {name!r} needs labels from 0 to 1, but one is {labels_N.max():g}; divide the grades by the "
            "highest, give the source positive_from, or use lambda_loss, ranknet, listnet or listmle"
        )
    if loss.contrast and labels_N.min() == labels_N.max():
        kind = "relevant" if labels_N.min() > 0 else "not relevant"
        raise InputError(
            f"{where}: every candidate is {kind}, so loss {name!r} has nothing to compare: add candidates of another "
            "label, or use binary_cross_entropy"
        )


def _odd(labels_N: npt.NDArray[np.float32]) -> float:
    return float(labels_N[~np.isin(labels_N, (0, 1))][0])


def _present(mask_GN: Tensor, *values_GN: Tensor) -> tuple[Tensor, ...]:
    """Return values with 0 where nothing stands: infinity or NaN there would come back through a gradient of 0."""
    return tuple(values.masked_fill(~mask_GN, 0) for values in values_GN)


def _keep(values_GN: Tensor, kept_GN: Tensor) -> Tensor:
    return values_GN.masked_fill(~kept_GN, _ABSENT)


def _log_softmax(values_GN: Tensor, mask_GN: Tensor) -> Tensor:
    """Return log-probabilities; 0 where nothing stands, so that their products with 0 stay 0."""
    return F.log_softmax(_keep(values_GN, mask_GN), dim=1).masked_fill(~mask_GN, 0)


def _mean(values_GN: Tensor, kept_GN: Tensor) -> Tensor:
    """Return the mean of the kept places of each group, 0 where there are none."""
    return values_GN.masked_fill(~kept_GN, 0).sum(dim=1) / kept_GN.sum(dim=1).clamp_min(1)


def _mean_of_pairs(values_GNN: Tensor, kept_GNN: Tensor) -> Tensor:
    return _mean(values_GNN.flatten(1), kept_GNN.flatten(1))


def _differences(values_GN: Tensor) -> Tensor:
    """Return `v_i - v_j` at `[:, i, j]`."""
    return values_GN[:, :, None] - values_GN[:, None, :]


def _preferred(labels_GN: Tensor, mask_GN: Tensor) -> Tensor:
    """Return where candidate `i` is more relevant than candidate `j`, bool `(G, N, N)`."""
    both_GNN = mask_GN[:, :, None] & mask_GN[:, None, :]
    return (labels_GN[:, :, None] > labels_GN[:, None, :]) & both_GNN


def _ranks(values_GN: Tensor, mask_GN: Tensor) -> Tensor:
    """Return ranks from 1, the highest value first, equal values in their order, absent places last."""
    kept_GN = values_GN.to(torch.float64).masked_fill(~mask_GN, -torch.inf)
    return kept_GN.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1


def _discount(ranks: Tensor) -> Tensor:
    return torch.log2(1 + ranks)
