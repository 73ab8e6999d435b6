"""Templates render as their references do; only the document is cut, and what is typed into a pair stays text."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from crossrank.encoding.pairs import CHARS_PER_TOKEN, Truncation
from crossrank.encoding.prompt import PromptTemplate
from crossrank.encoding.template import SequenceTemplate, TemplateEncoder
from crossrank.errors import CheckpointError, InputError
from crossrank.types import Document

ONE_STRING = SequenceTemplate(("question:{query} \n \n passage:{document}",), special_tokens=True)
WITH_TAIL = SequenceTemplate(("Query: {query} Document: {document} Relevant:",), special_tokens=True)
PIECES = SequenceTemplate(
    ("<s>", "{instruction}A: {query}", "\n", "B: {document}", "\n", "Yes or No?"),
    instruction="task: {instruction}\n",
    query_share=0.75,
)
QUERY = "Which planet is known as the Red Planet?"
KINDS = ["roberta", "modernbert", "xlm-roberta", "bert"]


def encoder_of(folder, template=ONE_STRING, **kwargs) -> TemplateEncoder:
    return TemplateEncoder(
        Tokenizer.from_file(str(folder / "tokenizer.json")), template, **{"max_length": 64, **kwargs}
    )


def ids_of(encoder, text) -> list[int]:
    return encoder.tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_string_has_the_ids_of_transformers_also_where_it_is_cut(kind, tiny_checkpoint, hard_pairs):
    folder = tiny_checkpoint(kind)
    encoded = encoder_of(folder).encode(hard_pairs)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i, (query, document) in enumerate(hard_pairs):
        expected = tokenizer(f"question:{query} \n \n passage:{document}", truncation=True, max_length=64)["input_ids"]
        assert encoded.input_ids[i].tolist() == expected, hard_pairs[i]
        assert encoded.lengths[i] == len(expected)
        whole = tokenizer(f"question:{query} \n \n passage:{document}")["input_ids"]
        assert encoded.truncated[i] == (len(whole) > 64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_prompt_survives_a_cut(kind, tiny_checkpoint):
    folder = tiny_checkpoint(kind)
    encoder = encoder_of(folder, WITH_TAIL)
    short, long = encoder.encode([(QUERY, "Mars."), (QUERY, "Mars is red. " * 100)]).input_ids
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert short.tolist() == tokenizer(f"Query: {QUERY} Document: Mars. Relevant:")["input_ids"]
    tail = tokenizer("a Relevant:")["input_ids"][len(tokenizer("a")["input_ids"]) - 1 :]
    assert len(long) == 64
    assert long[-len(tail) :].tolist() == tail
    whole = tokenizer(f"Query: {QUERY} Document: " + "Mars is red. " * 100)["input_ids"]
    assert long[: 64 - len(tail)].tolist() == whole[: 64 - len(tail)]


def test_pieces_are_tokenised_apart(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("roberta"), PIECES)
    ids = encoder.encode([(QUERY, "Mars.")]).input_ids[0].tolist()
    pieces = ["<s>", f"A: {QUERY}", "\n", "B: Mars.", "\n", "Yes or No?"]
    assert ids == [token for piece in pieces for token in ids_of(encoder, piece)]
    asked = encoder.with_instruction("planets only").encode([(QUERY, "Mars.")]).input_ids[0].tolist()
    pieces[1] = f"task: planets only\nA: {QUERY}"
    assert asked == [token for piece in pieces for token in ids_of(encoder, piece)]
    assert encoder.encode([(QUERY, "Mars.")]).input_ids[0].tolist() == ids, "the encoder itself has not changed"


def test_a_capped_query_is_cut_to_its_share_and_the_cut_is_reported(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("roberta"), PIECES, max_length=80)
    long_query = "Red Planet " * 100
    encoded = encoder.encode([(long_query, "Mars"), (QUERY, "Mars")])
    assert encoded.truncated.tolist() == [True, False]
    expected = ids_of(encoder, "<s>") + ids_of(encoder, f"A: {long_query}")[:60] + ids_of(encoder, "\n")
    assert encoded.input_ids[0].tolist()[: len(expected)] == expected


def test_braces_and_special_tokens_in_a_pair_are_what_the_reference_makes_of_them(tiny_checkpoint):
    folder = tiny_checkpoint("roberta")
    query, document = "{document} {query}", "{query} {instruction} </s> {0}"
    ids = encoder_of(folder).encode([(query, document)]).input_ids[0].tolist()
    reference = AutoTokenizer.from_pretrained(folder)(f"question:{query} \n \n passage:{document}")["input_ids"]
    assert ids == reference


def test_the_default_instruction_gives_way_to_the_caller(tiny_checkpoint):
    template = SequenceTemplate(("<I>: {instruction} {query} {document}",), without_instruction="find answers")
    encoder = encoder_of(tiny_checkpoint("roberta"), template)
    for instruction, shown in ((None, "find answers"), ("find {query}", "find {query}")):
        ids = encoder.with_instruction(instruction).encode([("a b", "c")]).input_ids[0].tolist()
        assert ids == ids_of(encoder, f"<I>: {shown} a b c")


def test_an_instruction_without_a_place_is_an_error(tiny_checkpoint):
    with pytest.raises(InputError, match="no place for an instruction"):
        encoder_of(tiny_checkpoint("roberta")).with_instruction("anything")
    for wrong in ("", "  ", 3):
        with pytest.raises(InputError, match="instruction must be a text"):
            encoder_of(tiny_checkpoint("roberta"), PIECES).with_instruction(wrong)


@pytest.mark.parametrize("template", [ONE_STRING, WITH_TAIL, PIECES], ids=["one string", "with tail", "pieces"])
@pytest.mark.parametrize("text", ["word " * 100_000, " " * 400_000 + "Mars is red", "ab" * 200_000])
def test_tokenising_a_prefix_of_a_huge_document_changes_nothing(template, text, tiny_checkpoint, monkeypatch):
    encoder = encoder_of(tiny_checkpoint("roberta"), template)
    seen = encoder.encode([(QUERY, text)])
    monkeypatch.setattr("crossrank.encoding.template.CHARS_PER_TOKEN", 10**9)
    whole = encoder.encode([(QUERY, text)])
    assert seen.input_ids[0].tolist() == whole.input_ids[0].tolist()
    assert seen.truncated.tolist() == whole.truncated.tolist()


def test_a_huge_document_is_not_tokenised_whole(tiny_checkpoint, monkeypatch):
    lengths = []
    real = Tokenizer.encode_batch

    class Watched:
        def __init__(self, tokenizer):
            self.tokenizer = tokenizer

        def __getattr__(self, name):
            return getattr(self.tokenizer, name)

        def encode_batch(self, texts, **kwargs):
            lengths.extend(map(len, texts))
            return real(self.tokenizer, texts, **kwargs)

    encoder = encoder_of(tiny_checkpoint("roberta"))
    encoder.tokenizer = Watched(encoder.tokenizer)
    assert encoder.encode([(QUERY, "Mars is red. " * 250_000)]).truncated[0]
    assert max(lengths) < CHARS_PER_TOKEN * 100


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=st.text(min_size=1, max_size=20), document=st.text(max_size=200), max_length=st.integers(56, 90))
@pytest.mark.parametrize("template", [ONE_STRING, WITH_TAIL, PIECES], ids=["one string", "with tail", "pieces"])
def test_a_pair_never_exceeds_the_limit_and_is_cut_only_at_the_end_of_the_document(
    template, query, document, max_length, tiny_checkpoint
):
    folder = tiny_checkpoint("roberta")
    small = encoder_of(folder, template, max_length=max_length)
    try:
        cut = small.encode([(query, document)])
    except InputError as error:
        assert "leaves no room" in str(error)
        return
    whole = encoder_of(folder, template, max_length=4000).encode([(query, document)])
    assert len(cut.input_ids[0]) <= max_length
    assert cut.truncated[0] == (whole.lengths[0] > max_length) or template is PIECES
    if not cut.truncated[0]:
        assert cut.input_ids[0].tolist() == whole.input_ids[0].tolist()


def test_titles_stand_before_the_text(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("roberta"), prompt=PromptTemplate(document="{title}: {text}"))
    ids = encoder.encode([("q", Document("red", title="Mars"))]).input_ids[0].tolist()
    assert ids[1:-1] == ids_of(encoder, "question:q \n \n passage:Mars: red")


def test_a_query_without_room_for_a_document_is_an_error(tiny_checkpoint):
    with pytest.raises(InputError, match="leaves no room for a document in max_length=64"):
        encoder_of(tiny_checkpoint("roberta")).encode([("Red Planet " * 50, "Mars")])


def test_a_lone_surrogate_is_an_error(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("roberta"))
    with pytest.raises(InputError, match="document 1 is not valid Unicode"):
        encoder.encode([("q", "fine"), ("q", "\ud800")])
    with pytest.raises(InputError, match="query 0 is not valid Unicode"):
        encoder.encode([("\ud800", "fine")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pieces": ("{query}",)}, "hold {document} once, not 0 times"),
        ({"pieces": ("{query} {query} {document}",)}, "hold {query} once, not 2 times"),
        ({"pieces": ("{query} {document}",), "without_instruction": "x"}, "needs {instruction} in a piece"),
        ({"pieces": ("{query}{instruction} {document}",), "instruction": "none"}, "once in `instruction`"),
        ({"pieces": ("{query} {document}",), "query_share": 1.5}, "query_share must be between 0 and 1"),
    ],
)
def test_a_template_that_cannot_work_is_an_error(values, message):
    with pytest.raises(CheckpointError) as error:
        SequenceTemplate(**values)
    assert message in str(error.value)


def test_a_tail_that_melts_into_the_document_is_an_error(tiny_checkpoint):
    with pytest.raises(CheckpointError, match=r"'n' right behind \{document\} melts into it"):
        encoder_of(tiny_checkpoint("roberta"), SequenceTemplate(("{query} {document}n",))).encode([("a", "b")])


def test_braces_that_are_no_slots_stay_text(tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint("roberta"), SequenceTemplate(('{"q": "{query}", "d": "{document}"}',)))
    assert encoder.encode([("x", "y")]).input_ids[0].tolist() == ids_of(encoder, json.dumps({"q": "x", "d": "y"}))


@pytest.mark.parametrize("kind", ["roberta", "bert"])
def test_a_caller_may_read_less_or_the_end_of_a_document(kind, tiny_checkpoint):
    encoder = encoder_of(tiny_checkpoint(kind), PIECES)
    document = "Mars is the fourth planet. " * 3
    head, inside = ids_of(encoder, "B:"), ids_of(encoder, f"B: {document}")[len(ids_of(encoder, "B:")) :]
    before = [token for piece in ("<s>", f"A: {QUERY}", "\n") for token in ids_of(encoder, piece)] + head
    after = [token for piece in ("\n", "Yes or No?") for token in ids_of(encoder, piece)]

    def read(**options):
        encoded = encoder.with_truncation(Truncation(**options)).encode([(QUERY, document)])
        return encoded.input_ids[0].tolist(), bool(encoded.truncated[0])

    assert read() == (before + inside + after, False)
    assert read(max_document_tokens=4) == (before + inside[:4] + after, True)
    fixed = len(before) + len(after)
    assert read(max_length=fixed + 3) == (before + inside[:3] + after, True)
    words = ids_of(encoder, "B: fourth planet. ")[len(head) :]
    assert read(max_document_tokens=len(words), keep="end") == (before + words + after, True)
    one_word, _ = read(max_query_tokens=len(ids_of(encoder, "Which")))
    assert one_word == [
        *ids_of(encoder, "<s>"),
        *ids_of(encoder, "A: Which"),
        *ids_of(encoder, "\n"),
        *head,
        *inside,
        *after,
    ]
