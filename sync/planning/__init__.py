"""What a destination should become, compared with what it confirmed last. Nothing here is sent."""
