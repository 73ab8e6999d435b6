"""Training on page images: where gradients go, what is saved, and that images change none of a run's promises."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import losses_of, ndcg, read_log, write_rows
from tests.training.drawn_pages import CONTENTS, draw
from tests.training.test_run import SignalAt, run_with_processes
from typer.testing import CliRunner

from crossrank import Document, Reranker
from crossrank.cli.main import app
from crossrank.encoding.images import with_image_sources
from crossrank.errors import CheckpointError, InputError
from crossrank.training.batches import Collator
from crossrank.training.config import ModelSection, parse_recipe
from crossrank.training.model import load_trainee
from crossrank.training.run import train
from crossrank.training.scorer import BlockScorer
from crossrank.training.trainer import GroupTrainer
from tiny_vision import save_tiny_nemotron_vl

MODALITIES = ("image", "text", "both")


@pytest.fixture(scope="session")
def page_files(tmp_path_factory):
    """18 groups to train on, 6 to judge on: a page of a kind among others, as an image, a text, or both."""
    folder = tmp_path_factory.mktemp("pages")

    def document(kind, content, modality, seed):
        name = f"{kind}-{content}-{seed % 4}.png"
        draw(kind, content, seed % 4).resize((64, 32)).save(folder / name)
        texts = {} if modality == "image" else {"text": f"a {kind} that shows {content}"}
        return texts | ({} if modality == "text" else {"image": name})

    rows = []
    for i in range(24):
        kind, modality = list(CONTENTS)[i % 3], MODALITIES[i // 3 % 3]
        contents = random.Random(i).sample(CONTENTS[kind], 4)
        positive, *negatives = (document(kind, content, modality, i) for content in contents)
        rows.append({"query": f"{kind} {contents[0]} {i}", "positives": [positive], "negatives": negatives})
    return write_rows(folder / "train.jsonl", rows[:18]), write_rows(folder / "dev.jsonl", rows[18:])


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nemotron") / "vl"
    save_tiny_nemotron_vl(folder)
    return folder


@pytest.fixture
def values(recipe_values, page_files, checkpoint):
    """A recipe on the pages; keyword arguments as of `recipe_values`."""

    def make(model=None, **sections):
        train_file, dev_file = page_files
        data = {"train": [str(train_file)], "dev": [str(dev_file)], "cache_dir": str(train_file.parent / "cache")}
        data |= sections.pop("data", {})
        training = {"max_steps": 3, "global_batch_size": 6, "local_batch_size": 2} | sections.pop("training", {})
        made = recipe_values(checkpoint, data=data, training=training, **sections)
        return made | {"model": {"name": str(checkpoint)} | (model or {})}

    return make


@pytest.fixture
def pairs(page_files):
    """An image, a text, both, and the first image again."""
    folder = page_files[0].parent
    first, second = sorted(folder.glob("*.png"))[:2]
    documents = [Document(image=str(first)), Document("words"), Document("more words", image=str(second))]
    return [("which page?", document) for document in [*documents, documents[0]]]


def trainee(checkpoint, **section):
    return load_trainee(ModelSection(name=str(checkpoint), **section), seed=0, dtype=torch.float32, on_cpu=True)


def batch_of(trained, pairs, budget_tokens=None):
    collator = Collator(
        trained.encoder, trained.checkpoint.pad_token_id, uses_segments=False, budget_tokens=budget_tokens, loss="mse"
    )
    return collator.make_blocks(collator.encoder.encode(pairs))


def gradients(trained, pairs):
    blocks, order = batch_of(trained, pairs)
    trained.model.train()
    BlockScorer(trained.model)(blocks, order).square().sum().backward()
    return {name: parameter.grad for name, parameter in trained.model.named_parameters()}


def test_gradients_reach_tower_projector_language_model_and_head(checkpoint, pairs):
    trained = trainee(checkpoint)
    trained.model.language_model.set_attn_implementation("eager")
    sizes = {name: float(grad.abs().max()) for name, grad in gradients(trained, pairs).items() if grad is not None}
    parts = {part: [size for name, size in sizes.items() if name.startswith(part)] for part in PARTS}
    print({part: (len(found), min(found)) for part, found in parts.items()})
    # A softmax does not see the bias of the keys.
    assert all(size > 0 for name, size in sizes.items() if not name.endswith("k_proj.bias"))
    without = {name for name, parameter in trained.model.named_parameters() if not parameter.requires_grad}
    assert without and all(name.startswith("vision_model.head.") for name in without), "the pooler is not read"
    assert len(sizes) + len(without) == len(list(trained.model.parameters()))


PARTS = ("vision_model.", "mlp1.", "language_model.", "score.")


def test_a_gradient_is_that_of_the_model_that_scores(checkpoint, pairs, tmp_path):
    """Against finite differences of the scores, in one weight of each part."""
    trained = trainee(checkpoint)
    found = gradients(trained, pairs)
    model, (blocks, order) = trained.model, batch_of(trained, pairs)
    scorer = BlockScorer(model).double()
    names = ("mlp1.1.bias", "score.weight", "language_model.norm.weight", "vision_model.post_layernorm.bias")
    parameters = dict(model.named_parameters())
    for name in names:
        weight, losses = parameters[name].view(-1), []
        for step in (1e-3, -2e-3):
            with torch.no_grad():
                weight[0] += step
                model.train()  # forget the features of the weights before
                losses.append(float(scorer(blocks, order).square().sum()))
        with torch.no_grad():
            weight[0] += 1e-3
        numeric, exact = (losses[0] - losses[1]) / 2e-3, float(found[name].view(-1)[0])
        print(name, numeric, exact)
        assert numeric == pytest.approx(exact, rel=0.05, abs=1e-4)


def test_a_frozen_tower_has_no_gradient(checkpoint, pairs):
    found = gradients(trainee(checkpoint, freeze_vision=True), pairs)
    assert all(grad is None for name, grad in found.items() if name.startswith("vision_model."))
    assert all(grad is not None for name, grad in found.items() if not name.startswith("vision_model."))


def test_texts_alone_give_every_weight_a_gradient_of_zero(checkpoint, pairs):
    """So that processes with and without images agree, and so does one process."""
    found = gradients(trainee(checkpoint), pairs[1:2])
    tower = {name: grad for name, grad in found.items() if name.startswith(("vision_model.", "mlp1."))}
    assert all(grad is not None and not grad.any() for name, grad in tower.items() if ".head." not in name)


def test_a_page_of_several_pairs_is_encoded_once_a_step(checkpoint, pairs, monkeypatch):
    trained = trainee(checkpoint)
    seen = []
    project = type(trained.model).project
    monkeypatch.setattr(type(trained.model), "project", lambda self, x: seen.append(len(x)) or project(self, x))
    gradients(trained, pairs)
    num_tiles = [image.num_tokens // 4 for image in trained.encoder.encode(pairs).images if image is not None]
    assert seen == [sum(num_tiles[:2])], "the third image is the first"
    assert len(trained.model.cache) == 0, "nothing is kept while weights change"


def test_ranking_between_steps_sees_the_weights_of_now(checkpoint, pairs):
    """The page cache is used while dev sets are ranked, and must not outlive an update."""
    trained = trainee(checkpoint)
    blocks, order = batch_of(trained, pairs)
    scorer = BlockScorer(trained.model)

    def rank():
        scorer.eval()
        with torch.no_grad():
            return scorer(blocks, order)

    before = rank()
    assert len(trained.model.cache) == 2
    with torch.no_grad():
        trained.model.mlp1[1].weight.mul_(3)
    scorer.train()
    after = rank()
    print(before, after)
    assert (before - after).abs()[[0, 2, 3]].min() > 1e-3 and before[1] == after[1]


def test_micro_batches_and_workers_do_not_change_what_is_learned(values, tmp_path):
    losses = []
    for options in ({"local_batch_size": 6}, {"local_batch_size": 1}, {"budget_tokens": 64}, {"num_workers": 1}):
        recipe = values(training=options, data={"dev": []}) | {"output": str(tmp_path / str(len(losses)))}
        train(parse_recipe(recipe), measure=ndcg)
        losses.append(losses_of(recipe["output"]))
        print(options, losses[-1])
        np.testing.assert_allclose(losses[-1], losses[0], rtol=1e-4)


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_computing_activations_twice_changes_no_loss(values, tmp_path, lora):
    losses = []
    for twice in (False, True):
        recipe = values(training={"activation_checkpointing": twice}, lora=lora) | {
            "output": str(tmp_path / str(twice))
        }
        train(parse_recipe(recipe), measure=ndcg)
        losses.append(losses_of(recipe["output"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_an_interrupted_run_resumes_with_the_same_losses(values, tmp_path):
    whole = values(training={"max_steps": 5})
    train(parse_recipe(whole), measure=ndcg)
    broken = whole | {"output": str(tmp_path / "broken")}
    train(parse_recipe(broken), measure=ndcg, callbacks=[SignalAt(2, signal.SIGTERM)])
    train(parse_recipe(broken), measure=ndcg, resume=True)
    print(losses_of(whole["output"]), losses_of(broken["output"]))
    assert losses_of(broken["output"]) == losses_of(whole["output"])
    weights = [load_file(Path(v["output"], "checkpoint-5", "model.safetensors")) for v in (whole, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def scores_in_memory(monkeypatch, pairs):
    """Return a place where the scores of the trained model appear when a run ends."""
    found = {}
    finalize = GroupTrainer._finalize_training

    def keep(self, *args):
        blocks, order = self.data_collator.make_blocks(self.data_collator.encoder.encode(pairs))
        self.model.eval()
        with torch.no_grad():
            found["scores"] = self.model(blocks, order).numpy()
        return finalize(self, *args)

    monkeypatch.setattr(GroupTrainer, "_finalize_training", keep)
    return found


FAST = {"max_steps": 4, "learning_rate": 1e-2, "head_learning_rate": 1e-2}


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("lora", [None, {"rank": 4, "targets": "all-linear"}])
def test_a_checkpoint_reloads_to_the_same_scores(values, pairs, monkeypatch, tmp_path, parts, lora, checkpoint):
    model = {"name": "tiny:llama", "vision_tower": "tiny:siglip"} if parts else {}
    in_memory = scores_in_memory(monkeypatch, pairs)
    report = train(parse_recipe(values(model | {"max_length": 128}, lora=lora, training=FAST)), measure=ndcg)
    reranker = Reranker.load(report.model)
    scores = reranker.score(pairs)
    print("in memory", in_memory["scores"], "reloaded", scores)
    np.testing.assert_allclose(scores, in_memory["scores"], atol=1e-4)
    settings = json.loads((report.model / "crossrank.json").read_text())
    assert (settings["max_length"], settings["untrained_head"]) == (128, False)
    assert settings["vision"]["max_length_image"] == settings["vision"]["max_length_image_text"] == 128
    if not parts:
        assert np.abs(Reranker.load(checkpoint).score(pairs) - scores).max() > 0.01, "nothing was learned"
    if lora:
        assert not (report.model / "model.safetensors").exists()
        whole = tmp_path / "whole"
        result = CliRunner().invoke(app, ["export", str(report.model), "--merge", "-o", str(whole)])
        assert result.exit_code == 0, result.output
        np.testing.assert_allclose(Reranker.load(whole).score(pairs), scores, atol=1e-5)


@pytest.mark.parametrize("parts", [False, True])
def test_an_adapter_changes_the_language_model_the_head_and_what_is_fresh(values, checkpoint, parts):
    model = {"name": "tiny:llama", "vision_tower": "tiny:siglip", "max_length": 128} if parts else {}
    recipe = values(model, lora={"rank": 2, "targets": ["q_proj", "v_proj", "fc1"]}, training=FAST)
    report = train(parse_recipe(recipe), measure=ndcg)
    names = load_file(report.model / "adapter_model.safetensors").keys()
    parts_of = {name.removeprefix("base_model.model.").partition(".")[0] for name in names}
    assert parts_of == {"language_model", "score"} | ({"mlp1"} if parts else set())
    assert {name.split(".")[-3] for name in names if "lora" in name} == {"q_proj", "v_proj"}, "fc1 is SigLIP's"


def test_an_adapter_on_the_tower_alone_is_refused(values):
    with pytest.raises(InputError, match="match no linear layer; there are down_proj, gate_proj, k_proj"):
        train(parse_recipe(values(lora={"targets": ["fc1"]})), measure=ndcg)


def test_tiles_and_limits_are_those_of_the_recipe(values, page_files):
    report = train(
        parse_recipe(values({"max_input_tiles": 1, "max_length": 64}, training={"max_steps": 1})), measure=ndcg
    )
    [image] = with_image_sources([Document(image=str(next(page_files[0].parent.glob("*.png"))))])
    loaded = Reranker.load(report.model)
    assert loaded.checkpoint.visual.sizing.max_tiles == 1
    assert next(loaded.checkpoint.visual.sizing.sizes(image.image)).num_tokens == 4
    with pytest.raises(InputError, match="image and query do not fit in max_length=8"):
        train(parse_recipe(values({"max_length": 8}) | {"output": values()["output"] + "2"}), measure=ndcg)


@pytest.mark.parametrize(
    ("model", "sections", "problem"),
    [
        ({"name": "tiny:bert", "freeze_vision": True}, {}, "model.freeze_vision: .* reads no images"),
        ({"name": "tiny:llama", "max_input_tiles": 2}, {}, "model.max_input_tiles: .* reads no images"),
        ({"pooling": "cls"}, {}, "model.pooling: .* has a trained head"),
        ({"name": "tiny:bert"}, {}, "reads text alone, and a document of the data has none"),
    ],
)
def test_what_does_not_fit_is_one_sentence(values, model, sections, problem):
    with pytest.raises((InputError, CheckpointError), match=problem):
        train(parse_recipe(values(model, **sections)), measure=ndcg)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(values, tmp_path):
    """A micro-batch of texts in one process beside one of images in the other, too."""
    recipe = values(training={"local_batch_size": 1, "max_steps": 4})
    alone = recipe | {"output": str(tmp_path / "alone")}
    train(parse_recipe(alone), measure=ndcg)
    run_with_processes(recipe, tmp_path, 2)
    for key in ("loss", "grad_norm"):
        one, two = ([entry[key] for entry in read_log(v["output"]) if key in entry] for v in (alone, recipe))
        print(key, one, two)
        np.testing.assert_allclose(two, one, rtol=2e-4)
