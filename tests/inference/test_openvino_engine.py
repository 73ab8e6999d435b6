import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from crossrank.encoding.pairs import EncodedPairs
from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.inference.openvino_core import CORE, ov
from crossrank.inference.openvino_engine import OpenVINOEngine
from crossrank.inference.openvino_graph import build_graph
from crossrank.inference.weight_compression import compress_weights
from crossrank.inference.weight_files import read_weights
from crossrank.models.checkpoint import open_checkpoint

BERT_LIKE = ("bert", "electra", "roberta", "xlm-roberta")
HAS_BF16 = "BF16" in CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
# Scores of the tiny models spread over about +-5.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.3}
PRECISIONS = ["float32", pytest.param("bfloat16", marks=pytest.mark.skipif(not HAS_BF16, reason="no bfloat16 here"))]


def load(folder, **options):
    return OpenVINOEngine.load(open_checkpoint(folder, label=0), **options)


def select(encoded, rows):
    return EncodedPairs(
        [encoded.input_ids[row] for row in rows],
        [encoded.token_type_ids[row] for row in rows],
        encoded.lengths[rows],
        encoded.truncated[rows],
    )


@pytest.fixture
def cpu_form(tiny_checkpoint, tmp_path):
    """The tiny BERT with an OpenVINO file instead of safetensors."""
    source = tiny_checkpoint("bert")
    folder = tmp_path / "cpu-form"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((source / "config.json").read_text())
    graph = build_graph(config, read_weights(source), pad_token_id=0, where="tiny")
    ov.save_model(graph, folder / "openvino" / "openvino_model.xml", compress_to_fp16=False)
    return folder


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", BERT_LIKE)
def test_scores_equal_those_of_transformers(tiny_checkpoint, hard_pairs, reference_logits, encode, kind, precision):
    folder = tiny_checkpoint(kind)
    logits = load(folder, dtype=precision).logits(encode(folder, hard_pairs))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, reference_logits(folder, hard_pairs), atol=TOLERANCE[precision])


def test_every_label_of_the_head_is_returned(tiny_checkpoint, hard_pairs, reference_logits, encode):
    folder = tiny_checkpoint("bert-two-labels")
    logits = load(folder, dtype="float32").logits(encode(folder, hard_pairs))
    assert logits.shape == (len(hard_pairs), 2)
    np.testing.assert_allclose(logits, reference_logits(folder, hard_pairs), atol=1e-4)


