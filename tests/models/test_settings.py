import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.encoding.prompt import PromptTemplate
from crossrank.encoding.template import SequenceTemplate
from crossrank.errors import CheckpointError
from crossrank.models.settings import (
    Calibration,
    CheckpointSettings,
    CpuForm,
    Fusion,
    read_settings,
    write_settings,
)

FULL = CheckpointSettings(
    family="bert",
    template=SequenceTemplate(("[CLS]", "{instruction}{query} {document}"), instruction="{instruction}: "),
    prompt=PromptTemplate(query="search: {query}", document="{title}\n{text}"),
    max_length=256,
    pooling="cls",
    temperature=2.0,
    activation="identity",
    calibration=Calibration(slope=1.5, intercept=-0.5),
    fusion=Fusion(method="zscore", weight=0.6),
    cpu=CpuForm(weights="int8", max_abs_error=0.01),
    provenance={"recipe": "recipes/x", "metrics": {"nDCG@10": 0.5}},
)


def test_a_folder_without_the_file_has_the_defaults(tmp_path):
    assert read_settings(tmp_path) == CheckpointSettings()


@pytest.mark.parametrize("written", [FULL, CheckpointSettings()])
def test_what_is_written_is_read_again(tmp_path, written):
    write_settings(tmp_path, written)
    assert read_settings(tmp_path) == written


@settings(max_examples=30)
@given(
    slope=st.floats(min_value=1e-6, max_value=1e6),
    intercept=st.floats(allow_nan=False, allow_infinity=False),
    max_length=st.none() | st.integers(8, 100_000),
)
def test_every_number_survives_the_file(tmp_path_factory, slope, intercept, max_length):
    folder = tmp_path_factory.mktemp("settings")
    given_settings = CheckpointSettings(
        max_length=max_length, calibration=Calibration(slope=slope, intercept=intercept)
    )
    write_settings(folder, given_settings)
    assert read_settings(folder) == given_settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"max_len": 3}', "unknown key 'max_len'"),
        ('{"prompt": {"qeury": "{query}"}}', "unknown key 'prompt.qeury'"),
        ('{"calibration": {"slope": 1.0, "intercept": 0.0, "bias": 1}}', "unknown key 'calibration.bias'"),
        ('{"prompt": {"query": "no slot"}}', "must hold {query} once"),
        ('{"temperature": 0}', "temperature: Input should be greater than 0"),
        ('{"temperature": NaN}', "temperature: Input should be a finite number"),
        ('{"temperature": "1.0"}', "temperature: Input should be a valid number"),
        ('{"max_length": 3.5}', "max_length: Input should be a valid integer"),
        ('{"format_version": 2}', "format_version: Input should be 1"),
        ('{"fusion": {"method": "max", "weight": 2}}', "fusion.weight: Input should be less than or equal to 1"),
        ('{"calibration": {"slope": -1.0, "intercept": 0.0}}', "calibration.slope: Input should be greater than 0"),
        ('{"max_length": 12', "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("", "Invalid JSON"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_file_and_key(tmp_path, text, message):
    path = tmp_path / "crossrank.json"
    path.write_text(text)
    with pytest.raises(CheckpointError) as error:
        read_settings(tmp_path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_writing_replaces_in_one_step_and_leaves_nothing_behind(tmp_path, monkeypatch):
    write_settings(tmp_path, FULL)

    def fail(self: Path, target: Path) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk gone"):
        write_settings(tmp_path, CheckpointSettings())
    assert read_settings(tmp_path) == FULL
    assert [path.name for path in tmp_path.iterdir()] == ["crossrank.json"]


def test_provenance_that_is_not_json_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="provenance cannot be written"):
        write_settings(tmp_path, CheckpointSettings(provenance={"loss": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_the_file_is_plain_readable_json(tmp_path):
    write_settings(tmp_path, FULL)
    assert json.loads((tmp_path / "crossrank.json").read_text())["prompt"]["query"] == "search: {query}"
