"""Twenty squalls over every ESP in both tempers, where CI has one of each: none may leave anything wrong behind.

Prints one JSON object; `bench_squalls.py 3` takes fewer seeds. It takes about an hour.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from time import monotonic

SEEDS = sys.argv[1] if len(sys.argv) > 1 else "20"


def main() -> None:
    started = monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "tests/chaos/test_squall.py"]
    done = subprocess.run(
        command,
        env={**os.environ, "SQUALLS": SEEDS},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", done.stdout)}
    print(
        json.dumps(
            {
                "seeds": int(SEEDS),
                "squalls": counts,
                "failed": re.findall(r"FAILED (\S+)", done.stdout),
                "seconds": round(monotonic() - started),
            }
        )
    )
    if done.returncode:
        sys.exit(1)


if __name__ == "__main__":
    main()
