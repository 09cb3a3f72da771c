"""The settings of how long what is kept, and of what the check of privacy is to know and to accept.

Their shape alone lives here; `sync.rights` removes and checks.
"""

from datetime import timedelta

from pydantic import Field

from .settings import Duration, Text
from .yamlfile import Section


class RetentionConfig(Section):
    """How long what is kept; `segue purge` removes what is older."""

    snapshots: Duration = timedelta(days=30)
    """Snapshots but the current one; never more than seven."""
    plans: Duration = timedelta(days=30)
    """Plans and their files, but the newest that was applied to a destination: so long a run can be taken back."""
    runs: Duration = timedelta(days=400)
    """Runs and their reports, but the newest of a destination."""
    rejections: Duration = timedelta(days=180)
    """What a platform refused, since it did so last; it is tried once more after that."""
    dead_webhooks: Duration = timedelta(days=30)
    """Webhooks that were given up, with what they say."""
    engagement: Duration = timedelta(days=730)
    """Opens and clicks."""
    receipts: Duration = timedelta(days=1095)
    """Receipts of erasures; the tombstones stay."""
    audit: Duration = timedelta(days=1095)
    """Rows of the audit; what is left still proves."""


class PrivacyConfig(Section):
    """What `segue privacy check` is to know."""

    personal_data: tuple[Text, ...] = ()
    """Traits of a person (a name, an address, a birth date) that the project means to send to destinations."""
    accepted: dict[Text, Text] = Field(default_factory=dict)
    """Findings that are accepted: the rule, and why."""
