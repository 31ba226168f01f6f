"""Hostile requests are refused or served in bounded memory, and other clients do not notice."""

from __future__ import annotations

import pytest

from tests.abuse.attack import Attack
from tests.abuse.corpus import BODIES, FRAMES, HEADS, Hostile

pytestmark = pytest.mark.abuse


@pytest.mark.parametrize("hostile", [*BODIES, *HEADS, *FRAMES], ids=lambda hostile: hostile.name)
def test_a_hostile_request_is_answered_or_closed_and_others_are_served(attack: Attack, hostile: Hostile) -> None:
    with attack.measured(hostile.name, at_most_mib=hostile.at_most_mib) as told:
        statuses = attack.attacker.statuses(hostile.request)
        told["outcome"] = " ".join(map(str, statuses[:3])) or "closed"
    assert tuple(statuses) == hostile.statuses
