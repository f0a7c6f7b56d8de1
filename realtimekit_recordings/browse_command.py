"""`browse`: the catalogue in the browser."""

from __future__ import annotations

import os
import threading
import webbrowser

import click

from .api import Api
from .options import with_api
from .output import Failure


@click.command()
@with_api
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Listen on this port of 127.0.0.1. The default, 0, is any free port.",
)
@click.option("--no-open", is_flag=True, help="Only print the address; open no browser.")
def browse(api: Api, port: int, no_open: bool) -> None:
    """Open the catalogue in the browser: find, play, read, and see what is at risk.

    The command serves a page on this machine, for this machine's browser, until Ctrl-C. It calls
    the API with your AWS credentials, which the browser never sees. Each address that it prints
    lets one browser in.
    """
    try:
        from .page.server import PageServer
    except ImportError as error:
        raise Failure(
            f"The page needs the package {error.name}, which is not installed. Install it: "
            "pip install 'realtimekit-recordings[page]'"
        ) from error
    try:
        server = PageServer(api, port, _announce)
    except OSError as error:
        raise Failure(
            f"Cannot listen on port {port} of 127.0.0.1: {os.strerror(error.errno or 0)}. "
            "Choose another --port."
        ) from error
    with server:
        try:
            _show(server.address, api, no_open)
        except KeyboardInterrupt:
            # Ctrl-C is how the page is meant to end, also while a browser is still starting.
            click.echo("The page is closed.")


def _announce(address: str) -> None:
    click.echo(f"A browser was let in. To open the page in another one:\n\n  {address}\n")


def _show(address: str, api: Api, no_open: bool) -> None:
    """Tell the address, open it in a browser unless `no_open`, and wait for Ctrl-C."""
    threading.Thread(target=api.wake, daemon=True).start()
    click.echo(f"The catalogue of {api.place}:\n\n  {address}\n\nCtrl-C ends the page.")
    if not no_open and not webbrowser.open(address):
        click.echo("No browser could be opened. Open the address yourself.", err=True)
    threading.Event().wait()
