"""The local Klaviyo, to run (`serve_sandbox`) or to test against (`KlaviyoEmulator`)."""

from .emulator import KlaviyoEmulator, serve_sandbox
from .settings import Settings

__all__ = ["KlaviyoEmulator", "Settings", "serve_sandbox"]
