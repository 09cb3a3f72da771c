"""The local Mailchimp, to run (`serve_sandbox`) or to test against (`MailchimpEmulator`)."""

from .account import Settings
from .emulator import MailchimpEmulator, serve_sandbox

__all__ = ["MailchimpEmulator", "Settings", "serve_sandbox"]
