import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.encoding.pairs import PairEncoder
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
from crossrank.models.packed_attention import pack
from crossrank.models.packed_bert import PackedBert, supports_packing
from crossrank.models.sequence_classification import load_sequence_classifier


def load_packed(folder, dtype=torch.float32):
    checkpoint = open_checkpoint(folder, label=0)
    packed = PackedBert(load_sequence_classifier(checkpoint, dtype=dtype))
    encoder = PairEncoder(load_tokenizer(checkpoint), max_length=checkpoint.max_length)

    def score(pairs):
        encoded = encoder.encode(pairs)
        input_ids, types = (
            torch.from_numpy(np.concatenate(x)).long() for x in (encoded.input_ids, encoded.token_type_ids)
        )
        types = types if checkpoint.uses_segments else torch.zeros_like(types)
        return packed(input_ids, types, pack(encoded.lengths.tolist())).numpy()

    return score


@pytest.mark.parametrize("kind", ["bert", "bert-two-labels", "electra", "roberta", "xlm-roberta"])
def test_packed_is_padded(tiny_checkpoint, hard_pairs, reference_logits, kind):
    folder = tiny_checkpoint(kind)
    np.testing.assert_allclose(load_packed(folder)(hard_pairs), reference_logits(folder, hard_pairs), atol=1e-5)


def test_a_literal_padding_token_is_counted_as_in_transformers(tiny_checkpoint, reference_logits):
    folder = tiny_checkpoint("roberta")
    pairs = [("a <pad> b", "river <pad> city <pad>"), ("<pad>", "<pad>")]
    np.testing.assert_allclose(load_packed(folder)(pairs), reference_logits(folder, pairs), atol=1e-5)


@pytest.fixture(scope="module")
def packed_bert(tiny_checkpoint, hard_pairs):
    score = load_packed(tiny_checkpoint("bert"))
    return score, np.concatenate([score([pair]) for pair in hard_pairs])


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 10), min_size=1, max_size=20))
def test_a_logit_does_not_depend_on_order_or_mates(packed_bert, hard_pairs, rows):
    score, alone = packed_bert
    np.testing.assert_allclose(score([hard_pairs[row] for row in rows]), alone[rows], atol=2e-5)


def test_bfloat16_stays_near_float32(tiny_checkpoint, hard_pairs):
    folder = tiny_checkpoint("bert")
    exact, half = load_packed(folder)(hard_pairs), load_packed(folder, torch.bfloat16)(hard_pairs)
    assert half.dtype == np.float32
    assert np.abs(half - exact).max() < 0.3


@pytest.mark.parametrize("kind", ["deberta-v2", "modernbert", "mpnet", "distilbert"])
def test_other_layers_are_not_taken_for_those_of_bert(tiny_checkpoint, kind):
    checkpoint = open_checkpoint(tiny_checkpoint(kind))
    assert not supports_packing(load_sequence_classifier(checkpoint, dtype=torch.float32))
