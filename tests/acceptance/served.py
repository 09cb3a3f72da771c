"""`segue serve` as a process, for the tests of it and for the benchmarks."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run it from when it listens until the block ends, and see it end well unless it was killed."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("segue"), "serve", "--project", folder],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    assert "Listening" in process.stdout.readline()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in {0, 143}
        process.stdout.close()
