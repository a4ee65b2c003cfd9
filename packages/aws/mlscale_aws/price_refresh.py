"""Today's list prices of a region, from AWS's pricing API (free of charge; needs credentials)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from mlscale.environments.machine_types import catalogue
from mlscale_aws.account import Account

# Name in prices.json -> service code, and the usage type after the region's prefix (us-east-1 has none in some
# services). As in the filters of infracost (internal/resources/aws) and the responses that its tests show, and, from
# metric_month on, in bills and price lists quoted on GitHub.
_USAGE: Final = {
    "fargate_vcpu_h": ("AmazonECS", "Fargate-vCPU-Hours:perCPU"),
    "fargate_gb_h": ("AmazonECS", "Fargate-GB-Hours"),
    "fargate_spot_vcpu_h": ("AmazonECS", "SpotUsage-Fargate-vCPU-Hours:perCPU"),
    "fargate_spot_gb_h": ("AmazonECS", "SpotUsage-Fargate-GB-Hours"),
    "eks_cluster_h": ("AmazonEKS", "AmazonEKS-Hours:perCluster"),
    "alb_h": ("AWSELB", "LoadBalancerUsage"),
    "alb_lcu_h": ("AWSELB", "LCUUsage"),
    "ipv4_h": ("AmazonVPC", "PublicIPv4:InUseAddress"),
    "transfer_out_gb": ("AWSDataTransfer", "DataTransfer-Out-Bytes"),
    "metric_month": ("AmazonCloudWatch", "CW:MetricMonitorUsage"),
    "alarm_month": ("AmazonCloudWatch", "CW:AlarmMonitorUsage"),
    "high_resolution_alarm_month": ("AmazonCloudWatch", "CW:HighResAlarmMonitorUsage"),
    "logs_gb": ("AmazonCloudWatch", "DataProcessing-Bytes"),
    "metrics_read_1000": ("AmazonCloudWatch", "CW:GMD-Metrics"),
    "transfer_zones_gb": ("AWSDataTransfer", "DataTransfer-Regional-Bytes"),
    "ecr_gb_month": ("AmazonECR", "TimedStorage-ByteHrs"),
    "disk_gb_month": ("AmazonEC2", "EBS:VolumeUsage.gp3"),
}
# How many of the API's units our price is for, where not one.
_UNITS: Final = {"metrics_read_1000": 1000}
_FAMILY: Final = {"AWSELB": "Load Balancer-Application", "AmazonEC2": "Storage"}
# The pricing API is offered in a few regions only, and answers for all.
PRICING_REGION: Final = "us-east-1"


def refreshed(table: Mapping[str, Any], pricing: Account, there: Account) -> tuple[dict[str, Any], list[str]]:
    """The prices of a region, and the names of those that the API did not give, which stay as they are.

    Args:
        table: the region's known prices, as in prices.json, or another region's. pricing: the account in
            `PRICING_REGION`; there: in the region.

    Raises:
        MlscaleError: AWS refuses, or there are no credentials.
    """
    now = datetime.now(UTC)
    new: dict[str, Any] = {}
    for name, (service, usage) in _USAGE.items():
        usd = _of_usage(pricing, service, usage, there.region)
        if usd is not None:
            new[name] = _entry(round(usd * _UNITS.get(name, 1), 9), now, "the pricing API")
    types = [kind.name for kind in catalogue().types.values() if kind.on_ec2]
    on_demand = {name: _of_instance(pricing, name, there.region) for name in types}
    spot = _spot(there, types, now)
    if all(usd is not None for usd in on_demand.values()):
        new["instances_h"] = _entry(on_demand, now, "the pricing API, Linux, on demand")
    if set(spot) == set(types):
        new["spot_instances_h"] = _entry(spot, now, "DescribeSpotPriceHistory, Linux, mean of the zones")
    return {**table, **new}, sorted(set(table) - set(new))


def _entry(usd: Any, now: datetime, source: str) -> dict[str, Any]:
    return {"usd": usd, "date": f"{now:%Y-%m-%d}", "source": source}


def _of_usage(pricing: Account, service: str, usage: str, region: str) -> float | None:
    filters = {"regionCode": region} if service != "AWSDataTransfer" else {"fromRegionCode": region}
    if service in _FAMILY:
        filters["productFamily"] = _FAMILY[service]
    pattern = re.compile(rf"(?:[A-Z]+\d*-)?{re.escape(usage)}")
    for product in _products(pricing, service, filters):
        if pattern.fullmatch(product["product"]["attributes"]["usagetype"]):
            return _first_usd(product)
    return None


def _of_instance(pricing: Account, name: str, region: str) -> float | None:
    filters = {
        "regionCode": region,
        "instanceType": name,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    return next((_first_usd(product) for product in _products(pricing, "AmazonEC2", filters)), None)


def _products(pricing: Account, service: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    matches = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters.items()]
    yield from map(
        json.loads, pricing.listed("pricing", "get_products", "PriceList", ServiceCode=service, Filters=matches)
    )


def _first_usd(product: Mapping[str, Any]) -> float:
    """On demand, in the first tier that is not free."""
    (term,) = product["terms"]["OnDemand"].values()
    tiers = sorted(term["priceDimensions"].values(), key=lambda tier: float(tier.get("beginRange", 0)))
    prices = [float(tier["pricePerUnit"]["USD"]) for tier in tiers]
    return next((usd for usd in prices if usd > 0), 0.0)


def _spot(there: Account, types: list[str], now: datetime) -> dict[str, float]:
    rows = there.listed(
        "ec2",
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=types,
        ProductDescriptions=["Linux/UNIX"],
        StartTime=now,
    )
    by_type: dict[str, list[float]] = {}
    for row in rows:
        by_type.setdefault(row["InstanceType"], []).append(float(row["SpotPrice"]))
    return {name: round(float(np.mean(usd)), 5) for name, usd in by_type.items()}
