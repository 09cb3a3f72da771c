"""Named groups of contacts, written as rules over traits and events."""
