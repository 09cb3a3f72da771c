"""Klaviyo's published specification as facts: the endpoints that we use, with bodies, queries, filters and limits.

Only reading lives here. `spec.json.gz` is revision 2026-07-15 without its prose, closed against unknown keys;
`tests/connectors/klaviyo/strip_spec.py` makes it. The emulator checks bodies by it, `specification.py` judges all traffic.
"""

import gzip
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def endpoints() -> Mapping[str, Mapping[str, Any]]:
    """Give the facts by "METHOD /path": query, filters, limits, body and answers."""
    packed = Path(__file__).with_name("spec.json.gz").read_bytes()
    found: Mapping[str, Mapping[str, Any]] = json.loads(gzip.decompress(packed))["endpoints"]
    return found
