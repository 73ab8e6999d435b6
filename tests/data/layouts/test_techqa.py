import json
import tarfile

import pytest

from crossrank.data.layouts.techqa import read
from crossrank.errors import DataError, InputError

QUESTIONS = [
    {
        "QUESTION_ID": "DEV_Q000",
        "QUESTION_TITLE": "Install fails",
        "QUESTION_TEXT": "The installer stops with CRIMA1234E.",
        "DOCUMENT": "swg2",
        "ANSWER": "Free some space.",
        "ANSWERABLE": "Y",
        "DOC_IDS": ["swg1", "swg2"],
    },
    {
        "QUESTION_ID": "DEV_Q001",
        "QUESTION_TITLE": "Why?",
        "QUESTION_TEXT": "",
        "DOCUMENT": "-",
        "ANSWER": "-",
        "ANSWERABLE": "N",
        "DOC_IDS": ["swg1"],
    },
]
TECHNOTES = {
    "swg1": {"_id": "swg1", "title": "", "text": "Licences.", "metadata": {}},
    "swg2": {"_id": "swg2", "title": "CRIMA1234E", "text": "Free some space.", "metadata": {}},
}


@pytest.fixture
def unpacked(tmp_path):
    folder = tmp_path / "TechQA" / "training_and_dev"
    folder.mkdir(parents=True)
    (folder / "dev_Q_A.json").write_text(json.dumps(QUESTIONS))
    (folder / "training_dev_technotes.json").write_text(json.dumps(TECHNOTES))
    return tmp_path


def check(folder):
    contents = read(folder, config=None, split="dev", revision=None)
    assert contents.queries == {"DEV_Q000": "Install fails The installer stops with CRIMA1234E."}
    assert contents.qrels == {"DEV_Q000": {"swg2": 1}}, "the question without an answer is left out"
    assert contents.candidates == {"DEV_Q000": ["swg1", "swg2"]}
    assert [(d.id, d.title, d.text) for d in contents.documents] == [
        ("swg1", None, "Licences."),
        ("swg2", "CRIMA1234E", "Free some space."),
    ]


def test_the_folder(unpacked):
    check(unpacked)
    check(unpacked / "TechQA")


def test_the_lists_may_be_left_out(unpacked):
    contents = read(unpacked, config="corpus", split="dev", revision=None)
    assert contents.candidates is None
    assert len(list(contents.documents)) == 2
    with pytest.raises(InputError, match="no config 'de': leave it out, or write 'corpus'"):
        read(unpacked, config="de", split="dev", revision=None)


def test_the_archive(unpacked, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "TechQA.tar.gz", "w:gz") as archive:
        archive.add(unpacked / "TechQA", arcname="TechQA")
    check(packed)


def test_what_is_missing_is_named(unpacked):
    with pytest.raises(InputError, match="splits train and dev, not 'test'"):
        read(unpacked, config=None, split="test", revision=None)
    with pytest.raises(DataError, match=r"neither TechQA\.tar\.gz nor training_and_dev/training_Q_A\.json"):
        read(unpacked, config=None, split="train", revision=None)
    (unpacked / "TechQA" / "training_and_dev" / "dev_Q_A.json").write_text('[{"QUESTION_ID": "x"}]')
    with pytest.raises(DataError, match="not in the format of TechQA: KeyError"):
        read(unpacked, config=None, split="dev", revision=None)
