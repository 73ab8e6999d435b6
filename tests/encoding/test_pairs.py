"""Pairs are encoded as the checkpoint's tokenizer encodes them; only the document is ever cut."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from crossrank.encoding.pairs import CHARS_PER_TOKEN, PairEncoder, Truncation, concatenate, probe_frame
from crossrank.encoding.prompt import PromptTemplate
from crossrank.errors import CheckpointError, InputError
from crossrank.types import Document

KINDS = ["bert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"]


def encoder_of(folder, **kwargs) -> PairEncoder:
    return PairEncoder(Tokenizer.from_file(str(folder / "tokenizer.json")), **{"max_length": 48, **kwargs})


@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_are_those_of_transformers(kind, tiny_checkpoint, hard_pairs):
    folder = tiny_checkpoint(kind)
    encoded = encoder_of(folder).encode(hard_pairs)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i, (query, document) in enumerate(hard_pairs):
        expected = tokenizer([query], [document], truncation="only_second", max_length=48)
        assert encoded.input_ids[i].tolist() == expected["input_ids"][0], hard_pairs[i]
        if "token_type_ids" in expected:
            assert encoded.token_type_ids[i].tolist() == expected["token_type_ids"][0]


def test_only_the_document_is_cut_and_the_cut_is_reported(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("bert"), max_length=16)
    query = "Which planet is known as the Red Planet?"
    encoded = encoder.encode([(query, "Mars"), (query, "Mars is red. " * 50)])
    assert encoded.truncated.tolist() == [False, True]
    assert encoded.lengths[1] == 16
    query_ids = encoder.tokenizer.encode(query, add_special_tokens=False).ids
    assert encoded.input_ids[1].tolist()[1 : 1 + len(query_ids)] == query_ids
    assert encoded.input_ids[1][-1] == encoded.input_ids[0][-1], "the closing token survives the cut"


def test_a_document_that_just_fits_is_not_truncated(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("bert"))
    room = encoder.document_room("Mars")
    words = " ".join(["Mars"] * room)
    assert encoder.count_tokens(words) == room
    assert encoder.encode([("Mars", words), ("Mars", words + " Mars")]).truncated.tolist() == [False, True]


def test_a_query_without_room_for_a_document_is_an_error(tiny_checkpoint):
    with pytest.raises(InputError, match="leaves no room for a document in max_length=16"):
        encoder_of(tiny_checkpoint("bert"), max_length=16).encode([("Red Planet " * 20, "Mars")])


@pytest.mark.parametrize("text", ["word " * 100_000, " " * 400_000 + "Mars is red", "ab" * 200_000])
def test_tokenising_a_prefix_of_a_huge_document_changes_nothing(text, tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("roberta"))
    room = encoder.document_room("Mars")
    assert len(text) > CHARS_PER_TOKEN * room
    whole = encoder.tokenizer.encode(text, add_special_tokens=False).ids
    encoded = encoder.encode([("Mars", text)])
    start = len(encoder.frame.before) + encoder.count_tokens("Mars") + len(encoder.frame.between)
    assert encoded.input_ids[0].tolist()[start:][: min(room, len(whole))] == whole[:room]


def test_the_title_stands_before_the_text(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("bert"))
    with_title = encoder.encode([("planet", Document("is red.", title="Mars"))])
    plain = encoder.encode([("planet", "Mars is red.")])
    assert with_title.input_ids[0].tolist() == plain.input_ids[0].tolist()


def test_the_prompt_of_the_checkpoint_is_applied(tiny_checkpoint):
    folder = tiny_checkpoint("bert")
    prompt = PromptTemplate(query="planet: {query}", document="{title}: {text}")
    encoded = encoder_of(folder, prompt=prompt).encode([("Mars", Document("red", title="Mars"))])
    plain = encoder_of(folder).encode([("planet: Mars", "Mars: red")])
    assert encoded.input_ids[0].tolist() == plain.input_ids[0].tolist()


@pytest.mark.parametrize("template", [{"query": "no slot"}, {"document": "{text} {title}"}, {"document": "{text}"}])
def test_a_prompt_without_its_slots_is_an_error(template):
    with pytest.raises(CheckpointError, match="must hold"):
        PromptTemplate(**template)


def test_a_lone_surrogate_is_an_error_that_names_the_document(tiny_checkpoint):
    with pytest.raises(InputError, match="document 1 is not valid Unicode"):
        encoder_of(tiny_checkpoint("bert")).encode([("q", "fine"), ("q", "broken \ud800")])


def test_the_frame_is_read_off_the_tokenizer(tiny_checkpoint):
    folder = tiny_checkpoint("roberta")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    frame = probe_frame(tokenizer)
    name = tokenizer.id_to_token
    assert [name(i) for i in frame.before] == ["<s>"]
    assert [name(i) for i in frame.between] == ["</s>", "</s>"]
    assert [name(i) for i in frame.after] == ["</s>"]
    assert frame.num_tokens == 4


def test_an_empty_batch_of_pairs_encodes_to_nothing(tiny_checkpoint):
    encoded = encoder_of(tiny_checkpoint("bert")).encode([])
    assert len(encoded) == 0
    assert encoded.lengths.dtype == np.int64


@pytest.mark.parametrize("kind", KINDS)
def test_less_can_be_read_from_either_end(kind, tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint(kind), max_length=200)
    text = "Mars is red. Bread needs flour and an hour of rest. Paris is a city on the Seine."
    whole = encoder.tokenizer.encode(text, add_special_tokens=False).ids
    assert len(whole) > 12

    def document_ids(**wishes) -> list[int]:
        ids = encoder.with_truncation(Truncation(**wishes)).encode([("Mars", text)]).input_ids[0].tolist()
        start = len(encoder.frame.before) + encoder.count_tokens("Mars") + len(encoder.frame.between)
        return ids[start : len(ids) - len(encoder.frame.after)]

    assert document_ids(max_document_tokens=7) == whole[:7]
    assert document_ids(max_document_tokens=7, keep="end") == whole[-7:]
    assert len(encoder.with_truncation(Truncation(max_length=12)).encode([("Mars", text)]).input_ids[0]) == 12
    assert document_ids(max_length=10_000, max_document_tokens=10_000) == whole, "more than fits is what fits"


def test_a_query_is_cut_where_a_caller_asks_for_it(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("bert"))
    query = "Which planet is known as the Red Planet?"
    whole, cut = (encoder.with_truncation(Truncation(max_query_tokens=n)).encode([(query, "Mars")]) for n in (None, 3))
    assert cut.input_ids[0].tolist()[1:4] == whole.input_ids[0].tolist()[1:4]
    assert whole.lengths[0] - cut.lengths[0] == encoder.count_tokens(query) - 3


def test_the_end_of_a_long_document_has_the_tokens_of_the_whole(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("bert"))
    text = "Mars is the red planet. " * 3000 + "Bread needs flour."
    encoded = encoder.with_truncation(Truncation(keep="end", max_document_tokens=9)).encode([("Mars", text)])
    whole = encoder.tokenizer.encode(text, add_special_tokens=False).ids
    assert encoded.input_ids[0].tolist()[-10:-1] == whole[-9:]
    assert encoded.truncated.tolist() == [True]


def test_parts_are_taken_and_put_together(tiny_checkpoint, hard_pairs):
    encoder = encoder_of(tiny_checkpoint("bert"))
    whole = encoder.encode(hard_pairs)
    again = concatenate([whole[:3], whole[3:4], whole[4:]])
    assert [ids.tolist() for ids in again.input_ids] == [ids.tolist() for ids in whole.input_ids]
    assert [ids.tolist() for ids in again.token_type_ids] == [ids.tolist() for ids in whole.token_type_ids]
    assert again.lengths.tolist() == whole.lengths.tolist()
    assert again.truncated.tolist() == whole.truncated.tolist()
