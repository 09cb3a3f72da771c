"""Klaviyo: profiles, lists, consent and events."""
