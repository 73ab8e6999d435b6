import json
import multiprocessing
import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.data.groups.build import open_groups
from crossrank.data.groups.config import parse_data_config
from crossrank.errors import DataError


def texts(group):
    return [document.text for document in group.documents]


def row(name, *, positives=("p",), negatives=(), query=None):
    return {
        "query_id": name,
        "query": query or f"query {name}",
        "positives": [f"{name} {text}" for text in positives],
        "negatives": [f"{name} {text}" for text in negatives],
    }


@pytest.fixture
def groups(folder, opened):
    def build(rows, **config):
        return opened(str(folder(**{"a.jsonl": rows}) / "a.jsonl"), **config)

    return build


def by_id(dataset, epoch=0):
    return {group.query_id: group for group in (dataset.sample(i, epoch=epoch) for i in range(len(dataset)))}


def test_positives_come_first_then_the_first_negatives(groups):
    group = groups([row("q", negatives="abcdef")], negatives={"num": 3}).sample(0, epoch=0)
    assert (group.query_id, group.query, group.teacher_scores) == ("q", "query q", None)
    assert texts(group) == ["q p", "q a", "q b", "q c"] and group.labels == (1, 0, 0, 0)


def test_positives_take_turns(groups):
    dataset = groups([row("q", positives="xyz", negatives="abc")], negatives={"num": 1})
    assert [texts(dataset.sample(0, epoch=epoch))[0] for epoch in range(4)] == ["q x", "q y", "q z", "q x"]
    dataset = groups([row("q", positives="xyz", negatives="abc")], negatives={"num": 1}, num_positives=2)
    assert [texts(dataset.sample(0, epoch=epoch))[:2] for epoch in range(2)] == [["q x", "q y"], ["q z", "q x"]]
    assert dataset.sample(0, epoch=0).labels == (1, 1, 0)


def test_a_group_with_fewer_positives_gets_more_negatives(groups):
    dataset = groups([row("q", negatives="abc")], negatives={"num": 1}, num_positives=3)
    assert dataset.num_passages == 4
    assert texts(dataset.sample(0, epoch=0)) == ["q p", "q a", "q b", "q c"]


def test_negatives_rotate_through_epochs(groups):
    dataset = groups([row("q", negatives="abcde")], negatives={"num": 2, "sampling": "rotate"})
    assert [texts(dataset.sample(0, epoch=e))[1:] for e in range(3)] == [["q a", "q b"], ["q c", "q d"], ["q e", "q a"]]


def test_too_few_negatives_are_filled_up_from_other_queries(groups):
    rows = [row("q", negatives="a"), *(row(f"o{i}", negatives="bc") for i in range(20))]
    dataset = groups(rows, negatives={"num": 4})
    filled = by_id(dataset)["q"]
    assert texts(filled)[:2] == ["q p", "q a"] and filled.labels == (1, 0, 0, 0, 0)
    assert len(set(texts(filled))) == 5 and all(text.startswith("o") for text in texts(filled)[2:])
    assert texts(by_id(dataset, epoch=1)["q"])[2:] != texts(filled)[2:]


def test_too_few_negatives_are_an_error_where_that_is_wanted(groups):
    rows = [row("q", negatives="a"), row("r", negatives="abcd")]
    with pytest.raises(DataError, match=r"a\.jsonl:1: 1 negatives, 4 are wanted \(in all: 1 too few negatives"):
        groups(rows, negatives={"num": 4, "when_too_few": "error"})
    dataset = groups(rows, negatives={"num": 4, "when_too_few": "error"}, on_bad_row="drop")
    assert list(by_id(dataset)) == ["r"]


def test_nothing_is_repeated_when_there_is_nothing_to_fill_up_with(groups):
    dataset = groups([row("q", negatives="a"), row("r")])
    with pytest.raises(DataError, match=r"has [01] negatives and [12] documents of other queries, 4 are wanted"):
        dataset.sample(0, epoch=0)


