"""The settings of which law holds for a contact, by the country that the shop has of the person.

Their shape alone lives here, and which regime follows from a country; `core.consent` decides what a regime means.
"""

from pydantic import Field

from .consent import Regime
from .settings import Country
from .yamlfile import Section

_STRICTEST_FIRST = (Regime.DOUBLE_OPT_IN, Regime.OPT_IN, Regime.OPT_OUT)


class ConsentConfig(Section):
    """What the law asks for before a contact may be mailed."""

    regimes: dict[Country, Regime] = Field(default_factory=dict)
    """By country: opt_in, double_opt_in or opt_out. opt_in elsewhere; without a country, the strictest of these."""

    def regime_of(self, country: str | None) -> Regime:
        """Give the regime of a country.

        >>> config = ConsentConfig(regimes={"US": "opt_out", "DE": "double_opt_in"})
        >>> [config.regime_of(country).value for country in ("US", "DE", "FR", None)]
        ['opt_out', 'double_opt_in', 'opt_in', 'double_opt_in']
        """
        if country is None:
            named = {*self.regimes.values(), Regime.OPT_IN}
            return next(regime for regime in _STRICTEST_FIRST if regime in named)
        return self.regimes.get(country, Regime.OPT_IN)

    def digest(self) -> str:
        """Name these regimes: empty where there are none, equal for equal ones."""
        return "".join(f" {country}:{regime}" for country, regime in sorted(self.regimes.items()))

    @property
    def asks_nobody(self) -> bool:
        """Whether there is a country in which somebody may be mailed who was never asked."""
        return Regime.OPT_OUT in self.regimes.values()
