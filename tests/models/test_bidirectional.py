import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_decoder import PlainDecoder
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from crossrank import Reranker
from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.bidirectional import encode, load_bidirectional, load_bidirectional_body, pool
from crossrank.models.bidirectional_layout import read_head
from crossrank.models.checkpoint import open_checkpoint
from tiny_decoders import KINDS


def load(folder, dtype=torch.float32):
    return load_bidirectional(open_checkpoint(folder), dtype=dtype)


def batch(*lengths, side="right", seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        at = slice(0, length) if side == "right" else slice(max(lengths) - length, None)
        ids[row, at] = torch.randint(2, 300, (length,), generator=generator)
        mask[row, at] = 1
    return ids, mask


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["avg", "cls", "last"])
@torch.inference_mode()
def test_the_logits_are_those_of_the_published_algorithm(tiny_reranker, kind, pooling):
    folder = tiny_reranker(kind, pooling=pooling)
    model, reference = load(folder), PlainDecoder(folder)
    for lengths in [(80,), (1,), (17, 17, 17), (80, 3, 41)]:  # the window of the sliding kinds is 4
        for side in ("left", "right"):
            ids, mask = batch(*lengths, side=side)
            logits = model(ids, mask).logits
            assert logits.dtype == torch.float32 and logits.shape == (len(lengths), 1)
            torch.testing.assert_close(logits, reference.logits(ids, mask), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_eager_attention_agrees_with_sdpa(tiny_reranker):
    model = load(tiny_reranker("mistral"))
    ids, mask = batch(20, 5, 13)
    expected = model(ids, mask).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(ids, mask).logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(ids[:1], None).logits, expected[:1], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_bfloat16_stays_within_a_step_of_the_float32_scores(tiny_reranker):
    """A bfloat16 number has 8 bits: the step of a sum is 1/256 of the sum of its magnitudes."""
    folder = tiny_reranker(dtype="bfloat16")
    ids, mask = batch(30, 7, 19, 30)
    model = load(folder, "auto")
    assert model.dtype == torch.bfloat16 and model.score.weight.dtype == torch.bfloat16
    logits, exact = model(ids, mask).logits, PlainDecoder(folder).logits(ids, mask)
    assert logits.dtype == torch.float32
    terms = pool(encode(model.model, ids, mask), mask, "avg").abs() @ model.score.weight.float().abs().T / 0.5
    assert ((logits - exact).abs() <= terms / 256).all(), (logits, exact, terms / 256)
    assert not torch.equal(logits, exact)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_last_token_changes_the_first_hidden_state(tiny_reranker, kind):
    body = load(tiny_reranker(kind)).model
    assert not any(module.is_causal for module in body.modules() if hasattr(module, "is_causal"))
    ids, changed = two_rows_that_differ_at_the_end()
    for mask in (None, torch.ones_like(ids)):  # a batch without padding has no mask: the trap of this conversion
        assert first_state_moves(lambda i, mask=mask: encode(body, i, mask), ids, changed)
    ids, changed = (torch.nn.functional.pad(i, (0, 3)) for i in (ids, changed))
    mask = (torch.arange(15) < 12).long()[None]
    assert first_state_moves(lambda i: encode(body, i, mask), ids, changed)


@torch.inference_mode()
def test_a_causal_control_does_not_look_ahead(tiny_reranker, tiny_backbone):
    ids, changed = two_rows_that_differ_at_the_end()
    control = AutoModelForCausalLM.from_pretrained(tiny_backbone("llama")).model
    assert not first_state_moves(lambda i: control(i).last_hidden_state, ids, changed)
    body = load(tiny_reranker("llama")).model
    body.config.is_causal = True  # what is left when only one of the two switches is thrown
    for layer in body.layers:
        layer.self_attn.is_causal = True
    assert not first_state_moves(lambda i: encode(body, i, None), ids, changed)


def two_rows_that_differ_at_the_end():
    ids, _ = batch(12)
    changed = ids.clone()
    changed[0, -1] += 1
    return ids, changed


def first_state_moves(hidden, ids, changed):
    return bool((hidden(ids)[0, 0] - hidden(changed)[0, 0]).abs().max() > 1e-4)


def test_the_plain_reference_is_transformers_own_llama_when_causal(tiny_backbone):
    ids, _ = batch(90)
    with torch.inference_mode():
        expected = AutoModelForCausalLM.from_pretrained(tiny_backbone("llama")).model(ids).last_hidden_state[0]
    given_hidden = PlainDecoder(tiny_backbone("llama"), causal=True).hidden(ids[0])
    torch.testing.assert_close(given_hidden, expected, atol=1e-5, rtol=1e-5)


def test_pooling_by_hand():
    hidden = torch.tensor([[[1.0], [2.0], [6.0]]])
    for mask, expected in (([1, 1, 1], (3, 1, 6)), ([0, 1, 1], (4, 2, 6)), ([1, 1, 0], (1.5, 1, 2))):
        mask = torch.tensor([mask])
        assert tuple(pool(hidden, mask, name).item() for name in ("avg", "cls", "last")) == expected


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), side=st.sampled_from(["left", "right"]))
def test_pooling_never_reads_padding(lengths, side):
    _, mask = batch(*lengths, side=side)
    hidden = torch.randn(*mask.shape, 2, generator=torch.Generator().manual_seed(0))
    poisoned = hidden.masked_fill(mask.unsqueeze(-1) == 0, torch.nan)
    real = [row[keep] for row, keep in zip(hidden, mask.bool(), strict=True)]
    expected = {"avg": [row.mean(0) for row in real], "cls": [r[0] for r in real], "last": [r[-1] for r in real]}
    for pooling, rows in expected.items():
        torch.testing.assert_close(pool(poisoned, mask, pooling), torch.stack(rows))


