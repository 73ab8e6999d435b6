"""Every loss against numbers worked by hand, against another library, and against finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.errors import InputError
from crossrank.training import losses
from crossrank.training.losses import LOSSES, check_targets

# Two groups; the second has a place that holds nothing, with values there that would spoil every sum.
SCORES = [[2.0, 1.0, -1.0], [0.5, 3.0, 99.0]]
LABELS = [[1.0, 0.0, 0.0], [0.0, 1.0, 7.0]]
GRADES = [[2.0, 0.0, 1.0], [0.0, 3.0, 7.0]]
TEACHER = [[4.0, 1.0, 0.0], [1.0, 2.0, math.nan]]
MASK = [[True, True, True], [True, True, False]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def call(name: str, scores: Any, labels: Any, teacher: Any, mask: Any, **options: float) -> torch.Tensor:
    function = LOSSES[name].function
    if name == "margin_mse":
        return function(scores, teacher, mask, labels, **options)
    return function(scores, teacher if LOSSES[name].targets == "teacher" else labels, mask, **options)


def values(name: str, labels: Any = LABELS, **options: float) -> list[float]:
    tensors = [torch.tensor(x, dtype=torch.float64) for x in (SCORES, labels, TEACHER)]
    return call(name, *tensors, torch.tensor(MASK), **options).tolist()


def test_softmax_cross_entropy() -> None:
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + math.exp(-1)))
    second = -math.log(math.exp(3) / (math.exp(3) + math.exp(0.5)))
    assert values("softmax_cross_entropy") == pytest.approx([first, second])
    warm = -math.log(math.exp(1) / (math.exp(1) + math.exp(0.5) + math.exp(-0.5)))
    assert values("softmax_cross_entropy", temperature=2.0)[0] == pytest.approx(warm)


def test_relevant_candidates_do_not_compete_with_each_other() -> None:
    # Relevant: 2 and 1; the only rival is -1.
    expected = [math.log(1 + math.exp(-1 - s)) for s in (2, 1)]
    two = [[1.0, 1.0, 0.0], LABELS[1]]
    assert values("softmax_cross_entropy", two)[0] == pytest.approx(sum(expected) / 2)


def test_binary_cross_entropy() -> None:
    terms = [-math.log(sigmoid(2)), -math.log(1 - sigmoid(1)), -math.log(1 - sigmoid(-1))]
    assert values("binary_cross_entropy")[0] == pytest.approx(sum(terms) / 3)
    assert values("binary_cross_entropy", pos_weight=5.0)[0] == pytest.approx((5 * terms[0] + sum(terms[1:])) / 3)


def test_margin_ranking() -> None:
    assert values("margin_ranking") == pytest.approx([0.0, 0.0])  # margins of 1, 3 and 2.5 are wide enough
    assert values("margin_ranking", margin=2.0) == pytest.approx([(1.0 + 0.0) / 2, 0.0])
    # Grades: 2 > 0 (margin 1), 2 > 1 (margin 3), 1 > 0 (margin -2).
    assert values("margin_ranking", GRADES, margin=1.5)[0] == pytest.approx((0.5 + 0.0 + 3.5) / 3)


def test_ranknet() -> None:
    pair = lambda difference: math.log(1 + math.exp(-difference))  # noqa: E731
    assert values("ranknet") == pytest.approx([(pair(1) + pair(3)) / 2, pair(2.5)])
    assert values("ranknet", GRADES)[0] == pytest.approx((pair(1) + pair(3) + pair(-2)) / 3)


def test_lambda_loss_of_one_relevant_candidate() -> None:
    # Group 2: ranks 2 and 1, gain 1 / maxDCG of 1. rho = 1 - 1 / log2(3), delta at distance 1 is the same number.
    weight = (1 - 1 / math.log2(3)) * (1 + 10)
    assert values("lambda_loss")[1] == pytest.approx(weight * math.log2(1 + math.exp(-2.5)))
    plain = values("lambda_loss", mu=0.0)[1]
    assert plain == pytest.approx((1 - 1 / math.log2(3)) * math.log2(1 + math.exp(-2.5)))  # LambdaRank


def test_listnet() -> None:
    target = [math.exp(x) / sum(map(math.exp, GRADES[0])) for x in GRADES[0]]
    log_total = math.log(sum(map(math.exp, SCORES[0])))
    expected = -sum(t * (s - log_total) for t, s in zip(target, SCORES[0], strict=True))
    assert values("listnet", GRADES)[0] == pytest.approx(expected)


def test_listmle() -> None:
    # The order of the grades is 2.0, -1.0, 1.0: two choices, the last candidate is left over.
    first = math.log(math.exp(2) + math.exp(-1) + math.exp(1)) - 2
    second = math.log(math.exp(-1) + math.exp(1)) + 1
    assert values("listmle", GRADES)[0] == pytest.approx(first + second)
    # One relevant candidate: the softmax cross-entropy.
    assert values("listmle") == pytest.approx(values("softmax_cross_entropy"))


def test_teacher_losses() -> None:
    assert values("margin_mse") == pytest.approx([((1 - 3) ** 2 + (3 - 4) ** 2) / 2, (2.5 - 1) ** 2])
    assert values("mse") == pytest.approx([(4 + 0 + 1) / 3, (0.25 + 1) / 2])
    p, q = sigmoid(2.5), sigmoid(1.0)
    divergence = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    assert values("kl_divergence")[1] == pytest.approx(divergence)
    p, q = sigmoid(1.25), sigmoid(0.5)
    cool = 4 * (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)))
    assert values("kl_divergence", temperature=2.0)[1] == pytest.approx(cool)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_against_finite_differences(name: str) -> None:
    torch.manual_seed(3)
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 4 + [False], [True, True, False, False, False]])
    teacher = torch.randn(3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: call(name, s, labels, teacher, mask), (scores,))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_padding_changes_neither_loss_nor_gradient(name: str, data: st.DataObject) -> None:
    number = st.floats(-5, 5, width=32)
    size = data.draw(st.integers(2, 6))
    rows = [data.draw(st.lists(number, min_size=size, max_size=size)) for _ in range(2)]
    labels = [1.0] + [0.0] * (size - 1)
    junk = data.draw(st.sampled_from([1e4, -1e4, 0.0, math.nan]))

    def run(padding: int) -> tuple[float, list[float]]:
        tail = [[1e4] * padding, [3.0] * padding, [junk] * padding]
        tensors = [torch.tensor([x + t]) for x, t in zip((rows[0], labels, rows[1]), tail, strict=True)]
        mask = torch.tensor([[True] * size + [False] * padding])
        scores = tensors[0].requires_grad_()
        loss = call(name, scores, *tensors[1:], mask)
        loss.sum().backward()
        assert scores.grad is not None and not scores.grad[0, size:].any()
        return float(loss.detach()), scores.grad[0, :size].tolist()

    (loss, gradient), (padded_loss, padded_gradient) = run(0), run(3)
    assert padded_loss == pytest.approx(loss, rel=1e-4, abs=1e-5)
    assert padded_gradient == pytest.approx(gradient, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("junk", [-math.inf, math.inf, math.nan])
@pytest.mark.parametrize("name", LOSSES)
def test_what_stands_in_absent_places_may_be_anything(name: str, junk: float) -> None:
    """Scores that are padded with minus infinity are common: neither value nor gradient may become NaN."""
    labels, teacher = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[2.0, 1.0, -1.0]])
    plain = torch.tensor([[0.5, 1.0, -1.0]], requires_grad=True)
    padded = torch.tensor([[0.5, 1.0, -1.0, junk]], requires_grad=True)
    tail = torch.tensor([[junk]])
    whole = call(name, plain, labels, teacher, torch.tensor([[True] * 3]))
    loss = call(
        name, padded, torch.cat([labels, tail], 1), torch.cat([teacher, tail], 1), torch.tensor([[True] * 3 + [False]])
    )
    (whole.sum() + loss.sum()).backward()
    print(loss, padded.grad)
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(padded.grad[:, :3], plain.grad)
    assert padded.grad[0, 3] == 0


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "lambda_loss"])
def test_equal_scores_favour_no_position(name: str) -> None:
    # Not so the LambdaLoss: its weights need ranks, and equal scores keep their order.
    mask = torch.ones(1, 3, dtype=torch.bool)
    first, last = (torch.tensor([row]) for row in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]))
    values = [call(name, torch.zeros(1, 3), target, target, mask).item() for target in (first, last)]
    assert values[0] == pytest.approx(values[1])


class _Scores:
    """Stands in for a cross-encoder of sentence-transformers: 'texts' are the scores themselves."""

    num_labels, device = 1, torch.device("cpu")

    def preprocess(self, pairs: list[Any], **_: Any) -> dict[str, torch.Tensor]:
        return {"scores": torch.tensor([document for _, document in pairs])}

    def __call__(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return tokens


def test_lambda_loss_and_listnet_of_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers.cross_encoder import losses as reference

    monkeypatch.setattr("sentence_transformers.cross_encoder.losses.lambda_loss.batch_to_device", lambda x, _: x)
    monkeypatch.setattr("sentence_transformers.cross_encoder.losses.list_net.batch_to_device", lambda x, _: x)
    scores, grades = [[0.3, -1.2, 2.0, 0.9]], [[2.0, 0.0, 1.0, 0.0]]
    pairs, labels = [["q"], scores], [torch.tensor(grades[0])]
    arguments = (torch.tensor(scores), torch.tensor(grades), torch.ones(1, 4, dtype=torch.bool))

    theirs = reference.LambdaLoss.__new__(reference.LambdaLoss)
    torch.nn.Module.__init__(theirs)
    theirs.model, theirs.weighting_scheme, theirs.k, theirs.sigma = _Scores(), reference.NDCGLoss2PPScheme(), None, 1.0
    theirs.eps, theirs.reduction_log, theirs.mini_batch_size = 1e-10, "binary", None
    theirs.activation_fn = torch.nn.Identity()
    # They average over pairs, we sum them, as the paper does: the ratio is the number of pairs.
    ours, other = losses.lambda_loss(*arguments), theirs(pairs, labels)
    print("lambda loss: ours", ours.item(), "theirs", other.item())
    assert ours.item() / other.item() == pytest.approx(5, rel=1e-4)

    theirs = reference.ListNetLoss.__new__(reference.ListNetLoss)
    torch.nn.Module.__init__(theirs)
    theirs.model, theirs.mini_batch_size, theirs.activation_fn = _Scores(), None, torch.nn.Identity()
    theirs.cross_entropy_loss = torch.nn.CrossEntropyLoss()
    assert losses.listnet(*arguments).item() == pytest.approx(theirs(pairs, labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "labels", "teacher", "words"),
    [
        ("softmax_cross_entropy", [2, 0], None, "a label is 2; give the source positive_from"),
        ("softmax_cross_entropy", [1, 1], None, "every candidate is relevant"),
        ("lambda_loss", [0, 0], None, "every candidate is not relevant"),
        ("binary_cross_entropy", [3, 0], None, "labels from 0 to 1, but one is 3"),
        ("margin_mse", [1, 0], None, "needs a teacher score"),
        ("mse", [1, 0], [0.5, math.nan], "needs a teacher score"),
        ("ranknet", [-1, 0], None, "negative"),
    ],
)
def test_a_group_without_a_meaning_is_an_error(name: str, labels: Any, teacher: Any, words: str) -> None:
    arrays = [None if x is None else np.array(x, np.float32) for x in (labels, teacher)]
    with pytest.raises(InputError, match=words) as error:
        check_targets(name, *arrays, where="train.jsonl:3 (query q7)")
    print(error.value)
    assert "train.jsonl:3 (query q7)" in str(error.value)


def test_groups_with_a_meaning_pass() -> None:
    check_targets("softmax_cross_entropy", np.array([1, 1, 0], np.float32), None, where="q")
    check_targets("lambda_loss", np.array([3, 1, 0], np.float32), None, where="q")
    check_targets("binary_cross_entropy", np.array([1, 1], np.float32), None, where="q")
    check_targets("kl_divergence", np.array([0, 0], np.float32), np.array([1, 2], np.float32), where="q")
