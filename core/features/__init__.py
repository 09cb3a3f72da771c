"""Features: the traits that a build computes from facts, each defined once."""
