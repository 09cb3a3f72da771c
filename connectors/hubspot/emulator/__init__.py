"""The local HubSpot, to run (`serve_sandbox`) or to test against (`HubSpotEmulator`)."""

from .emulator import HubSpotEmulator, serve_sandbox
from .settings import Settings

__all__ = ["HubSpotEmulator", "Settings", "serve_sandbox"]
