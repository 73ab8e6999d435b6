"""Steps that leave one output each: what is there is kept, and refused where it was made of something else."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crossrank.cli.rerank_run import fingerprint_files
from crossrank.errors import InputError


class Steps:
    """The steps of one folder; `made/NAME.json` says what each was made of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = folder / "made"
        self._made.mkdir(parents=True, exist_ok=True)

    def command(
        self, output: Path, arguments: Sequence[object], *, needs: Sequence[Path] = (), done: Path | None = None
    ) -> Path:
        """Run `crossrank ARGUMENTS`, unless it has been run to its end.

        Args:
            output: The file or folder that it writes.
            arguments: Of the command; the same ones go on with an interrupted one.
            needs: Files that it reads: where one of them has changed, the output is refused.
            done: Is there when it is complete; the output itself if None.

        Raises:
            InputError: If the output is there and was made by other arguments or of other files.
            SystemExit: With the exit code of the command, if that is not 0.
        """
        command = ["crossrank", *map(str, arguments)]

        def run() -> None:
            print(f"\n$ {shlex.join(command)}", file=sys.stderr, flush=True)
            _run([sys.executable, "-m", *command])

        return self._step(output, run, {"command": command}, needs, done or output)

    def own(self, output: Path, make: Callable[[], None], *, needs: Sequence[Path] = (), **settings: Any) -> Path:
        """Call a function that makes the output in one step, unless the output is there.

        Raises:
            InputError: If the output is there and was made under other settings or of other files.
        """
        return self._step(output, make, settings, needs, output)

    def _step(
        self, output: Path, make: Callable[[], None], how: dict[str, Any], needs: Sequence[Path], done: Path
    ) -> Path:
        name = output.relative_to(self._folder).as_posix()
        record = json.loads(json.dumps(how | {"of": {str(path): fingerprint_files([path]) for path in needs}}))
        kept = self._made / f"{name.replace('/', '-')}.json"
        if output.exists():
            before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else None
            if before != record:
                raise InputError(
                    f"{output} {_difference(before, record)}: delete it to make it anew, or name another -o"
                )
        kept.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if done.exists():
            print(f"{name} is there", file=sys.stderr)
        else:
            make()
        return output


def _difference(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    if before is None:
        return "was not made by this recipe"
    changed = [path for path, facts in now["of"].items() if before["of"].get(path) != facts]
    if changed:
        return f"was made of another {changed[0]}"
    return f"was made with other settings ({_listed(before)}, now {_listed(now)})"


def _listed(record: dict[str, Any]) -> str:
    if "command" in record:
        return shlex.join(record["command"])
    return ", ".join(f"{key} {value}" for key, value in record.items() if key != "of")


def _run(command: Sequence[str]) -> None:
    """Run a command that gets Ctrl-C and SIGTERM once, from here, and is waited for: it saves what it has.

    Raises:
        SystemExit: If it does not end with 0.
    """
    started: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: Any) -> None:
        if not started:
            raise KeyboardInterrupt
        started[0].send_signal(number)

    caught = (signal.SIGINT, signal.SIGTERM)
    # Before it starts: a signal that is caught here is the command's own again, one that a shell ignores would stay so.
    before = [signal.signal(number, forward) for number in caught]
    try:
        started.append(subprocess.Popen(command, start_new_session=True))
        code = started[0].wait()
    finally:
        for number, handler in zip(caught, before, strict=True):
            signal.signal(number, handler)
    if code:
        sys.exit(code if code > 0 else 128 - code)
