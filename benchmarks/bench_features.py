"""How long all traits of the full Online Retail data take, against the same traits in hand-written DuckDB SQL.

Both start from the canonical tables as Parquet files and end with the traits as a Parquet file. Each build runs in a
process of its own, is timed after imports, and takes turns with the other; the fastest of each is compared, being the
least disturbed by whatever else the machine does. Prints one JSON object; peaks are those of the whole process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "examples" / "online_retail"
REFERENCE = Path(__file__).with_name("features.sql")
TABLES = ("customers", "products", "orders", "order_items", "events", "consents")
AS_OF = datetime(2011, 12, 10, tzinfo=UTC)
ZONE = "Europe/London"
ROUNDS = 5


def prepare(folder: Path) -> None:
    """Write the canonical tables of the example as Parquet files."""
    from segue.core.config import load_project
    from segue.core.data.engine import connect
    from segue.core.data.ingest import ingest

    con = connect()
    ingest(load_project(PROJECT), con, as_of=AS_OF)
    for name in TABLES:
        con.raw_sql(f"copy {name} to '{folder / name}.parquet' (format parquet, compression zstd)").fetchall()
    con.disconnect()


def load() -> None:
    """Import everything, also what Ibis imports when it is first used: a process pays for that once, not per build."""
    import ibis

    import segue.core.features.compute  # noqa: F401  (only to have it loaded)
    from segue.core.data.engine import connect

    con = connect()
    con.to_pyarrow(ibis.literal(1))
    con.disconnect()


def build(folder: Path, as_of: datetime = AS_OF, zone: str = ZONE) -> float:
    """Compute the traits as the product does. Returns seconds."""
    from segue.core.data.canonical import CanonicalTables
    from segue.core.data.engine import connect
    from segue.core.features.compute import compute

    start = time.perf_counter()
    con = connect()
    tables = {name: con.read_parquet(str(folder / f"{name}.parquet"), table_name=name) for name in TABLES}
    view = con.create_view("features", compute(CanonicalTables(**tables), as_of, timezone=zone))
    con.raw_sql(
        f"copy (from {view.get_name()}) to '{folder}/features.parquet' (format parquet, compression zstd)"
    ).fetchall()
    seconds = time.perf_counter() - start
    con.disconnect()
    return seconds


def build_reference(folder: Path, as_of: datetime = AS_OF, zone: str = ZONE) -> float:
    """Compute them by hand. Returns seconds."""
    import duckdb

    start = time.perf_counter()
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'").fetchall()
    con.execute(f"set variable as_of = timestamptz '{as_of.isoformat()}'").fetchall()
    con.execute(f"set variable zone = '{zone}'").fetchall()
    for name in TABLES:
        con.execute(f"create view {name} as from '{folder / name}.parquet'").fetchall()
    con.execute(
        f"copy ({REFERENCE.read_text()}) to '{folder}/reference.parquet' (format parquet, compression zstd)"
    ).fetchall()
    seconds = time.perf_counter() - start
    con.close()
    return seconds


def in_child(which: str, folder: Path) -> str:
    command = [sys.executable, __file__, "--child", which, str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(which: str, folder: Path) -> tuple[float, float]:
    """Run one build in a process of its own. Returns seconds and peak megabytes."""
    answer = json.loads(in_child(which, folder))
    return answer["seconds"], answer["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("WHICH", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        which, folder = arguments.child
        if which == "prepare":
            prepare(Path(folder))
            return
        if which == "ours":
            load()
            seconds = build(Path(folder))
        else:
            import duckdb  # noqa: F401  (only to have it loaded)

            seconds = build_reference(Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # In a child as well: on Linux a process starts with its parent's peak.
        in_child("prepare", folder)
        ours, reference = [], []
        for _ in range(ROUNDS):
            ours.append(measured("ours", folder))
            reference.append(measured("reference", folder))
    seconds, peak = min(ours)[0], max(peak for _, peak in ours)
    reference_seconds, reference_peak = min(reference)[0], max(peak for _, peak in reference)
    print(
        json.dumps(
            {
                "seconds": round(seconds, 3),
                "reference_seconds": round(reference_seconds, 3),
                "ratio": round(seconds / reference_seconds, 2),
                "peak_mb": round(peak),
                "reference_peak_mb": round(reference_peak),
            }
        )
    )


if __name__ == "__main__":
    main()
