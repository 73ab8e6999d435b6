import numpy as np
import pytest
import torch

from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import PairEncoder
from crossrank.errors import CheckpointError
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
from crossrank.models.sequence_classification import fill_sequence_classifier, load_sequence_classifier

KINDS = ("bert", "electra", "roberta", "xlm-roberta", "deberta-v2", "modernbert", "mpnet", "distilbert")


def padded_inputs(checkpoint, pairs):
    encoded = PairEncoder(load_tokenizer(checkpoint), max_length=checkpoint.max_length).encode(pairs)
    batch = pad(encoded, np.arange(len(pairs)), pad_token_id=checkpoint.pad_token_id)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if checkpoint.uses_segments:
        inputs["token_type_ids"] = batch.token_type_ids
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def logits(model, inputs):
    with torch.inference_mode():
        return model(**inputs).logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_padded_batch_gives_the_logits_of_transformers(tiny_checkpoint, hard_pairs, reference_logits, kind):
    checkpoint = open_checkpoint(tiny_checkpoint(kind))
    model = load_sequence_classifier(checkpoint, dtype=torch.float32)
    expected = reference_logits(checkpoint.folder, hard_pairs)
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(logits(model, padded_inputs(checkpoint, hard_pairs)), expected, atol=1e-5)


def test_half_precision_gives_float32_logits_that_are_not_rounded_to_it(tiny_checkpoint, hard_pairs):
    checkpoint = open_checkpoint(tiny_checkpoint("electra"))
    model = load_sequence_classifier(checkpoint, dtype=torch.bfloat16)
    given = logits(model, padded_inputs(checkpoint, hard_pairs))
    assert given.dtype == torch.float32
    assert not torch.equal(given, given.bfloat16().float())


def test_weights_from_elsewhere_make_the_same_model(tiny_checkpoint, hard_pairs):
    checkpoint = open_checkpoint(tiny_checkpoint("bert"))
    loaded = load_sequence_classifier(checkpoint, dtype=torch.float32)
    filled = fill_sequence_classifier(checkpoint, loaded.state_dict(), dtype=torch.float32)
    inputs = padded_inputs(checkpoint, hard_pairs)
    torch.testing.assert_close(logits(filled, inputs), logits(loaded, inputs), atol=1e-5, rtol=0)


def test_weights_from_elsewhere_must_be_complete(tiny_checkpoint):
    checkpoint = open_checkpoint(tiny_checkpoint("bert"))
    tensors = dict(load_sequence_classifier(checkpoint, dtype=torch.float32).state_dict())
    with pytest.raises(CheckpointError, match="another shape"):
        fill_sequence_classifier(checkpoint, tensors | {"classifier.weight": torch.ones(3, 32)}, dtype=torch.float32)
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    with pytest.raises(CheckpointError, match=r"are missing \(1\): bert\.encoder\.layer\.1\.output\.dense\.weight"):
        fill_sequence_classifier(checkpoint, tensors, dtype=torch.float32)
