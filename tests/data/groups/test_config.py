import pytest

from crossrank.data.groups.config import SourceConfig, parse_data_config
from crossrank.errors import InputError


def test_a_complete_section():
    values = {
        "train": ["a.jsonl", {"path": "hf://nvidia/x/FEVER", "num_samples": 20000, "weight": 2}],
        "dev": [{"path": "tech-qa", "split": "dev"}],
        "negatives": {"num": 7, "sampling": "rotate", "when_too_few": "error"},
    }
    config = parse_data_config(values)
    assert config.train[0] == SourceConfig(path="a.jsonl")
    assert (config.train[1].num_samples, config.train[1].weight) == (20000, 2.0)
    assert config.num_passages == 8 and config.seed == 42
    assert parse_data_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negative": {}}, "data: unknown key 'negative'; did you mean 'negatives'?"),
        ({"negatives": {"nums": 3}}, "data: negatives: unknown key 'nums'; did you mean 'num'?"),
        ({"negatives": {"qqq": 3}}, "negatives: unknown key 'qqq'; known are 'num', 'sampling', 'when_too_few'"),
        ({"train": [{"path": "a", "num_sample": 3}]}, "train.0: unknown key 'num_sample'; did you mean 'num_samples'?"),
        (
            {"negatives": {"sampling": "hard"}},
            "negatives.sampling: Input should be 'top', 'random', 'mixed' or 'rotate'",
        ),
        ({"train": []}, "train: Tuple should have at least 1 item"),
        ({"train": [{"path": "a", "num_samples": True}]}, "train.0.num_samples: Input should be a valid integer"),
        ({"train": [{"path": "a", "weight": 0}]}, "train.0.weight: Input should be greater than 0"),
        ({"negatives": {"num": 0}}, "negatives.num: Input should be greater than or equal to 1"),
        ({"seed": "7"}, "seed: Input should be a valid integer"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(InputError) as error:
        parse_data_config({"train": ["a.jsonl"], **changes})
    assert message in str(error.value)


def test_a_wrong_entry_is_one_problem():
    with pytest.raises(InputError) as error:
        parse_data_config({"train": [{"path": "a", "wieght": 2}]})
    assert str(error.value) == "data: train.0: unknown key 'wieght'; did you mean 'weight'?"
