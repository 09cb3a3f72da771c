"""The `segue` command: its start, its end and its exit codes.

Lives here: what every command shares at the process's edge. Must not: what a command does.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from ...core.errors import SegueError
from ..unforeseen import as_ours, is_interrupt
from .app import app, load_groups
from .output import show_error

INTERRUPTED = 130  # as shells say it for Ctrl-C
TERMINATED = 143  # and for SIGTERM, which cron, systemd and containers send
BROKEN_PIPE = 141  # and for `segue sql ... | head`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. Errors go to stderr as one paragraph, with --json to stdout."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    _prepare_streams(for_machines=as_json or "--csv" in given)
    told: list[int] = []  # the signal that ended us, if one did
    try:
        with _stopping(told):
            code = _run(given or ["--help"])
        sys.stdout.flush()
    except SegueError as error:
        return _tell(error, error.exit_code, as_json=as_json)
    except KeyboardInterrupt:
        return _stopped(told)
    except (BrokenPipeError, SystemExit):
        # Of ours nothing raises SystemExit; typer turns a broken pipe into one.
        _let_go_of_stdout()
        return BROKEN_PIPE
    except Exception as error:  # the edge of the program: whatever comes becomes one paragraph and a code
        if told or is_interrupt(error):  # a library that was interrupted in its midst may call it anything
            return _stopped(told)
        if os.environ.get("SEGUE_TRACEBACK"):
            raise
        unforeseen = as_ours(error)
        return _tell(unforeseen, unforeseen.exit_code, as_json=as_json)
    return _stopped(told) if told else code  # typer makes 130 of either


def _prepare_streams(*, for_machines: bool) -> None:
    """Let nothing that a command prints fail for the way that the process was started.

    With stdout or stderr closed (`>&-`) it prints to nowhere. Where the locale has no letter for something, people
    get a question mark; JSON and CSV are UTF-8 in every locale.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            in_utf8 = for_machines and name == "stdout"
            stream.reconfigure(encoding="utf-8" if in_utf8 else None, errors="replace")
        elif stream is None:
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (until the process ends)
            setattr(sys, name, nowhere)


@contextmanager
def _stopping(told: list[int]) -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that half a snapshot goes away and a lease is given back; `told` says which.

    Where Ctrl-C is ignored, as in what a shell starts behind itself, it stays so.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(told: Sequence[int]) -> int:
    return TERMINATED if signal.SIGTERM in told else INTERRUPTED


def _tell(error: SegueError, code: int, *, as_json: bool) -> int:
    try:
        show_error(error, code, as_json=as_json)
        sys.stdout.flush()
    except OSError:
        # The results could not be written, and the error about it cannot either.
        _let_go_of_stdout()
        show_error(error, code, as_json=False)
    return code


def _let_go_of_stdout() -> None:
    """Point stdout to nowhere: what it still holds must not fail again in Python's own flush at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _run(arguments: list[str]) -> int:
    from typer.exceptions import TyperException

    if any("\udc80" <= letter <= "\udcff" for argument in arguments for letter in argument):
        raise SegueError("an argument is no text in this locale. Set one of UTF-8, e.g. LC_ALL=C.UTF-8.")
    load_groups()
    try:
        result: object = app(arguments, prog_name="segue", standalone_mode=False)
    except TyperException as error:
        # Unknown commands and options: what typer says, in our form.
        said = error.format_message()
        raise SegueError(
            f"{said if said.endswith('?') else said.rstrip('.') + '.'} `segue --help` lists what there is."
        ) from None
    return result if isinstance(result, int) else 0
