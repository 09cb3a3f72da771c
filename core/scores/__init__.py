"""Scores per contact."""
