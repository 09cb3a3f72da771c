"""The ASGI application of `segue serve`."""