def test_a_positive_of_the_same_query_in_another_row_is_no_negative(groups):
    rows = [
        {"query_id": "1", "query": "Same?", "positives": ["a"], "negatives": ["b", "c"]},
        {"query_id": "2", "query": "same?", "positives": ["b"], "negatives": ["c", "d"]},
        {"query_id": "3", "query": "other", "positives": ["B "], "negatives": ["A", "x", "y"]},
    ]
    dataset = groups(rows, negatives={"num": 3}, on_bad_row="drop")
    for epoch in range(10):
        sampled = by_id(dataset, epoch)
        for name in "12":
            assert not {text.strip().lower() for text in texts(sampled[name])[1:]} & {"a", "b"}


def test_nor_is_a_positive_of_the_same_query_in_another_source(folder, opened):
    root = folder(
        **{
            "a.jsonl": [{"query_id": "a", "query": "Same?", "positives": ["a"], "negatives": ["b", "c", "d"]}],
            "b.jsonl": [{"query_id": "b", "query": "same?", "positives": ["b"], "negatives": ["x", "y"]}],
        }
    )
    dataset = opened(f"{root}/a.jsonl", f"{root}/b.jsonl", negatives={"num": 3})
    assert texts(by_id(dataset)["a"])[:3] == ["a", "c", "d"]
    assert sorted(texts(by_id(dataset)["b"])[:3]) == ["b", "x", "y"]
    assert not {"a", "b"} & {text for group in by_id(dataset).values() for text in texts(group)[1:]}


def test_weights_count_how_often_a_group_comes(folder, opened):
    root = folder(
        **{"a.jsonl": [row(f"a{i}", negatives="xy") for i in range(4)], "b.jsonl": [row("b", negatives="xy")]}
    )
    sources = [{"path": f"{root}/a.jsonl", "weight": 0.5}, {"path": f"{root}/b.jsonl", "weight": 3.0}]
    dataset = opened(*sources, negatives={"num": 1, "sampling": "rotate"})
    assert len(dataset) == 2 + 3
    first, second = ([dataset.sample(i, epoch=e) for i in range(5)] for e in range(2))
    names = [[group.query_id for group in epoch] for epoch in (first, second)]
    assert {*names[0][:2], *names[1][:2]} == {"a0", "a1", "a2", "a3"}  # one half, then the other
    assert names[0][2:] == names[1][2:] == ["b"] * 3
    assert [texts(group)[1] for group in first[2:] + second[2:]] == ["b x", "b y"] * 3  # it goes on rotating


def test_num_samples_draws_once_by_the_seed(folder, opened):
    root = folder(**{"a.jsonl": [row(f"a{i}", negatives="wxyz") for i in range(30)]})

    def names(epoch=0, **config):
        return list(by_id(opened({"path": f"{root}/a.jsonl", "num_samples": 10}, **config), epoch))

    assert len(names()) == 10 and names() == names(epoch=3)
    assert set(names()) != set(names(seed=1))


def test_a_full_group_has_all_documents(groups):
    group = groups([row("q", positives="xy", negatives="abcdef")], negatives={"num": 1}).full(0)
    assert texts(group) == [f"q {name}" for name in "xyabcdef"] and group.labels == (1, 1, 0, 0, 0, 0, 0, 0)


def test_an_index_out_of_range(groups):
    dataset = groups([row("q", negatives="abcd")])
    for index in (-1, 1):
        with pytest.raises(IndexError):
            dataset.sample(index, epoch=0)


def test_workers_that_were_forked_or_spawned_draw_the_same(groups):
    dataset = groups([row(f"q{i}", negatives="ab") for i in range(30)], negatives={"num": 4, "sampling": "random"})
    here = [texts(dataset.sample(i, epoch=2)) for i in range(10)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_draw, [(dataset, i) for i in range(10)]) == here
    again = pickle.loads(pickle.dumps(dataset))
    assert [texts(again.sample(i, epoch=2)) for i in reversed(range(10))] == here[::-1]
    assert len(pickle.dumps(dataset)) < 5000


