import pytest

from crossrank.errors import UnsupportedModel
from crossrank.models.activation import resolve_activation

SIGMOID, IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


@pytest.mark.parametrize(
    ("config", "ensemble", "num_labels", "expected"),
    [
        ({}, {}, 1, "sigmoid"),
        ({}, {}, 2, "identity"),
        ({"sbert_ce_default_activation_function": IDENTITY}, {}, 1, "identity"),
        ({"sbert_ce_default_activation_function": None}, {}, 1, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}}, {}, 2, "sigmoid"),
        (
            {"sentence_transformers": {"activation_fn": IDENTITY}, "sbert_ce_default_activation_function": SIGMOID},
            {},
            1,
            "identity",
        ),
        ({"sentence_transformers": {"activation_fn": SIGMOID}}, {"activation_fn": IDENTITY}, 1, "identity"),
        ({"sentence_transformers": {"version": "4.0"}}, {"activation_fn": None}, 1, "sigmoid"),
    ],
)
def test_the_first_file_that_names_one_decides(config, ensemble, num_labels, expected):
    assert resolve_activation(config, ensemble, num_labels=num_labels, where="m") == expected


@pytest.mark.parametrize("name", ["torch.nn.modules.activation.Tanh", "my.module.Scale", {}, ["torch.nn.Sigmoid"], 1])
def test_an_unknown_activation_is_an_error_that_says_what_to_do(name):
    with pytest.raises(UnsupportedModel, match=r'm: the activation .* state "activation"'):
        resolve_activation({"sentence_transformers": {"activation_fn": name}}, {}, num_labels=1, where="m")
