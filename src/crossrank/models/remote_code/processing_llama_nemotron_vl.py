"""Query and document to token ids and tiles, for `trust_remote_code=True`.

crossrank copies this file beside the checkpoints it saves and never runs it. sentence-transformers hands it the two
messages of each pair, with the roles `query` and `document`. It needs transformers 5 and Pillow.
"""

import json
import uuid

import numpy as np
import torch
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from transformers import BatchFeature, ProcessorMixin

IMAGE_TOKENS = ("<img>", "<IMG_CONTEXT>", "</img>")


class LlamaNemotronVLProcessor(ProcessorMixin):
    """Makes `input_ids`, `attention_mask` and `pixel_values`; only a document's text is ever cut.

    Args:
        tokenizer: Of the checkpoint.
        chat_template: What is shown where nothing is tokenised.
        image_size: The side of a tile in pixels.
        num_image_token: Image tokens of a tile.
        max_input_tiles: Most tiles of an image, its thumbnail not counted.
        use_thumbnail: Whether the whole image follows its tiles as one more.
        prompt_template: `"v1"`, or None for query and document with a line break between them.
        max_length_text: Most tokens of a pair of texts.
        max_length_image: Most tokens of a pair whose document is an image.
        max_length_image_text: Most tokens of a pair whose document is both.
    """

    def __init__(
        self,
        tokenizer=None,
        chat_template=None,
        image_size=512,
        num_image_token=256,
        max_input_tiles=6,
        use_thumbnail=True,
        prompt_template=None,
        max_length_text=8192,
        max_length_image=2048,
        max_length_image_text=10240,
    ):
        super().__init__(tokenizer, chat_template=chat_template)
        self.image_size = image_size
        self.num_image_token = num_image_token
        self.max_input_tiles = max_input_tiles
        self.use_thumbnail = use_thumbnail
        self.prompt_template = prompt_template
        self.max_length_text = max_length_text
        self.max_length_image = max_length_image
        self.max_length_image_text = max_length_image_text
        self._reader = None

    def apply_chat_template(
        self,
        conversation,
        chat_template=None,
        tokenize=False,
        return_tensors=None,
        return_dict=False,
        processor_kwargs=None,
        **kwargs,
    ):
        """Return the prompts as texts, or the model's inputs."""
        if not tokenize:
            return super().apply_chat_template(conversation, chat_template, tokenize=False, **kwargs)
        conversations = [conversation] if isinstance(conversation[0], dict) else conversation
        most = ((processor_kwargs or {}).get("text_kwargs") or {}).get("max_length") or self.tokenizer.model_max_length
        encoded = [self._encode(*read_pair(messages), most) for messages in conversations]
        length, pad = max(len(ids) for ids, _ in encoded), self.tokenizer.pad_token_id or 0
        features = {
            "input_ids": torch.tensor([[pad] * (length - len(ids)) + ids for ids, _ in encoded]),
            "attention_mask": torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids, _ in encoded]),
        }
        tiles = [part for _, parts in encoded for part in parts]
        if tiles:
            pixels = torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255
            # As the checkpoint was trained, whatever the precision of the model.
            features["pixel_values"] = ((pixels - 0.5) / 0.5).bfloat16()
        return BatchFeature(features)

    def _encode(self, query, text, image, most):
        """Return the ids of a pair and its tiles."""
        prompt = f"question:{query} \n \n passage:" if self.prompt_template == "v1" else f"{query} \n "
        tiles, head, start = [], [], ""
        if image is not None:
            tiles = self._tiles(upright(image))
            begin, slot, end = self.tokenizer.convert_tokens_to_ids(list(IMAGE_TOKENS))
            head, start = [begin, *[slot] * (self.num_image_token * len(tiles)), end], " "
        before, after = self._special_tokens()
        limit = self.max_length_text if image is None else self.max_length_image_text if text else self.max_length_image
        room = min(limit, most) - len(before) - len(head) - len(after)
        if len(self._ids(start + prompt)) + (image is None) > room:
            raise ValueError(f"query and image do not fit in {min(limit, most)} tokens, and only a text is ever cut")
        ids = self._ids(start + prompt + text)[:room]
        return [*before, *head, *ids, *after], tiles

    def _tiles(self, image):
        """Cut an image into tiles: resized in its own mode, made RGB afterwards."""
        side, (columns, rows) = self.image_size, self._grid(*image.size)
        resized = image.resize((side * columns, side * rows))
        boxes = [(side * i, side * j, side * (i + 1), side * (j + 1)) for j in range(rows) for i in range(columns)]
        tiles = [resized.crop(box) for box in boxes]
        if self.use_thumbnail and len(tiles) > 1:
            tiles.append(image.resize((side, side)))
        return [np.asarray(tile.convert("RGB")) for tile in tiles]

    def _grid(self, width, height):
        """Return columns and rows; of equally good grids the first wins, in the order of a set."""
        most, aspect, area = self.max_input_tiles, width / height, width * height
        grids = {
            (i, j) for n in range(1, most + 1) for i in range(1, n + 1) for j in range(1, n + 1) if 1 <= i * j <= most
        }
        best, best_score = (1, 1), 0.0
        for i, j in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            ratio = i / j
            score = min(i * j * self.image_size * self.image_size / area, 0.6) * min(ratio / aspect, aspect / ratio)
            if score > best_score:
                best, best_score = (i, j), score
        return best

    def _ids(self, text):
        return self._text_reader().encode(text, add_special_tokens=False).ids

    def _special_tokens(self):
        """Return what the tokenizer puts before and behind a text."""
        encoding = self._text_reader().encode("a")
        real = [i for i, is_special in enumerate(encoding.special_tokens_mask) if not is_special]
        return encoding.ids[: real[0]], encoding.ids[real[-1] + 1 :]

    def _text_reader(self):
        """Return the tokenizer without image tokens, so that no text can write one."""
        if self._reader is None:
            stated = json.loads(self.tokenizer.backend_tokenizer.to_str())
            stated |= {"truncation": None, "padding": None}
            for token in stated["added_tokens"]:
                if token["content"] in IMAGE_TOKENS:
                    token["content"] = uuid.uuid4().hex
            self._reader = Tokenizer.from_str(json.dumps(stated))
        return self._reader


def read_pair(messages):
    """Return the query, and text and image of the document, of the messages of one pair."""
    found = {message["role"]: read_content(message["content"]) for message in messages}
    if set(found) != {"query", "document"}:
        raise ValueError(f"a pair has the roles query and document alone, not {', '.join(map(str, found))}")
    (query, picture), (text, image) = found["query"], found["document"]
    if picture is not None:
        raise ValueError("a query is a text")
    return query, text, image


def read_content(content):
    """Return the text and the image of a message."""
    if isinstance(content, str):
        return content, None
    texts = [part["text"] for part in content if part["type"] == "text"]
    images = [part["image"] for part in content if part["type"] == "image"]
    if len(texts) > 1 or len(images) > 1 or len(texts) + len(images) != len(content):
        raise ValueError("a message has one text, one image, or one of each")
    return (texts or [""])[0], (images or [None])[0]


def upright(image):
    """Open an image, turn it as EXIF says, and bring 16 bits a channel to 8."""
    image = image if isinstance(image, Image.Image) else Image.open(image)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.int64)
        shift = 8 if image.mode.startswith("I;16") or pixels.max(initial=0) > 255 else 0
        image = Image.fromarray((pixels.clip(0, 65535) >> shift).astype(np.uint8))
    return image
