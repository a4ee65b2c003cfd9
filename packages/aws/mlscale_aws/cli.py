"""``mlscale prices``. Imports little, since every start of ``mlscale`` loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlscale.commands.options import AsJson


def prices(
    region: Annotated[str, typer.Option(help="AWS region")] = "us-east-1",
    file: Annotated[Path | None, typer.Option("--prices", help="your own price list; default: the shipped one")] = None,
    out: Annotated[Path | None, typer.Option(help="write a copy here, to edit")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="read the pricing API (needs AWS credentials)")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the prices of AWS and of a machine of your own, with date and source; refresh them, or copy them to edit.

    Example: mlscale prices --out my-prices.json
    """
    from mlscale_aws.prices import prices_text

    print(prices_text(region, file, out, refresh=refresh, as_json=as_json))
