"""E-mail addresses: one spelling for each, and which texts cannot be one.

Lives here: syntax alone. Must not: ask a mail server or judge whose address it is.

A regular expression in SQL decides nearly all. Only what it cannot judge (letters beyond ASCII, quotes, punycode) goes
to email-validator, as a batch of distinct values: at ten million customers the validator alone would take minutes.

The whole address is lower-cased. Strictly the part before the @ may tell capitals apart; no mailbox that a shop meets
does, and two contacts for one person are the greater harm.
"""

from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa

from .casting import clean

_ATOM: Final = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# The last label has letters alone, so an address of numbers is no domain; punycode is left to the validator.
_PLAIN: Final = rf"^{_ATOM}(\.{_ATOM})*@({_LABEL}\.)+[a-z]{{2,63}}$"
_SIZE: Final = r"^.{1,64}@.{4,255}$"
_ODD: Final = r"""[^\x00-\x7f]|"|@.*xn--"""


def spelled(raw: ir.StringValue) -> ir.StringValue:
    """Give the address as it is looked up: trimmed and in lower case; not yet known to be one."""
    return clean(raw).lower()


def normalise(texts: ir.Table) -> ir.Table:
    """Give (address, normalised) for each of the distinct `spelled` texts in `address`, null for one that is none.

    The domain comes in its ASCII form (IDNA 2008). Addresses are at most 254 characters.
    """
    punycode = r"@(.*\.)?xn--"
    plain = texts.address.re_search(_PLAIN) & ~texts.address.re_search(punycode)
    good = plain & texts.address.re_search(_SIZE) & (texts.address.length() <= 254)
    judged = texts.select(address=texts.address, normalised=good.ifelse(texts.address, ibis.null(dt.string)))
    odd = texts.filter(texts.address.re_search(_ODD)).address.to_pyarrow().to_pylist()
    if not odd:
        return judged
    answers = ibis.memtable(
        pa.table(
            {
                "address": pa.array(odd, pa.string()),
                "validated": pa.array([_validated(text) for text in odd], pa.string()),
            }
        )
    )
    odd_ones = answers.select(odd="address", validated="validated")
    return judged.left_join(odd_ones, judged.address == odd_ones.odd).select(
        "address", normalised=ibis.coalesce(judged.normalised, odd_ones.validated)
    )


def _validated(text: str) -> str | None:
    from email_validator import EmailNotValidError, validate_email

    try:
        found = validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        return None
    return f"{found.local_part}@{found.ascii_domain}".lower()
