"""llama_nemotron_vl_rerank in plain torch and PIL, off the files alone: the independent reference.

Written from the published description: tile, resize before RGB, pixels from -1 to 1 in bfloat16, SigLIP, merge two by
two patches, project, put where `<IMG_CONTEXT>` stands, bidirectional Llama, mean, head, temperature.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from plain_decoder import PlainDecoder
from safetensors.torch import load_file
from transformers import AutoTokenizer, SiglipVisionConfig, SiglipVisionModel


def plain_grid(width, height, max_tiles, side):
    ratios = set()
    for n in range(1, max_tiles + 1):
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                if i * j <= max_tiles and i * j >= 1:
                    ratios.add((i, j))
    best, best_factor = (1, 1), -1.0
    for i, j in sorted(ratios, key=lambda ratio: ratio[0] * ratio[1]):
        fill = min((i * j * side * side) / (width * height), 0.6)
        shape = min((i / j) / (width / height), (width / height) / (i / j))
        if fill * shape > best_factor:
            best, best_factor = (i, j), fill * shape
    return best


def plain_tiles(image, max_tiles, side, use_thumbnail=True):
    columns, rows = plain_grid(*image.size, max_tiles, side)
    big = image.resize((side * columns, side * rows))
    tiles = []
    for i in range(columns * rows):
        left, top = (i % columns) * side, (i // columns) * side
        tiles.append(big.crop((left, top, left + side, top + side)))
    if use_thumbnail and len(tiles) != 1:
        tiles.append(image.resize((side, side)))
    return [tile.convert("RGB") for tile in tiles]


def plain_pixel_values(tiles):
    arrays = [torch.from_numpy(np.array(tile)).permute(2, 0, 1).to(torch.float32).div(255) for tile in tiles]
    return torch.stack([array.sub(0.5).div(0.5) for array in arrays]).to(torch.bfloat16)


def plain_shuffle(hidden):
    n, patches, channels = hidden.shape
    side = int(patches**0.5)
    x = hidden.reshape(n, side, side, channels)
    rows = []
    for i in range(0, side, 2):
        for j in range(0, side, 2):
            rows.append(torch.cat([x[:, i, j], x[:, i, j + 1], x[:, i + 1, j], x[:, i + 1, j + 1]], dim=-1))
    return torch.stack(rows, dim=1)


class PlainPageReranker:
    def __init__(self, folder, *, max_tiles=6):
        self.config = json.loads((folder / "config.json").read_text())
        tensors = {name: t.float() for name, t in load_file(folder / "model.safetensors").items()}
        self.tensors = {n if n.startswith(("model.", "score.")) else f"model.{n}": t for n, t in tensors.items()}
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.max_tiles = max_tiles
        self.side = self.config["force_image_size"]
        vision = SiglipVisionModel(SiglipVisionConfig.from_dict(self.config["vision_config"]))
        start = "model.vision_model.vision_model."
        vision.load_state_dict({n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)})
        self.vision = vision.eval()

    def input_ids(self, query, text, image):
        """As one string, by the tokenizer of transformers."""
        prompt = f"question:{query} \n \n passage:{text}"
        if image is not None:
            count = len(plain_tiles(image, self.max_tiles, self.side)) * (self.side // 8 // 2) ** 2
            prompt = "<img>" + "<IMG_CONTEXT>" * count + "</img> " + prompt
        return self.tokenizer(prompt)["input_ids"]

    def features(self, image):
        pixels = plain_pixel_values(plain_tiles(image, self.max_tiles, self.side)).float()
        states = self.vision(pixel_values=pixels, output_hidden_states=True)
        layer = self.config["select_layer"]
        x = plain_shuffle(states.last_hidden_state if layer == -1 else states.hidden_states[layer])
        w = {name.removeprefix("model.mlp1."): t for name, t in self.tensors.items() if ".mlp1." in name}
        x = F.layer_norm(x, x.shape[-1:], w["0.weight"], w["0.bias"])
        x = F.gelu(x @ w["1.weight"].T + w["1.bias"])
        return (x @ w["3.weight"].T + w["3.bias"]).flatten(0, 1)

    @torch.inference_mode()
    def score(self, query, text="", image=None):
        pooled = self.pooled(self.input_ids(query, text, image), image)
        return float(pooled @ self.tensors["score.weight"][0]) / self.config["temperature"]

    def pooled(self, ids, image):
        ids = torch.tensor(ids)
        start = "model.language_model."
        decoder = PlainDecoder.__new__(PlainDecoder)
        decoder.config, decoder.causal = self.config["llm_config"], False
        decoder.tensors = {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}
        rows = decoder.tensors["embed_tokens.weight"][ids].clone()
        if image is not None:
            places = (ids == self.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")).nonzero().flatten()
            for place, feature in zip(places, self.features(image), strict=True):
                rows[place] = feature
        decoder.tensors["embed_tokens.weight"] = rows
        return decoder.hidden(torch.arange(len(ids))).mean(0)


class PlainPageEmbedder(PlainPageReranker):
    """The same towers under the prefixes of the bi-encoder; vectors of length 1."""

    @torch.inference_mode()
    def query(self, text):
        return F.normalize(self.pooled(self.tokenizer(f"query: {text}")["input_ids"], None), dim=0).numpy()

    @torch.inference_mode()
    def document(self, text="", image=None):
        return F.normalize(self.pooled(self.document_ids(text, image), image), dim=0).numpy()

    def document_ids(self, text, image):
        slot = ""
        if image is not None:
            count = len(plain_tiles(image, self.max_tiles, self.side)) * (self.side // 8 // 2) ** 2
            slot = "<img>" + "<IMG_CONTEXT>" * count + "</img> "
        return self.tokenizer(f"passage: {slot}{text}")["input_ids"]
