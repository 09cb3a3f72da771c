"""Lets the consent machine of `tests/consent` draw many programmes, and tells what it found; and plants mistakes in it.

A programme is a few acts of people, of the shop and of Segue, with faults, killed runs and webhooks; see
`tests/consent/machine.py`. Prints one JSON object: `found` is to be empty, and `planted` says in how many programmes
each mistake was found, null where it was not. Without options a minute or two; all of it is
`bench_consent.py --seeds 20 --examples 100 --planted`, which takes some hours.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from time import monotonic

import pytest
import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.consent.accounts import KEYS, PAIRS, running_pair
from tests.consent.machine import search
from tests.consent.planted import BUGS


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--examples", type=int, default=20)
    options.add_argument("--steps", type=int, default=5)
    options.add_argument("--planted", action="store_true", help="also look for each planted mistake")
    options.add_argument("--pair", choices=PAIRS, default="mailchimp", help="the ESP of the first account")
    chosen = options.parse_args()
    if chosen.planted and chosen.pair != "mailchimp":
        options.error("the mistakes are planted in Mailchimp's connector: --planted wants --pair mailchimp")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    started, found, planted, programmes = monotonic(), {}, {}, 0
    with running_pair(chosen.pair) as accounts:
        os.environ |= {name: sandbox.key for name, sandbox in zip(KEYS, accounts, strict=True)}
        for seed in range(chosen.first, chosen.first + chosen.seeds):
            tried, said = search_for(accounts, chosen, seed, shrink=True)
            programmes += tried
            if said:
                found[seed] = said
                print(f"seed {seed}:\n{said}", file=sys.stderr, flush=True)
            for name in BUGS if chosen.planted else ():
                with pytest.MonkeyPatch.context() as patch:
                    BUGS[name](patch)
                    tried, said = search_for(accounts, chosen, seed, shrink=False)
                planted.setdefault(name, []).append(tried if said else None)
                print(f"seed {seed}, {name}: {planted[name][-1]}", file=sys.stderr, flush=True)
    report = {
        "pair": chosen.pair,
        "seeds": chosen.seeds,
        "programmes": programmes,
        "found": found,
        "planted": planted,
    }
    print(json.dumps({**report, "seconds": round(monotonic() - started)}))


def search_for(accounts, chosen, seed, *, shrink):
    """Give how many programmes were tried, and what the machine found, "" for nothing."""
    tried = []
    try:
        search(
            accounts,
            examples=chosen.examples,
            steps=chosen.steps,
            number=seed,
            shrink=shrink,
            on_begin=tried.append,
        )
    except AssertionError as error:
        return len(tried), "\n".join([str(error), *getattr(error, "__notes__", ())])
    return len(tried), ""


if __name__ == "__main__":
    main()
