import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder

from crossrank.encoding.pairs import PairEncoder
from crossrank.errors import InputError, MissingExtra
from crossrank.inference.torch_engine import TorchEngine
from crossrank.models import onednn
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint

COMMON = ("bert", "electra", "roberta", "xlm-roberta", "deberta-v2", "modernbert")
RARE = (
    "albert", "camembert", "deberta", "distilbert", "ernie", "gte", "mpnet", "nomic_bert", "xlm-roberta-xl",
)  # fmt: skip


class Loaded:
    """A checkpoint in the torch engine, with its own encoder."""

    def __init__(self, folder, **options):
        self.checkpoint = open_checkpoint(folder, label=0)
        self.engine = TorchEngine.load(self.checkpoint, **{"device": "cpu"} | options)
        self.encoder = PairEncoder(load_tokenizer(self.checkpoint), max_length=self.checkpoint.max_length)

    def logits(self, pairs):
        return self.engine.logits(self.encoder.encode(pairs))


@pytest.mark.parametrize("kind", [*COMMON, *RARE, "bert-two-labels"])
@pytest.mark.parametrize("has_onednn", [True, False])
def test_the_logits_are_those_of_transformers(
    tiny_checkpoint, hard_pairs, reference_logits, kind, has_onednn, monkeypatch
):
    if not has_onednn:
        monkeypatch.setattr(onednn, "is_available", lambda: False)
    folder = tiny_checkpoint(kind)
    given_logits = Loaded(folder).logits(hard_pairs)
    assert given_logits.dtype == np.float32
    np.testing.assert_allclose(given_logits, reference_logits(folder, hard_pairs), atol=1e-5)


@pytest.mark.parametrize("kind", [*COMMON, *RARE, "modular", "bert-two-labels"])
def test_the_scores_are_those_of_sentence_transformers(tiny_checkpoint, hard_pairs, kind):
    folder = tiny_checkpoint(kind)
    loaded = Loaded(folder)
    peer = CrossEncoder(str(folder), device="cpu")
    expected = peer.predict(hard_pairs).reshape(len(hard_pairs), -1)
    assert type(peer.activation_fn).__name__.lower() == loaded.checkpoint.activation
    logits = loaded.logits(hard_pairs)
    scores = 1 / (1 + np.exp(-logits)) if loaded.checkpoint.activation == "sigmoid" else logits
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.fixture(scope="module", params=["bert", "xlm-roberta", "deberta-v2", "modernbert", "modular"])
def loaded_and_alone(request, tiny_checkpoint, hard_pairs):
    loaded = Loaded(tiny_checkpoint(request.param), budget_tokens=150)
    return loaded, np.concatenate([loaded.logits([pair]) for pair in hard_pairs])


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, 10), max_size=25))
def test_a_logit_does_not_depend_on_order_mates_or_padding(loaded_and_alone, hard_pairs, rows):
    loaded, alone = loaded_and_alone
    np.testing.assert_allclose(loaded.logits([hard_pairs[row] for row in rows]), alone[rows], atol=2e-5)


def test_sixteen_threads_at_once_get_the_scores_of_one(loaded_and_alone, hard_pairs):
    loaded, _ = loaded_and_alone
    expected = loaded.logits(hard_pairs)
    with ThreadPoolExecutor(16) as pool:
        for result in pool.map(loaded.logits, [hard_pairs] * 48):
            np.testing.assert_array_equal(result, expected)


def test_no_pairs(tiny_checkpoint):
    assert Loaded(tiny_checkpoint("bert-two-labels")).logits([]).shape == (0, 2)


def test_one_pair_longer_than_the_budget(tiny_checkpoint, hard_pairs):
    folder = tiny_checkpoint("bert")
    np.testing.assert_allclose(
        Loaded(folder, budget_tokens=1).logits(hard_pairs), Loaded(folder).logits(hard_pairs), atol=1e-5
    )


