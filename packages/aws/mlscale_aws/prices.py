"""`mlscale prices`: shows the price table, refreshes it, writes a copy to edit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mlscale.atomic import write_text
from mlscale.cost import PRICES, price_table, region_prices
from mlscale.errors import MlscaleError


def prices_text(
    region: str, file: Path | None, out: Path | None, *, refresh: bool = False, as_json: bool = False
) -> str:
    """The table as text or JSON; with ``out`` it is also written there, with ``refresh`` from AWS's pricing API. Only
    ``file`` itself is replaced: another that exists may have been edited.

    Raises:
        MlscaleError: something the user can fix.
    """
    table = price_table(file or PRICES)
    target = out or (Path("prices.json") if refresh else None)
    if target is not None and target.exists() and not (file and target.samefile(file)):
        raise MlscaleError("the file exists already", str(target), "choose another --out, or delete it")
    lines = []
    if refresh:
        from mlscale_aws.account import Account
        from mlscale_aws.price_refresh import PRICING_REGION, refreshed

        regions = table["regions"]
        known = regions.get(region) or next(iter(regions.values()))
        regions[region], kept = refreshed(known, Account(PRICING_REGION), Account(region))
        lines.append(f"not in the pricing API, kept as before: {', '.join(kept)}")
    else:
        region_prices(region, table["regions"], file or PRICES)  # none that are needed is missing
    if target is not None:
        write_text(target, json.dumps(table, indent=2) + "\n")
        lines.append(f"{target}: written; {'' if refresh else 'edit it, and '}use it with --prices {target}")
    if as_json:
        return json.dumps({"region": region, "aws": table["regions"][region], "local": table["local"]})
    return "\n".join([_table(table, region), *lines])


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
