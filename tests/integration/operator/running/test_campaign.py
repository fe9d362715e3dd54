"""A small part of the operator's fault campaign: some plan of many changes, and some of each fault."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from tests.chaos.operator import faults
from tests.chaos.operator.campaign import Account, open_campaign

from localcluster.controlplane import ControlPlane

PLANS = 40
SLOTS = 8
CHANGES = (
    "a pool with an inline DSN is created",
    "the image changes",
    "scaled up",
    "the inline DSN is removed",
    "the broker's Secret is rotated",
    "the pool is deleted and made anew",
    "the Deployment is deleted",
    "a refused template is mended",
)


@pytest.mark.timeout(600)
def test_whatever_goes_wrong_the_cluster_ends_as_it_should(control_plane: ControlPlane) -> None:
    seed = int(os.environ.get("CELERIAC_CHAOS_SEED") or random.randrange(10**6))  # noqa: S311 -- not a secret
    account = Account(seed=seed)

    async def run() -> None:
        async with open_campaign(control_plane, slots=SLOTS) as campaign:
            plans = await campaign.learn(print, only=CHANGES)
            await campaign.run(faults.choose(plans, PLANS, seed), account, print)

    print(f"seed {seed}: once more with CELERIAC_CHAOS_SEED={seed}")
    asyncio.run(run())
    assert [f"{each.plan}: {each.failure}" for each in account.failures()] == []
    assert len(account.reached()) > PLANS / 2
