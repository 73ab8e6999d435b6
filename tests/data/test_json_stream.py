import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.data import json_stream
from crossrank.data.json_stream import stream_json
from crossrank.errors import DataError


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_lists_come_element_by_element_with_their_lines(tmp_path):
    text = '{"a": 1,\n "data": [\n {"x": 1},\n\n [2]\n ], "empty": [], "o": {"k": [1]}}\n'
    for name in ("f.json", "f.json.gz"):
        assert list(stream_json(write(tmp_path / name, text))) == [
            ("a", 1, 1),
            ("data", 3, {"x": 1}),
            ("data", 5, [2]),
            ("o", 6, {"k": [1]}),
        ]
    assert list(stream_json(write(tmp_path / "f.json", " [1,\n2] "))) == [(None, 1, 1), (None, 2, 2)]
    assert (
        list(stream_json(write(tmp_path / "f.json", "{}"))) == list(stream_json(write(tmp_path / "g.json", "[]"))) == []
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(values), st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
def test_pieces_of_any_size_give_what_json_gives(tmp_path_factory, elements, chunk, ascii_only, indent):
    path = tmp_path_factory.mktemp("json") / "f.json"
    write(path, json.dumps({"n": 12, "data": elements, "m": -1.5e3}, ensure_ascii=ascii_only, indent=indent))
    before = json_stream._CHUNK_BYTES
    json_stream._CHUNK_BYTES = chunk
    try:
        items = list(stream_json(path))
    finally:
        json_stream._CHUNK_BYTES = before
    assert [item.value for item in items if item.key == "data"] == elements
    assert (items[0].value, items[-1].value) == (12, -1500.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"f\.json:1: expected a JSON object or list"),
        ("7", r"f\.json:1: expected a JSON object or list"),
        ('{"a": 1,\n "b" 2}', r"f\.json:2: malformed JSON: expected ':'"),
        ('{"a": [1,\n2 3]}', r"f\.json:2: malformed JSON: expected ']'"),
        ('[{"a": 1},\n{"a": }]', r"f\.json:2: malformed JSON: Expecting value"),
        ('[1,\n"open', r"f\.json:2: malformed JSON: Unterminated string"),
        ("[1, 2", r"f\.json:1: malformed JSON: expected ']'"),
        ("{a: 1}", r"f\.json:1: malformed JSON: expected a key"),
        (r'[1, "\ud800"]', r"f\.json:1: a lone surrogate"),
        ("[1]\n[2]", r"f\.json:2: text after the end"),
        (b'["caf\xe9"]', r"f\.json:1: not valid UTF-8"),
        ("[" * 100_000, r"f\.json:1: malformed JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        list(stream_json(write(tmp_path / "f.json", text)))


def test_an_error_is_found_without_reading_the_whole_file(tmp_path):
    path = write(tmp_path / "f.json", '[{"a" 1}, "' + "x" * 1_000_000 + '"]')
    with path.open("rb") as stream:
        parser = json_stream._Parser(stream, "f.json")
        with pytest.raises(DataError, match="Expecting ':' delimiter"):
            list(parser.elements())
        assert stream.tell() < 200_000
