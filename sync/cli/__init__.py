"""The `segue` command: its start, its end and its exit codes.

Lives here: what every command shares at the process's edge. Must not: what a command does.
"""

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType

from ...core.errors import SegueError, StoreError
from .app import app, load_groups
from .output import show_error

INTERRUPTED = 130  # as shells say it for Ctrl-C
TERMINATED = 143  # and for SIGTERM, which cron, systemd and containers send
BROKEN_PIPE = 141  # and for `segue sql ... | head`
BUG = 70  # EX_SOFTWARE: the fault is ours


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. Errors go to stderr as one paragraph, with --json to stdout."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    _prepare_streams(for_machines=as_json or "--csv" in given)
    told: list[int] = []  # the signal that ended us, if one did
    try:
        with _terminated_like_interrupted(told):
            code = _run(given or ["--help"])
        sys.stdout.flush()
    except SegueError as error:
        return _tell(error, error.exit_code, as_json=as_json)
    except KeyboardInterrupt:
        return TERMINATED if told else INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Of ours nothing raises SystemExit; typer turns a broken pipe into one.
        _let_go_of_stdout()
        return BROKEN_PIPE
    except Exception as error:  # the edge of the program: whatever comes becomes one paragraph and a code
        if type(error).__name__ == "InterruptException":  # DuckDB's word for Ctrl-C
            return TERMINATED if told else INTERRUPTED
        if os.environ.get("SEGUE_TRACEBACK"):
            raise
        lack = _of_machine(error)
        return _tell(lack or _bug(error), lack.exit_code if lack else BUG, as_json=as_json)
    return TERMINATED if told else code  # typer makes 130 of either


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
def _terminated_like_interrupted(told: list[int]) -> Iterator[None]:
    """Let SIGTERM unwind as Ctrl-C does, so that half a snapshot goes away and a lease is given back."""

    def stop(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _of_machine(error: Exception) -> StoreError | None:
    """Say what the machine lacks, None when it lacks nothing."""
    by_engine = type(error).__module__.partition(".")[0] in {"duckdb", "_duckdb"}
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        next_step = {
            errno.ENOSPC: "Free some space and run the same command again.",
            errno.EACCES: "Give this user the right to it and run the same command again.",
            errno.EPERM: "Give this user the right to it and run the same command again.",
            errno.EROFS: "The disk is read-only: choose another `state` folder in segue.yml.",
        }.get(error.errno or 0, "What was there before is untouched.")
        return StoreError(f"{(error.strerror or type(error).__name__).lower()}{place}. {next_step}")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
        return StoreError("not enough memory for this amount of data. What was there before is untouched.")
    if type(error).__name__ == "IOException" and by_engine:
        return StoreError(
            "the database engine cannot read or write a file: the disk is full, or a file changed or is "
            "missing. Check the disk and the `state` folder, then run the same command again."
        )
    if by_engine and any(word in str(error) for word in ("Parquet", "parquet", "TProtocol")):
        return StoreError(
            "a Parquet file of the snapshot or of a plan is damaged. Run `segue build` and `segue plan` again."
        )
    return None


def _bug(error: Exception) -> SegueError:
    """Say where it happened, without the message of an unforeseen error, which could quote somebody's data."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f" in {_short(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}"
    return SegueError(
        f"Segue has a bug: {type(error).__name__}{where}. What was stored before is untouched. "
        "Run again with SEGUE_TRACEBACK=1 and report what it prints, without personal data."
    )


def _short(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-3:])
