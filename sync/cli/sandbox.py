"""The commands that run an ESP's emulator on this machine.

Lives here: their words. Must not: emulate anything.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from .app import app

sandbox = typer.Typer(help="Run a local stand-in of an ESP, for demos, tests and your own CI.")
app.add_typer(sandbox, name="sandbox")

Port = Annotated[int, typer.Option(help="The port on this machine.", min=1, max=65535)]
Mode = Annotated[
    str,
    typer.Option(help="adversarial takes the worst where the ESP's behaviour is unknown; or permissive."),
]


@sandbox.command()
def mailchimp(port: Port = 8025, mode: Mode = "adversarial") -> None:
    """Run a local Mailchimp until Ctrl-C. Its API is at /3.0, its control page at /_control."""
    from ...connectors.mailchimp.emulator import serve_sandbox

    serve_sandbox(port, announce=_told("Mailchimp", "key sandbox-us19, audience b1234567ab"), mode=mode)


@sandbox.command()
def hubspot(port: Port = 8026, mode: Mode = "adversarial") -> None:
    """Run a local HubSpot until Ctrl-C. Its control page is at /_control."""
    from ...connectors.hubspot.emulator import serve_sandbox

    serve_sandbox(port, announce=_told("HubSpot", "token sandbox-token"), mode=mode)


@sandbox.command()
def klaviyo(port: Port = 8027, mode: Mode = "adversarial") -> None:
    """Run a local Klaviyo until Ctrl-C. Its API is at /api, its control page at /_control."""
    from ...connectors.klaviyo.emulator import serve_sandbox

    serve_sandbox(port, announce=_told("Klaviyo", "key pk_sandbox, list LSANDB"), mode=mode)


def _told(esp: str, keys: str) -> Callable[[str], None]:
    return lambda url: typer.echo(f"{esp} sandbox at {url}: {keys}. Ctrl-C stops it.")