def _draw(dataset, index):
    return texts(dataset.sample(index, epoch=2))


calls = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5)), min_size=1, max_size=20)


@settings(max_examples=30, deadline=None)
@given(calls, st.sampled_from(["top", "random", "mixed", "rotate"]))
def test_what_was_drawn_before_does_not_matter(calls, sampling):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("".join(json.dumps(row(f"q{i}", negatives="abcdef"[: 2 * i % 7])) + "\n" for i in range(8)))
        values = {"train": [str(path)], "negatives": {"num": 3, "sampling": sampling}, "cache_dir": folder}
        dataset = open_groups(parse_data_config(values)).train
        for index, epoch in calls:
            fresh = pickle.loads(pickle.dumps(dataset))
            assert dataset.sample(index, epoch=epoch) == fresh.sample(index, epoch=epoch)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.floats(0.2, 3.0), st.integers(1, 6))
def test_a_weighted_source_gives_its_groups_equally_often(num_groups, weight, epochs):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("".join(json.dumps(row(f"q{i}", negatives="ab")) + "\n" for i in range(num_groups)))
        values = {"train": [{"path": str(path), "weight": weight}], "negatives": {"num": 2}, "cache_dir": folder}
        dataset = open_groups(parse_data_config(values)).train
        assert len(dataset) == max(1, round(weight * num_groups))
        counts = dict.fromkeys((f"q{i}" for i in range(num_groups)), 0)
        for epoch in range(epochs):
            for index in range(len(dataset)):
                counts[dataset.sample(index, epoch=epoch).query_id] += 1
        assert max(counts.values()) - min(counts.values()) <= 1


words = st.sampled_from("abcdefghij")
rows = st.lists(
    st.fixed_dictionaries(
        {
            "query": words.map(lambda word: f"query {word}"),
            "positives": st.lists(words, min_size=1, max_size=3),
            "negatives": st.lists(words, max_size=6),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(1, 3), st.sampled_from(["top", "random", "mixed", "rotate"]), st.integers(0, 3))
def test_never_a_positive_among_the_negatives_and_never_a_document_twice(rows, num, sampling, epoch):
    """Whatever is in the file: contradictions inside a row, between rows of a query, words shared by all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        negatives = {"num": num, "sampling": sampling}
        values = {"train": [str(path)], "negatives": negatives, "on_bad_row": "drop", "cache_dir": folder}
        dataset = open_groups(parse_data_config(values)).train
        positives = {}
        for one in rows:
            positives.setdefault(one["query"], set()).update(one["positives"])
        for index in range(len(dataset)):
            try:
                group = dataset.sample(index, epoch=epoch)
            except DataError as error:
                assert "are wanted" in str(error)
                continue
            found = texts(group)
            assert len(found) == len(set(found)) == num + 1
            assert found[0] in positives[group.query]
            assert not positives[group.query] & set(found[1:])
            assert group == dataset.sample(index, epoch=epoch)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.sampled_from(["top", "random", "mixed", "rotate"]), st.integers(0, 3))
def test_the_order_of_the_file_does_not_matter(order, sampling, epoch):
    rows = [row(f"q{i}", positives="xy", negatives="abcdef"[i:]) for i in range(6)]
    with tempfile.TemporaryDirectory() as folder:
        drawn = []
        for name, some in (("a", rows), ("b", [rows[i] for i in order])):
            path = Path(folder, f"{name}.jsonl")
            path.write_text("".join(json.dumps(one) + "\n" for one in some))
            negatives = {"num": 4, "sampling": sampling}
            values = {"train": [str(path)], "negatives": negatives, "cache_dir": folder}
            drawn.append(by_id(open_groups(parse_data_config(values)).train, epoch))
        assert drawn[0] == drawn[1]
