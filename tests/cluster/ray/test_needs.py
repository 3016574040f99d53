"""What has no place on a cluster's nodes is found before Ray is asked, and named."""

from __future__ import annotations

import pytest

from paceline.cluster.ray.needs import Needs, Offer, check_room, drafter_needs, verifier_needs
from paceline.cluster.topology import DrafterPool, VerifierPool
from paceline.errors import FieldError

H100, L4 = Offer(cpus=32, gpus=8, accelerator="H100"), Offer(cpus=8, gpus=1, accelerator="L4")


def test_a_share_of_a_gpu_is_of_one_gpu() -> None:
    """Two GPUs have room for two shares of 0.6, and not for a third, though 1.8 are less than 2."""
    small = Needs(1, 0.6)
    two = [Offer(cpus=8, gpus=2)]
    check_room([("small", small)] * 2, two)
    with pytest.raises(FieldError, match="1 of 3 find none"):
        check_room([("small", small)] * 3, two)


def test_four_quarters_share_one_gpu() -> None:
    quarter = Needs(1, 0.25)
    check_room([("small", quarter)] * 4, [L4])
    with pytest.raises(FieldError, match="1 of 5 find none"):
        check_room([("small", quarter)] * 5, [L4])


def test_gpus_of_one_worker_are_on_one_node() -> None:
    big = Needs(1, 2, "L4", together=True)
    check_room([("big", big)], [Offer(8, 2, "L4")])
    with pytest.raises(FieldError, match="big"):
        check_room([("big", big)], [L4, L4])


def test_who_needs_a_kind_of_node_is_placed_before_those_who_do_not() -> None:
    picky, any_node = ("picky", Needs(8, 0, "L4")), ("any", Needs(8))
    check_room([any_node, picky], [L4, Offer(8)])
    check_room([any_node, picky], [Offer(8), L4])


def test_every_pool_without_a_place_is_named_with_what_it_needs_and_what_there_is() -> None:
    wanted = [("verifiers.big", Needs(1, 4, "B200")), ("drafters.small", Needs(64)), ("gateway", Needs())]
    with pytest.raises(FieldError) as raised:
        check_room(wanted, [H100, L4, L4])
    big, small = sorted(raised.value.errors, key=lambda error: error.field, reverse=True)
    assert str(big) == (
        "verifiers.big = '1 worker, B200 with 4 GPU and 1 CPU each': expected a node for each; 1 of 1 find none, "
        "since nodes have left: H100 with 8 GPU and 32 CPU; L4 with 1 GPU and 8 CPU (2 such)"
    )
    assert small.field == "drafters.small"


def test_no_nodes_are_no_room() -> None:
    with pytest.raises(FieldError, match="there are none"):
        check_room([("gateway", Needs())], [])


def test_a_pool_on_a_gpu_needs_it_and_one_on_a_cpu_does_not() -> None:
    assert verifier_needs(VerifierPool(device="cuda", tensor_parallel_size=4)) == Needs(1, 4, together=True)
    assert verifier_needs(VerifierPool(device="cuda:0", accelerator="H100")) == Needs(1, 1, "H100")
    assert verifier_needs(VerifierPool(cpus=8)) == Needs(8, 0)
    assert drafter_needs(DrafterPool("model", device="cuda", gpus=0.25, accelerator="L4")) == Needs(1, 0.25, "L4")
    assert drafter_needs(DrafterPool("ngram", gpus=0.25, cpus=0.1)) == Needs(0.1, 0)
