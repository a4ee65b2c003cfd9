"""`mlscale prices`: shows the price table, refreshes it, writes a copy to edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mlscale.cost import read_prices
from mlscale.environments.aws_cost import PRICES
from mlscale.errors import MlscaleError


def prices_command(
    region: str, file: Path | None, out: Path | None, *, refresh: bool = False, as_json: bool = False
) -> str:
    """The table as text or JSON; with ``out`` it is also written there, with ``refresh`` from AWS's pricing API.

    Raises:
        MlscaleError: something the user can fix.
    """
    lines = []
    if refresh:
        source = _merged(file)
        regions = source["regions"]
        known = regions.get(region) or next(iter(regions.values()))
        regions[region], kept = _refreshed(known, region)
        lines.append(f"not in the pricing API, kept as before: {', '.join(kept)}")
        target = out or Path("prices.json")
        _write(target, source)
        file = target
        lines.append(f"{target}: written; use it with --prices {target}")
    else:
        read_prices(region, file)
        if out is not None:
            _write(out, _merged(file))
            lines.append(f"{out}: written; edit it, and use it with --prices {out}")
    table = _merged(file)
    if as_json:
        return json.dumps({"region": region, "aws": table["regions"][region], "local": table["local"]})
    return "\n".join([_table(table, region), *lines])


def _merged(file: Path | None) -> dict[str, Any]:
    shipped = json.loads(PRICES.read_text())
    return shipped if file is None else {**shipped, **json.loads(file.read_text())}


def _refreshed(known: dict[str, Any], region: str) -> tuple[dict[str, Any], list[str]]:
    try:
        import boto3
    except ImportError as error:
        raise MlscaleError("boto3 is not installed", "--refresh", "pip install 'mlscale[aws]'") from error

    from mlscale.environments.price_refresh import PRICING_REGION, refreshed

    pricing, ec2 = boto3.client("pricing", region_name=PRICING_REGION), boto3.client("ec2", region_name=region)
    return refreshed(known, region, pricing, ec2)


def _write(file: Path, table: dict[str, Any]) -> None:
    try:
        file.write_text(json.dumps(table, indent=2) + "\n")
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(file), "choose a writable file") from error


def _table(table: dict[str, Any], region: str) -> str:
    rows = []
    for name, entry in table["regions"][region].items():
        for kind, usd in entry["usd"].items() if isinstance(entry["usd"], dict) else [("", entry["usd"])]:
            value = "unknown" if usd is None else f"{usd:g}"
            rows.append((f"{name} {kind}".strip(), value, entry["date"], entry["source"]))
    local = table["local"]
    own = {name: value for name, value in local.items() if name not in ("date", "source")}
    rows += [(f"local: {name}", f"{value:g}", local["date"], local["source"]) for name, value in own.items()]
    columns = ["price (USD; _h: an hour)", region, "of", "source"]
    return str(pd.DataFrame(rows, columns=columns).to_string(index=False, max_colwidth=110, justify="left"))
