"""The price table is complete, and the pricing API (a stub of botocore's) refreshes it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.stub import Stubber

from mlscale.cost import PRICES, read_prices
from mlscale.environments.machine_types import catalogue
from mlscale.runs import MlscaleError
from mlscale_aws.account import Account
from mlscale_aws.price_refresh import refreshed
from mlscale_aws.prices import prices_text

TABLE = json.loads(PRICES.read_text())
# Tasks and instances, on demand and spot, what starts and balances them, transfer.
NEEDED = {
    "fargate_vcpu_h", "fargate_gb_h", "fargate_spot_vcpu_h", "fargate_spot_gb_h", "instances_h", "spot_instances_h",
    "eks_cluster_h", "eks_auto_mode_share", "karpenter_h", "ecs_cluster_h", "alb_h", "alb_lcu_h", "ipv4_h",
    "transfer_out_gb", "transfer_free_gb", "transfer_zones_gb", "logs_gb", "metric_month",
    "high_resolution_alarm_month", "alarm_month", "metrics_read_1000", "ecr_gb_month", "disk_gb_month",
}  # fmt: skip
MAY_BE_UNKNOWN = {"fargate_spot_vcpu_h", "fargate_spot_gb_h"}


@pytest.mark.parametrize("region", TABLE["regions"])
def test_every_price_is_there_with_its_date_and_source(region: str) -> None:
    prices = TABLE["regions"][region]
    assert set(prices) == NEEDED
    for name, entry in prices.items():
        assert set(entry) == {"usd", "date", "source"}, name
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", entry["date"]), name
        assert len(entry["source"]) > 10, name
        assert (entry["usd"] is None) <= (name in MAY_BE_UNKNOWN and "not found" in entry["source"]), name
    on_ec2 = {kind.name for kind in catalogue().types.values() if kind.on_ec2}
    on_demand, spot = prices["instances_h"]["usd"], prices["spot_instances_h"]["usd"]
    assert set(on_demand) == set(spot) == on_ec2
    assert all(0 < spot[name] < on_demand[name] for name in on_ec2)
    assert {"machine_usd", "life_years", "idle_watts", "kwh_usd", "reserved_share", "source"} <= set(TABLE["local"])


def product(usage: str, *usd: str) -> str:
    tiers = {
        str(number): {"beginRange": str(100 * number), "pricePerUnit": {"USD": price}}
        for number, price in enumerate(usd)
    }
    offer = {"product": {"attributes": {"usagetype": usage}}, "terms": {"OnDemand": {"x": {"priceDimensions": tiers}}}}
    return json.dumps(offer)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")


def stubbed() -> Account:
    """An account whose answers are canned: nobody has AWS credentials here."""
    account = Account("us-east-1")
    answers, spot = Stubber(account.client("pricing")), Stubber(account.client("ec2"))
    ecs = [
        product("USE1-Fargate-ARM-vCPU-Hours:perCPU", "0.03"),
        product("USE1-Fargate-vCPU-Hours:perCPU", "0.05"),
        product("USE1-Fargate-GB-Hours", "0.006"),
        product("USE1-SpotUsage-Fargate-vCPU-Hours:perCPU", "0.02"),
    ]
    for _ in range(4):
        answers.add_response("get_products", {"PriceList": ecs})
    answers.add_response("get_products", {"PriceList": [product("USE1-AmazonEKS-Hours:perCluster", "0.11")]})
    balancer = [product("Outposts-LCUUsage", "0"), product("LCUUsage", "0.009"), product("LoadBalancerUsage", "0.03")]
    for _ in range(2):
        answers.add_response("get_products", {"PriceList": balancer})
    answers.add_response("get_products", {"PriceList": []})  # no public address
    answers.add_response("get_products", {"PriceList": [product("DataTransfer-Out-Bytes", "0", "0.08", "0.05")]})
    watched = [
        product("USE1-CW:MetricMonitorUsage", "0.31"),
        product("USE1-CW:AlarmMonitorUsage", "0.11"),
        product("USE1-CW:HighResAlarmMonitorUsage", "0.32"),
        product("USE1-DataProcessing-Bytes", "0.51"),
        product("USE1-CW:GMD-Metrics", "0.0000120000"),
    ]
    for _ in range(5):
        answers.add_response("get_products", {"PriceList": watched})
    between = [product("DataTransfer-Out-Bytes", "0.08"), product("DataTransfer-Regional-Bytes", "0.02")]
    answers.add_response("get_products", {"PriceList": between})
    answers.add_response("get_products", {"PriceList": [product("USE1-TimedStorage-ByteHrs", "0.12")]})
    answers.add_response("get_products", {"PriceList": [product("USE1-EBS:VolumeUsage.gp3", "0.09")]})
    types = [kind.name for kind in catalogue().types.values() if kind.on_ec2]
    for number, _ in enumerate(types, 1):
        answers.add_response("get_products", {"PriceList": [product("BoxUsage", f"{number}.5")]})
    answers.activate()
    rows = [{"InstanceType": name, "SpotPrice": price} for name in types for price in ("0.01", "0.03")]
    spot.add_response("describe_spot_price_history", {"SpotPriceHistory": rows})
    spot.activate()
    return account


def test_the_pricing_api_replaces_what_it_knows() -> None:
    known = TABLE["regions"]["us-east-1"]
    new, kept = refreshed(known, stubbed(), stubbed())
    assert new["fargate_vcpu_h"]["usd"] == 0.05, "not ARM's"
    assert new["fargate_spot_vcpu_h"]["usd"] == 0.02
    assert (new["alb_h"]["usd"], new["alb_lcu_h"]["usd"]) == (0.03, 0.009)
    assert new["transfer_out_gb"]["usd"] == 0.08, "the first tier that is not free"
    assert new["metrics_read_1000"]["usd"] == 0.012, "of a thousand, where the API tells of one"
    assert new["transfer_zones_gb"]["usd"] == 0.02
    names = ("metric_month", "alarm_month", "high_resolution_alarm_month", "logs_gb", "ecr_gb_month", "disk_gb_month")
    assert [new[name]["usd"] for name in names] == [0.31, 0.11, 0.32, 0.51, 0.12, 0.09]
    assert new["instances_h"]["usd"]["c7a.medium"] == 1.5
    assert new["spot_instances_h"]["usd"]["c7a.medium"] == pytest.approx(0.02)
    assert new["alb_h"]["date"] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert new["ipv4_h"] == known["ipv4_h"]
    assert {"ipv4_h", "fargate_spot_gb_h", "eks_auto_mode_share"} <= set(kept)


def test_a_refusal_is_one_sentence() -> None:
    account = Account("us-east-1")
    refusing = Stubber(account.client("pricing"))
    refusing.add_client_error("get_products", "AccessDeniedException", "not authorized")
    refusing.activate()
    with pytest.raises(MlscaleError, match="not authorized"):
        refreshed(TABLE["regions"]["us-east-1"], account, account)


def test_a_copy_can_be_edited_and_used(tmp_path: Path) -> None:
    out = tmp_path / "prices.json"
    shown = prices_text("us-east-1", None, out)
    assert "fargate_vcpu_h" in shown
    assert "local: machine_usd" in shown
    table = json.loads(out.read_text())
    shown = json.loads(prices_text("us-east-1", None, None, as_json=True))
    assert shown == {"region": "us-east-1", "aws": table["regions"]["us-east-1"], "local": table["local"]}
    table["local"]["machine_usd"] = 1400.0
    table["regions"]["mars-1"] = table["regions"]["us-east-1"]
    out.write_text(json.dumps(table))
    assert read_prices("mars-1", out).local["machine_usd"] == 1400.0
    out.write_text(json.dumps({"local": table["local"]}))
    assert read_prices(file=out).aws == read_prices().aws, "what a file lacks is the shipped table's"
