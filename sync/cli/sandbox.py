"""The command that runs an ESP's emulator on this machine.

Lives here: its words. Must not: emulate anything.
"""

from typing import Annotated

import typer

from .app import app

sandbox = typer.Typer(help="Run a local stand-in of an ESP, for demos, tests and your own CI.")
app.add_typer(sandbox, name="sandbox")


@sandbox.command()
def mailchimp(
    port: Annotated[int, typer.Option(help="The port on this machine.", min=1, max=65535)] = 8025,
    mode: Annotated[
        str,
        typer.Option(
            help="adversarial takes the worst where Mailchimp's behaviour is unknown; or permissive."
        ),
    ] = "adversarial",
) -> None:
    """Run a local Mailchimp until Ctrl-C. Its API is at /3.0, its control page at /_control."""
    from ...connectors.mailchimp.emulator import serve_sandbox

    serve_sandbox(
        port,
        announce=lambda url: typer.echo(
            f"Mailchimp sandbox at {url}: key sandbox-us19, audience b1234567ab. Ctrl-C stops it."
        ),
        mode=mode,
    )
