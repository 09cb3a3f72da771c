"""Ours to theirs: traits to fields, segments to tags, as data."""
