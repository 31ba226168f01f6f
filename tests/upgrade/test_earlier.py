"""The earlier revision is not available."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.upgrade import earlier


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_clone_without_the_revision_skips_its_tests_and_fails_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(earlier, "REVISION", "0" * 40)
    with pytest.raises(outcome, match="revision 0000000 cannot be checked out here"):
        earlier.check_out(tmp_path)
