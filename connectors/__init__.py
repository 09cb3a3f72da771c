"""One folder per ESP, one shared transport, and the emulators that stand in for the real thing."""
