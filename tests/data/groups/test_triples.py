import gzip

import pytest

from crossrank.errors import DataError, InputError

TEXTS = "red?\tMars\tVenus\ngas?\tJupiter\tBread\nred?\tMars\tPluto\nred?\tMars red\tVenus\n"
GROUPS = [
    ("red?", [("Mars", 1), ("Mars red", 1), ("Venus", 0), ("Pluto", 0)]),
    ("gas?", [("Jupiter", 1), ("Bread", 0)]),
]


def without_ids(result):
    groups, problems = result
    return [group[1:] for group in groups], problems


def test_triples_of_texts_are_gathered_by_query(folder, check):
    path = folder(**{"triples.tsv": TEXTS, "triples.tsv.gz": gzip.compress(TEXTS.encode())})
    assert without_ids(check(str(path / "triples.tsv"))) == (GROUPS, [])
    assert without_ids(check(str(path / "triples.tsv.gz"))) == (GROUPS, [])


def test_triples_of_ids_take_their_texts_from_two_files(folder, check):
    root = folder(
        **{
            "ids.tsv": "1\t10\t11\n2\t12\t13\n1\t10\t14\n1\t15\t11\n",
            "queries.tsv": "1\tred?\n2\tgas?\n",
            "collection.tsv": "10\tMars\n11\tVenus\n12\tJupiter\n13\tBread\n14\tPluto\n15\tMars red\n",
        }
    )
    files = {"queries": f"{root}/queries.tsv", "collection": f"{root}/collection.tsv"}
    groups, problems = check({"path": f"{root}/ids.tsv", **files})
    assert [group[0] for group in groups] == ["1", "2"]
    assert without_ids((groups, problems)) == (GROUPS, [])
    with pytest.raises(InputError, match="need both 'queries' and 'collection'"):
        check({"path": f"{root}/ids.tsv", "queries": f"{root}/queries.tsv"})
    # Not the texts "1", "10" and "11".
    with pytest.raises(InputError, match="every field is a number: triples of ids need 'queries' and 'collection'"):
        check(f"{root}/ids.tsv")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("9\t10\t11", "missing id 2: query '9' is not among the queries"),
        ("1\t10\t99", "missing id 2: document '99' is not in the corpus"),
        ("1 10 11", "malformed row 2: 1 fields with tabs between them, 3 are expected"),
        ("1\t10\t10", "positive among the negatives 1: 1 document"),
    ],
)
def test_a_bad_line_is_reported(folder, check, line, problem):
    files = {"ids.tsv": f"1\t10\t11\n{line}\n", "q.tsv": "1\tred?\n", "c.tsv": "10\tMars\n11\tVenus\n"}
    root = folder(**files)
    _, problems = check({"path": f"{root}/ids.tsv", "queries": f"{root}/q.tsv", "collection": f"{root}/c.tsv"})
    assert any(found.startswith(problem) for found in problems), problems


def test_a_line_that_is_not_utf8_is_reported(folder, check):
    root = folder(**{"t.tsv": b"q\tp\tn\ncaf\xe9\tp\tn\n"})
    assert check(f"{root}/t.tsv")[1] == [
        "malformed row 2: not valid UTF-8 at byte 9 of the file (0xe9); save it as UTF-8"
    ]


def test_a_missing_file_is_an_error(check, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        check(f"{tmp_path}/t.tsv")