@pytest.mark.parametrize("pooling", ["mean", "weighted_avg", "max", "", None, 3])
def test_an_unknown_pooling_is_an_error(tiny_reranker, tmp_path, pooling):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_reranker(), folder)
    config = json.loads((folder / "config.json").read_text()) | {"pooling": pooling}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="pooling must be one of avg, cls, last"):
        load(folder)


@pytest.mark.parametrize("temperature", [0, -1, "1", True, float("inf"), float("nan")])
def test_a_temperature_that_cannot_divide_is_an_error(temperature):
    with pytest.raises(CheckpointError, match="temperature must be a number above 0"):
        read_head({"temperature": temperature}, "here")


def test_a_body_without_a_head_loads_with_and_without_the_prefix(tiny_backbone, tiny_reranker, tmp_path):
    from transformers import AutoModel

    AutoModel.from_pretrained(tiny_backbone("llama")).save_pretrained(tmp_path)  # names without model. before them
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "llama_bidirec", "pooling": "last"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    body, head = load_bidirectional_body(tmp_path, dtype=torch.float32, where="x")
    assert head == ("last", 1.0)
    ids, mask = batch(9, 4, side="left")
    with torch.inference_mode():
        expected = encode(load(tiny_reranker("llama")).model, ids, mask)
        torch.testing.assert_close(encode(body, ids, mask), expected)
        prefixed, _ = load_bidirectional_body(tiny_backbone("llama"), dtype=torch.float32, where="x")
        torch.testing.assert_close(encode(prefixed, ids, mask), expected)


def test_a_backbone_that_cannot_be_converted_is_named(tiny_checkpoint):
    with pytest.raises(UnsupportedModel, match="a bert model cannot be made bidirectional; known are llama, "):
        load_bidirectional_body(tiny_checkpoint("bert"), dtype=torch.float32, where="x")


