"""Sources become canonical tables; what is refused lands in a quarantine."""
