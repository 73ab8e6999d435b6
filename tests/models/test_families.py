import pytest

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.families import FAMILIES, resolve_family


def resolve(modular=False, **config):
    return resolve_family(config, modular=modular, where="m")


def test_the_table_is_complete_and_unambiguous():
    names = [family.name for family in FAMILIES]
    model_types = [name for family in FAMILIES for name in family.model_types]
    assert len(set(names)) == len(names)
    assert len(set(model_types)) == len(model_types)
    assert all(family.description and family.scoring for family in FAMILIES)


@pytest.mark.parametrize(
    ("model_type", "architecture", "name"),
    [
        ("bert", "BertForSequenceClassification", "bert"),
        ("roberta", "RobertaForSequenceClassification", "roberta"),
        ("xlm-roberta", "XLMRobertaForSequenceClassification", "xlm-roberta"),
        ("deberta-v2", "DebertaV2ForSequenceClassification", "deberta"),
        ("electra", "ElectraForSequenceClassification", "electra"),
        ("modernbert", "ModernBertForSequenceClassification", "modernbert"),
    ],
)
def test_model_type_and_architecture_decide(model_type, architecture, name):
    assert resolve(model_type=model_type, architectures=[architecture]).name == name


def test_the_table_names_classes_that_transformers_has():
    import transformers

    for family in FAMILIES:
        # Published as code beside the weights: folded into Llama here, or put together of native parts.
        if family.layout != "layerwise" and family.name not in ("llama_nemotron_vl", "jina_reranker_m0"):
            native = [name.replace("Bidirectional", "") for name in family.architectures]
            assert all(hasattr(transformers, name) for name in native)


def test_a_body_alone_is_no_cross_encoder():
    with pytest.raises(CheckpointError, match="not a cross-encoder: BertForMaskedLM has no scoring head"):
        resolve(model_type="bert", architectures=["BertForMaskedLM"])


def test_a_language_model_without_a_head_can_be_given_one():
    with pytest.raises(CheckpointError, match=r"LlamaForCausalLM has no scoring head.*Reranker\.from_backbone"):
        resolve(model_type="llama", architectures=["LlamaForCausalLM"])


def test_modules_make_it_modular_and_the_body_says_how_tokens_are_read():
    family = resolve(modular=True, model_type="roberta", architectures=["RobertaModel"])
    assert (family.name, family.positions_after_padding, family.pad_token_id) == ("modular", True, 1)


def test_remote_code_is_never_an_option():
    with pytest.raises(UnsupportedModel, match="never runs code from a checkpoint"):
        resolve(model_type="minicpm", auto_map={"AutoConfig": "configuration_minicpm.MiniCPMConfig"})


@pytest.mark.parametrize("config", [{}, {"model_type": "t5"}, {"model_type": None}, {"model_type": ["bert"]}])
def test_an_unknown_kind_is_an_error_that_lists_the_known_ones(config):
    with pytest.raises(UnsupportedModel, match="is not supported; supported: albert, bert, "):
        resolve(**config)


def test_an_architecture_of_another_type_is_an_error():
    with pytest.raises(UnsupportedModel, match="not a class of model_type 'bert'"):
        resolve(model_type="bert", architectures=["ElectraForSequenceClassification"])


def test_architectures_must_be_names():
    with pytest.raises(CheckpointError, match="architectures must be a list of names"):
        resolve(model_type="bert", architectures="BertForSequenceClassification")
