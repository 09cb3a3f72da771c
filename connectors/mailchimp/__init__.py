"""Mailchimp: the connector, the patched SDK under it, and its emulator."""
