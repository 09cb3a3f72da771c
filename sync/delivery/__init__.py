"""A plan on its way to a destination: through the outbox and the gate, out by the connector, and back as outcomes."""
