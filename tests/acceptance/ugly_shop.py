"""A shop whose exports are ugly, and the commands around its project, as the processes that people start."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..forked import forked_segue

EXPORT = {
    "kunden.csv": (
        "Kundennr;Vorname;E-Mail;Land;Kunde seit;Umsatz bisher\n"
        "K-1;Jörg;joerg@beispiel.de;Deutschland;01.02.2025;1.234,50\n"
        "K-2;Zoë;zoe@beispiel.de;Österreich;03.04.2025;7,00\n"
        "K-3;Ana;ANA@beispiel.de ;Deutschland;05.06.2025;0,99\n"
        "K-4;Ana;ana@beispiel.de;Deutschland;06.06.2025;3,00\n"
        "K-5;Ida;keine Adresse;Deutschland;06.06.2025;4,00\n"
    ),
    "bestellungen.csv": (
        "Bestellnr;Kundennr;Bestelldatum\n"
        "B-1;K-1;30.12.2025 10:00\nB-2;K-1;31.12.2025 11:30\nB-3;K-3;01.11.2025 08:00\n"
    ),
    "bestellpositionen.csv": (
        "Bestellnr;Pos;Artikelnr;Menge;Einzelpreis\n"
        "B-1;1;A-1;2;12,50\nB-1;2;A-2;1;1.099,00\nB-2;1;A-1;1;12,50\nB-3;1;A-2;1;1.099,00\n"
    ),
    "artikel.csv": (
        "Artikelnr;Bezeichnung;Warengruppe;Preis\nA-1;Becher;Küche;12,50\nA-2;Tisch;Möbel;1.099,00\n"
    ),
}
QUALITY = "quality:\n  max_rejected_share: 0.5\n"
SECRETS = {
    "MAILCHIMP_API_KEY": "0123456789abcdef0123456789abcdef-us1",
    "MAILCHIMP_AUDIENCE": "b1234567ab",
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a process left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def segue(*arguments: str | Path, env: dict[str, str] | None = None, stdin: str = "") -> Ended:
    ended = subprocess.run(
        [forked_segue(), *arguments],
        env={**{key: value for key, value in os.environ.items() if key not in SECRETS}, **(env or {})},
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "Traceback" not in ended.stderr
    return Ended(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def replaced(folder: Path, old: str, new: str) -> None:
    path = folder / "segue.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