@pytest.mark.parametrize("kind", ["bert", "modernbert", "modular"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_and_not_quantised(tiny_checkpoint, hard_pairs, kind, dtype):
    folder = tiny_checkpoint(kind)
    loaded = Loaded(folder, dtype=dtype)
    half, exact = loaded.logits(hard_pairs), Loaded(folder).logits(hard_pairs)
    assert loaded.engine.precision == dtype
    assert 0 < np.abs(half - exact).max() < 0.5
    assert not np.array_equal(half, torch.from_numpy(half).bfloat16().float().numpy())


def test_the_engine_says_what_it_is(tiny_checkpoint):
    engine = Loaded(tiny_checkpoint("bert")).engine
    assert (engine.name, engine.device, engine.precision) == ("torch", "cpu", "float32")


def test_automatic_device_and_dtype_fit_this_machine(tiny_checkpoint):
    engine = Loaded(tiny_checkpoint("bert"), device="auto").engine
    cuda = torch.cuda.is_available()
    assert engine.device.startswith("cuda" if cuda else ("mps" if torch.backends.mps.is_available() else "cpu"))
    assert engine.precision == ("bfloat16" if cuda else "float32")


def test_num_threads_is_set_for_the_process(tiny_checkpoint):
    before = torch.get_num_threads()
    try:
        Loaded(tiny_checkpoint("bert"), num_threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device 'gpu' is not one of torch"),
        ({"device": None}, "device None is not one of torch"),
        ({"device": "xpu"}, "device 'xpu' is not there; torch sees: cpu"),
        ({"dtype": "int8"}, "dtype must be 'auto', 'float32', 'bfloat16', 'float16', not 'int8'"),
        ({"num_threads": 0}, "num_threads must be a whole number above 0, not 0"),
        ({"budget_tokens": -5}, "budget_tokens must be a whole number above 0, not -5"),
        ({"budget_tokens": 1.5}, r"budget_tokens must be a whole number above 0, not 1\.5"),
    ],
)
def test_an_option_that_does_not_fit(tiny_checkpoint, options, message):
    with pytest.raises(InputError, match=message):
        Loaded(tiny_checkpoint("bert"), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(tiny_checkpoint):
    with pytest.raises(InputError, match="device 'cuda:1' is not there; torch sees: cpu"):
        Loaded(tiny_checkpoint("bert"), device="cuda:1")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [*COMMON, *RARE, "modular"])
def test_the_gpu_gives_the_logits_of_the_cpu(tiny_checkpoint, hard_pairs, kind):
    folder = tiny_checkpoint(kind)
    expected = Loaded(folder).logits(hard_pairs)
    np.testing.assert_allclose(Loaded(folder, device="cuda", dtype="float32").logits(hard_pairs), expected, atol=1e-3)
    np.testing.assert_allclose(Loaded(folder, device="cuda").logits(hard_pairs), expected, atol=0.5)


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_without_torch_the_error_names_the_extra(tiny_checkpoint, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r"pip install 'crossrank\[torch\]'"):
        Loaded(tiny_checkpoint("bert"))


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "electra"])
def test_a_folder_with_only_the_cpu_form_runs_from_its_constants(tiny_checkpoint, tmp_path, hard_pairs, kind):
    ov = pytest.importorskip("openvino")
    from crossrank.inference.openvino_graph import build_graph
    from crossrank.inference.weight_files import read_weights

    source = tiny_checkpoint(kind)
    expected = Loaded(source)
    folder = shutil.copytree(source, tmp_path / kind)
    graph = build_graph(
        expected.checkpoint.config, read_weights(source), pad_token_id=expected.checkpoint.pad_token_id, where=kind
    )
    (folder / "openvino").mkdir()
    ov.save_model(graph, folder / "openvino" / "openvino_model.xml", compress_to_fp16=False)
    (folder / "model.safetensors").unlink()
    np.testing.assert_allclose(Loaded(folder).logits(hard_pairs), expected.logits(hard_pairs), atol=1e-5)
