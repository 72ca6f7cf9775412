"""A Ray of our own that does not start."""

from __future__ import annotations

import pytest
import ray

from vididi.cell_resources import Resources
from vididi.cluster import groups
from vididi.cluster.own_ray import TRIES
from vididi.errors import ResourceError


def test_what_keeps_ray_from_starting_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose cores others have: Ray 2.60 gives its node 30 s. It is tried again."""
    tried = []

    def too_late(**options: object) -> None:
        tried.append(options)
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", too_late)
    monkeypatch.setattr(groups, "checks_of_ray", lambda: [])
    said = "Ray did not start on this machine: The current node timed out .* give the same command"
    with pytest.raises(ResourceError, match=said), groups._ray([Resources()], None, 0):
        pytest.fail("nothing was started")
    assert len(tried) == TRIES
