"""Errors that nobody foresaw, as one of ours: the machine's, somebody's Ctrl-C, or a bug.

Nothing of an unforeseen error's own message is repeated where it could quote somebody's data.
"""

import errno

from ..core.errors import BugError, SegueError, StoreError


def is_interrupt(error: Exception) -> bool:
    """Whether it is DuckDB's word for Ctrl-C."""
    return type(error).__name__ == "InterruptException"


def as_ours(error: Exception) -> SegueError:
    """Give it as a StoreError when the machine lacks something, else as a BugError."""
    return of_machine(error) or bug_of(error)


def of_machine(error: Exception) -> StoreError | None:
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


def bug_of(error: Exception) -> BugError:
    """Say where it happened, without the message of an unforeseen error, which could quote somebody's data."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = "" if frame is None else f" in {_short(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}"
    return BugError(
        f"Segue has a bug: {type(error).__name__}{where}. What was stored before is untouched. "
        "Run again with SEGUE_TRACEBACK=1 and report what it prints, without personal data."
    )


def _short(path: str) -> str:
    return "/".join(path.replace("\\", "/").split("/")[-3:])
