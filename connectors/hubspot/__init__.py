"""HubSpot: its emulator, and what tests of it share."""
