"""What a fleet's gateways have measured, as advice takes it."""

from __future__ import annotations

import ssl
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from prometheus_client.parser import text_string_to_metric_families

from paceline.cluster.advice import DrafterLoad, VerifierLoad, drafters_wanted, verifiers_wanted
from paceline.cluster.local import operator_identity
from paceline.cluster.ray.spec import workers_of
from paceline.cluster.topology import MODEL_KINDS, Topology

PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Reading:
    """Of all gateways at one time."""

    sessions: Mapping[str, float]
    """By worker's key; each gateway knows of those of the others."""
    capacity: Mapping[str, float]
    """Sessions that it takes, likewise; 0 where no gateway has asked it yet."""
    waiting: Mapping[str, float]
    """Requests, by model."""
    step_seconds: float
    """Since the gateways have started, as all counters of theirs."""
    wait_seconds: float


def fetch(topology: Topology, address: str) -> str:
    """The metrics of the gateway at this HTTP address; raises ``OSError``."""
    identity, context = operator_identity(topology), None
    if identity:
        context = ssl.create_default_context(cafile=identity.ca)
        context.load_cert_chain(identity.certificate, identity.key)
    url = f"{'https' if identity else 'http'}://{address}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS, context=context) as reply:  # noqa: S310 - our own
        text: bytes = reply.read()
    return text.decode()


def read(texts: Sequence[str]) -> Reading:
    """What they say together."""
    sessions, capacity = defaultdict[str, float](float), defaultdict[str, float](float)
    waiting, seconds = defaultdict[str, float](float), defaultdict[str, float](float)
    families = (family for text in texts for family in text_string_to_metric_families(text))
    for sample in (sample for family in families for sample in family.samples):
        name, labels, value = sample.name, sample.labels, sample.value
        for gauge, by_worker in (("paceline_sessions", sessions), ("paceline_worker_capacity", capacity)):
            if name == gauge:
                key = f"{labels['role']}/{labels['worker']}"
                by_worker[key] = max(by_worker[key], value)
        if name == "paceline_waiting_requests":
            waiting[labels["model"]] += value
        seconds[name] += value
    steps, waits = (seconds[f"paceline_{name}_seconds_total"] for name in ("step", "verifier_wait"))
    return Reading(sessions, capacity, waiting, steps, waits)


def advise(topology: Topology, readings: Sequence[Reading]) -> dict[str, int]:
    """Replicas by pool, where there should be others than there are; ``readings`` are the latest ones.

    Of a pool of which not all are there yet nothing is said: what it cannot do without them is no reason for more.
    """
    return {**_verifiers(topology, readings), **_drafters(topology, readings)}


def _verifiers(topology: Topology, readings: Sequence[Reading]) -> dict[str, int]:
    advice = {}
    for name, pool in topology.verifiers.items():
        workers = _workers(topology, f"verifiers.{name}", readings)
        models = [model.id for model in topology.models if model.verifiers == name]
        if not workers or len(models) != 1:  # replicas of several models are not one pool's
            continue
        load = VerifierLoad(
            pool.replicas,
            fmean(_sum(reading.sessions, workers) for reading in readings),
            min(_sum(reading.capacity, workers) for reading in readings),
            fmean(_sum(reading.waiting, models) for reading in readings),
        )
        if (wanted := verifiers_wanted(load)) != pool.replicas:
            advice[f"verifiers.{name}"] = wanted
    return advice


def _drafters(topology: Topology, readings: Sequence[Reading]) -> dict[str, int]:
    """Of those that run a model; others are never what one waits for."""
    steps = readings[-1].step_seconds - readings[0].step_seconds
    waits = readings[-1].wait_seconds - readings[0].wait_seconds
    if steps <= 0 or waits < 0:  # nothing was said, or a gateway has started again
        return {}
    advice = {}
    for name, pool in topology.drafters.items():
        served = {model.verifiers for model in topology.models if name in model.drafters}
        verifiers = [topology.verifiers[each] for each in served]
        price = sum(each.replicas * each.price_per_hour for each in verifiers)
        if pool.kind in MODEL_KINDS and _workers(topology, f"drafters.{name}", readings):
            load = DrafterLoad(pool.replicas, waits / (steps + waits), pool.price_per_hour, price)
            if (wanted := drafters_wanted(load)) != pool.replicas:
                advice[f"drafters.{name}"] = wanted
    return advice


def _workers(topology: Topology, pool: str, readings: Sequence[Reading]) -> list[str]:
    """Keys of all of a pool; none if one of them was missing at a time."""
    keys = [spec.key for spec in workers_of(topology) if spec.pool == pool]
    return keys if all(reading.capacity.get(key) for reading in readings for key in keys) else []


def _sum(values: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(values.get(name, 0.0) for name in names)
