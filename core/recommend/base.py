"""What a recommender is: products for each contact, in slots, each with the reason that can be printed beside it.

Lives here: the protocol and the columns of its answer. Must not: any way of choosing.
"""

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..data.canonical import MONEY, CanonicalTables

RECOMMENDATIONS: Final = ibis.schema(
    {
        "contact_id": dt.string,
        "slot": dt.int64,  # from 1, the best first, without gaps
        "product_id": dt.string,
        "name": dt.string,
        "url": dt.string,
        "image_url": dt.string,
        "price": MONEY,
        "currency": dt.string,
        "reason": dt.string,
    }
)


class Recommender(Protocol):
    """One way of choosing products. It works on sets and never pairs every contact with every product."""

    @abstractmethod
    def recommend(self, tables: CanonicalTables, profiles: ir.Table, as_of: datetime, slots: int) -> ir.Table:
        """Give rows of RECOMMENDATIONS, at most `slots` per contact of `profiles`; who gets nothing has no row.

        Nothing after `as_of` is looked at, and no contact gets a product twice.
        """

    @abstractmethod
    def caveats(self, tables: CanonicalTables) -> Sequence[str]:
        """Say in sentences what is missing in the data and so was not heeded; empty when nothing is."""