def test_no_pairs_give_no_scores(tiny_checkpoint, encode):
    folder = tiny_checkpoint("bert")
    assert load(folder).logits(encode(folder, [])).shape == (0, 1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_score_does_not_depend_on_batch_mates_order_or_padding(tiny_checkpoint, hard_pairs, encode, kind, precision):
    folder = tiny_checkpoint(kind)
    engine = load(folder, dtype=precision)
    encoded = encode(folder, hard_pairs * 3)
    together = engine.logits(encoded)
    alone = np.concatenate([engine.logits(select(encoded, np.array([row]))) for row in range(len(encoded))])
    shuffled = np.random.default_rng(0).permutation(len(encoded))
    tolerance = 1e-5 if precision == "float32" else 0.1
    np.testing.assert_allclose(alone, together, atol=tolerance)
    np.testing.assert_allclose(engine.logits(select(encoded, shuffled)), together[shuffled], atol=tolerance)


@pytest.mark.parametrize("budget_tokens", [1, 100, 100_000])
def test_the_budget_does_not_change_scores(tiny_checkpoint, hard_pairs, encode, budget_tokens):
    folder = tiny_checkpoint("bert")
    encoded = encode(folder, hard_pairs)
    expected = load(folder, dtype="float32").logits(encoded)
    actual = load(folder, dtype="float32", budget_tokens=budget_tokens, num_threads=3).logits(encoded)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_many_threads_at_once(tiny_checkpoint, hard_pairs, encode):
    folder = tiny_checkpoint("bert")
    engine = load(folder, dtype="float32")
    encoded = encode(folder, hard_pairs * 4)
    parts = [select(encoded, np.arange(start, len(encoded), 16)) for start in range(16)] * 4
    expected = [engine.logits(part) for part in parts]
    with ThreadPoolExecutor(16) as pool:
        for actual, wanted in zip(pool.map(engine.logits, parts), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, atol=1e-5)


def test_a_process_whose_first_batches_run_side_by_side_ends(cpu_form):
    """The bindings of OpenVINO 2026.4 stop for ever in five runs of six when two threads bring the first array."""
    code = (
        "import sys; sys.setswitchinterval(1e-6)\n"
        "from crossrank import Reranker\n"
        "print(len(Reranker.load(sys.argv[1]).score([('a', 'b c ' * n) for n in range(1, 40)])))"
    )
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code, cpu_form], capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stdout) == (0, "39\n"), run.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="affinity is Linux's")
def test_a_forked_process_scores_too(tiny_checkpoint):
    """As `multiprocessing` does by default up to Python 3.13, and servers that load before they fork."""
    script = (
        "import os, sys, numpy as np\n"
        "from crossrank import Reranker\n"
        "pairs = [('red planet', 'Mars is red. ' * n) for n in range(1, 9)]\n"
        "reranker = Reranker.load(sys.argv[1], backend='openvino', dtype='float32', num_threads=2, budget_tokens=64)\n"
        "expected = reranker.score(pairs)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if np.array_equal(reranker.score(pairs), expected) else 3)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    run = subprocess.run([sys.executable, "-c", script, tiny_checkpoint("bert")], timeout=100)
    assert run.returncode == 0


def test_no_stream_is_pinned(tiny_checkpoint, hard_pairs, encode):
    """Two processes of one stream each would otherwise share one core, and the others would idle."""
    folder = tiny_checkpoint("bert")
    engine, encoded = load(folder, dtype="float32", num_threads=1), encode(folder, hard_pairs * 20)
    engine.logits(encoded)
    seen = set()
    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(lambda: [engine.logits(encoded) for _ in range(5)])
        while not scoring.done():
            for task in Path("/proc/self/task").iterdir():
                with contextlib.suppress(ProcessLookupError):  # a thread that ended meanwhile
                    seen.add(frozenset(os.sched_getaffinity(int(task.name))))
    print(seen)
    assert seen == {frozenset(os.sched_getaffinity(0))}


def test_a_process_that_let_models_go_survives_a_signal(cpu_form):
    """Every `ov.Core` gives its thread a signal stack; let go in the wrong order, they leave one that was freed."""
    code = (
        "import faulthandler, gc, os, signal, sys\n"
        "from crossrank import Reranker\n"
        "faulthandler.enable()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('stopped'))\n"
        "first = Reranker.load(sys.argv[1])\n"
        "second = Reranker.load(sys.argv[1])\n"
        "del first; gc.collect()\n"
        "del second; gc.collect()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, cpu_form], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "stopped\n"), run.stderr


def test_reads_an_openvino_file(cpu_form, hard_pairs, reference_logits, tiny_checkpoint, encode):
    logits = load(cpu_form, dtype="float32").logits(encode(cpu_form, hard_pairs))
    np.testing.assert_allclose(logits, reference_logits(tiny_checkpoint("bert"), hard_pairs), atol=1e-4)


def test_int8_weights_move_scores_only_a_little(tiny_checkpoint, hard_pairs, encode, tmp_path):
    folder = tmp_path / "int8"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    exact = load(folder, dtype="float32").logits(encode(folder, hard_pairs))
    config = json.loads((folder / "config.json").read_text())
    graph = build_graph(config, read_weights(folder), pad_token_id=0, where="tiny")
    compress_weights(graph)
    ov.save_model(graph, folder / "openvino" / "openvino_model.xml", compress_to_fp16=False)
    compressed = load(folder, dtype="float32").logits(encode(folder, hard_pairs))
    difference = np.abs(compressed - exact).max()
    assert 0 < difference < 0.5  # of scores of about +-5


def test_not_a_number_stays_in_its_own_pair(tiny_checkpoint, encode, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(tiny_checkpoint("bert"), folder)
    encoded = encode(folder, [("planet", "Mars"), ("city", "Berlin")])
    weights = load_file(folder / "model.safetensors")
    only_in_second = next(token for token in encoded.input_ids[1] if token not in encoded.input_ids[0])
    weights["bert.embeddings.word_embeddings.weight"][only_in_second] = np.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    logits = load(folder, dtype="float32").logits(encoded)
    assert np.isfinite(logits[:, 0]).tolist() == [True, False], "score_pairs then names the pair"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int4"}, "dtype must be"),
        ({"num_threads": 0}, "num_threads must be a whole number above 0"),
        ({"budget_tokens": -5}, "budget_tokens must be a whole number above 0"),
    ],
)
def test_wrong_options_are_refused(tiny_checkpoint, options, message):
    with pytest.raises(InputError, match=message):
        load(tiny_checkpoint("bert"), **options)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_file_cut_short_is_named(cpu_form, suffix):
    file = cpu_form / "openvino" / f"openvino_model{suffix}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"openvino_model\.xml.*damaged or cut short"):
        load(cpu_form)


def test_a_missing_weights_file_is_named(cpu_form):
    (cpu_form / "openvino" / "openvino_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"openvino_model\.bin: missing"):
        load(cpu_form)


def test_a_graph_of_another_head_is_refused(cpu_form):
    config = json.loads((cpu_form / "config.json").read_text())
    config["id2label"] = {"0": "no", "1": "maybe", "2": "yes"}
    (cpu_form / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json says 3 labels"):
        load(cpu_form)


def test_other_encoders_without_an_openvino_file_are_refused(tiny_checkpoint):
    with pytest.raises(UnsupportedModel, match="crossrank export"):
        load(tiny_checkpoint("deberta-v2"))


def test_scoring_imports_neither_torch_nor_transformers(cpu_form):
    code = f"""
import sys
from crossrank.encoding.pairs import PairEncoder
from crossrank.inference.openvino_engine import OpenVINOEngine
from crossrank.models.checkpoint import load_tokenizer, open_checkpoint
checkpoint = open_checkpoint({str(cpu_form)!r})
encoded = PairEncoder(load_tokenizer(checkpoint), max_length=64).encode([("a", "b")])
assert OpenVINOEngine.load(checkpoint).logits(encoded).shape == (1, 1)
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
