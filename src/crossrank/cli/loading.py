"""The options that say which model is loaded and how: every command that loads one takes the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from crossrank.models.checkpoint import Checkpoint
    from crossrank.reranker import Reranker

_PANEL = "Model"


class Backend(StrEnum):
    """Runtimes."""

    auto = "auto"
    openvino = "openvino"
    torch = "torch"


class Dtype(StrEnum):
    """Precisions of the arithmetic."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="A folder or a hub name; the shipped model if left out.", rich_help_panel=_PANEL
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a hub model.", rich_help_panel=_PANEL)
]
BackendOption = Annotated[Backend, typer.Option(help="The runtime.", rich_help_panel=_PANEL)]
DeviceOption = Annotated[str, typer.Option(help="As in cpu or cuda:0.", rich_help_panel=_PANEL)]
DtypeOption = Annotated[Dtype, typer.Option(help="Precision of the arithmetic.", rich_help_panel=_PANEL)]
MaxLengthOption = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of a pair, below the model's limit.", rich_help_panel=_PANEL)
]
MaxInputTilesOption = Annotated[
    int | None,
    typer.Option(min=1, help="Most tiles of an image, for models that cut images into tiles.", rich_help_panel=_PANEL),
]
NumThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; all if left out.", rich_help_panel=_PANEL)
]
LabelOption = Annotated[
    str | None,
    typer.Option(help="Which output is the score of a model with several: name or index.", rich_help_panel=_PANEL),
]
FamilyOption = Annotated[
    str | None,
    typer.Option(
        help="The model's family, where its files do not say it; see `crossrank models`.", rich_help_panel=_PANEL
    ),
]


@dataclass(frozen=True)
class LoadOptions:
    """What `Reranker.load` is told; each field is an option of a command under `takes_load_options`."""

    model: ModelOption = None
    revision: RevisionOption = None
    backend: BackendOption = Backend.auto
    device: DeviceOption = "auto"
    dtype: DtypeOption = Dtype.auto
    max_length: MaxLengthOption = None
    num_threads: NumThreadsOption = None
    label: LabelOption = None
    family: FamilyOption = None
    max_input_tiles: MaxInputTilesOption = None

    def open(self) -> Checkpoint:
        """Open the checkpoint; its weights are not loaded.

        Raises:
            RerankError: If it cannot be found, or is broken.
        """
        from crossrank.models.checkpoint import open_checkpoint

        return open_checkpoint(
            self.model,
            revision=self.revision,
            max_length=self.max_length,
            label=self._label_or_index(),
            family=self.family,
            max_input_tiles=self.max_input_tiles,
        )

    def load(self) -> Reranker:
        """Load the reranker.

        Raises:
            RerankError: If the model cannot be loaded.
        """
        from crossrank import Reranker  # brings the tokenizer and the runtime

        return Reranker.load(self.model, **self.arguments())

    def arguments(self) -> dict[str, Any]:
        """Return what `Reranker.load` is told beside the model, as plain values."""
        return {
            "revision": self.revision,
            "backend": self.backend.value,
            "device": self.device,
            "dtype": self.dtype.value,
            "max_length": self.max_length,
            "num_threads": self.num_threads,
            "label": self._label_or_index(),
            "family": self.family,
            "max_input_tiles": self.max_input_tiles,
        }

    def _label_or_index(self) -> int | str | None:
        return int(self.label) if self.label is not None and self.label.isdecimal() else self.label


def takes_load_options(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `LoadOptions`, which it receives together as `loading`.

    They stand where the parameter `loading` stands. An option that the command declares itself is its own affair: it
    is passed to the command, and the field keeps its default.

    Args:
        without: Fields that are no options of this command.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        declared = inspect.signature(command, eval_str=True)
        added = [parameter for parameter in _parameters() if parameter.name not in {*declared.parameters, *without}]

        @wraps(command)
        def with_loading(**given: Any) -> None:
            loading = LoadOptions(**{parameter.name: given.pop(parameter.name) for parameter in added})
            command(loading=loading, **given)

        parameters: list[inspect.Parameter] = []
        for parameter in declared.parameters.values():
            parameters += added if parameter.name == "loading" else [parameter.replace(kind=parameter.KEYWORD_ONLY)]
        with_loading.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what Typer reads
        return with_loading

    return decorate


def _parameters() -> Iterator[inspect.Parameter]:
    annotations = get_type_hints(LoadOptions, include_extras=True)
    for field in fields(LoadOptions):
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotations[field.name]
        )