def test_a_missing_head_is_an_error(tiny_reranker, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(tiny_reranker(), folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"scoring head are missing \(score.weight\)"):
        load(folder)


def test_the_head_stays_in_float32_under_autocast(tiny_reranker):
    model = load(tiny_reranker(), torch.float32)
    vectors = torch.full((1, 32), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        given_logits = model.classify(vectors)
    expected = (vectors @ model.score.weight.T / 0.5).detach()
    np.testing.assert_allclose(given_logits.detach(), expected, rtol=1e-6)


@pytest.mark.parametrize("length", [2048, pytest.param(8192, marks=pytest.mark.slow)])
@torch.inference_mode()
def test_long_input_takes_no_quadratic_memory(tiny_reranker, length):
    """Every tensor that is made while a batch is scored, with and without padding, is far below length x length."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
            return out

    model = load(tiny_reranker())
    for lengths in ((length,), (length, length - 100)):
        ids, mask = batch(*lengths)
        with Largest() as largest:
            model(ids, mask)
        assert largest.numel <= len(lengths) * length * 64, lengths


def test_a_pair_is_one_string_as_the_card_tokenises_it(tiny_reranker):
    reranker = Reranker.load(tiny_reranker(), device="cpu")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_reranker())
    pairs = [(" how much?  ", "\n46 grams \n"), ("{document}", "{query}"), ("Mars 🍞", ""), ("q", " \n \n passage:x")]
    for pair, ids in zip(pairs, reranker._encoder.encode(pairs).input_ids, strict=True):
        assert ids.tolist() == tokenizer(f"question:{pair[0]} \n \n passage:{pair[1]}")["input_ids"]


def test_what_is_too_long_reports_itself_and_keeps_the_query(tiny_reranker):
    reranker = Reranker.load(tiny_reranker(), device="cpu", max_length=64)
    query, text = "how much protein should a female eat?", "The highest point of a mountain. " * 50
    whole, cut = reranker.rank(query, ["46 grams", text])
    assert [hit.truncated for hit in sorted((whole, cut), key=lambda hit: hit.index)] == [False, True]
    encoded = reranker._encoder.encode([(query, text)])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tiny_reranker())
    assert encoded.lengths.tolist() == [64] and encoded.truncated.tolist() == [True]
    assert encoded.input_ids[0].tolist() == tokenizer(f"question:{query} \n \n passage:{text}")["input_ids"][:64]
    with pytest.raises(InputError, match="no room for a document"):
        reranker.score([("long " * 100, "short")])


def test_the_limit_is_8192_unless_stated(tiny_reranker, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_reranker(), folder)  # its tokenizer says 131072, and so do its positions
    text = "Mars, the Red Planet. " * 3000
    assert Reranker.load(folder, device="cpu")._encoder.encode([("q", text)]).lengths.tolist() == [8192]
    (folder / "crossrank.json").write_text(json.dumps({"max_length": 300}))
    assert open_checkpoint(folder).max_length == 300
    assert open_checkpoint(folder, max_length=20000).max_length == 20000
    (folder / "crossrank.json").write_text(json.dumps({"pooling": "cls"}))
    with pytest.raises(CheckpointError, match=r"crossrank\.json says pooling 'cls', but the model reads 'avg'"):
        open_checkpoint(folder)


def test_the_front_door_gives_the_reference_scores(tiny_reranker):
    folder = tiny_reranker(pooling="last", temperature=0.1)
    pairs = [("how much?", "46 grams"), ("how much?", "The top of a mountain. " * 9), ("Mars", "red")]
    reranker = Reranker.load(folder, device="cpu", dtype="float32")
    reference, encoder = PlainDecoder(folder), reranker._encoder
    expected = [
        reference.logits(torch.from_numpy(ids.astype(np.int64))[None]) for ids in encoder.encode(pairs).input_ids
    ]
    expected = torch.cat(expected).numpy()[:, 0]
    np.testing.assert_allclose(reranker.score(pairs), expected, atol=1e-5, rtol=1e-5)
    hit = reranker.rank("how much?", ["46 grams"], score_type="probability")[0]
    assert hit.score == pytest.approx(1 / (1 + np.exp(-float(expected[0]))), abs=1e-6)
