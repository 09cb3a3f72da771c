"""HubSpot's two families of paths: numbered versions, and those that carry the date of their release.

https://developers.hubspot.com/docs/developer-tooling/platform/versioning: numbered versions go unsupported in September
2027; in dated ones the version stands behind the resource.
"""

import re
from typing import Final

NUMBERED: Final = "v3"
DATED: Final = "2026-09"
VERSIONS: Final = (NUMBERED, DATED)

_CRM: Final = re.compile(r"/crm/v\d/(\w+)")
_OTHER: Final = re.compile(r"/(communication-preferences)/v\d")


def versioned(path: str, version: str) -> str:
    """Give a numbered path in the family of a version.

    >>> versioned("/crm/v3/objects/contacts/batch/read", "2026-09")
    '/crm/objects/2026-09/contacts/batch/read'
    >>> versioned("/communication-preferences/v4/statuses/a%40b.co", "2026-09")
    '/communication-preferences/2026-09/statuses/a%40b.co'
    """
    if version == NUMBERED:
        return path
    return _OTHER.sub(rf"/\g<1>/{version}", _CRM.sub(rf"/crm/\g<1>/{version}", path))
