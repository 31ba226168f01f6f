"""The cost of redaction: engines that are linear in the text, and limits of what is read."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest
import re2

from tests.credentials import HARD, HEX, MIXED
from tests.domain.redacted import form_of, stored
from tests.examples import body
from trajectories.domain import credential_rules, redaction, search_text
from trajectories.domain.credential_rules import RULES
from trajectories.domain.redaction import TooManyCredentials, redact


def test_every_rule_is_run_by_an_engine_that_is_linear_in_the_text_and_is_small() -> None:
    # RE2's time is at most the length of a text times the size of the program (Cox, "Regular
    # expression matching can be simple and fast", 2007), so this is the bound of what a byte of a
    # body may cost.
    assert {type(rule.pattern) for rule in RULES} == {type(re2.compile(b"a"))}
    assert sum(rule.pattern.programsize for rule in RULES) < 10_500


@pytest.mark.parametrize("piece", HARD)
def test_a_large_body_made_to_be_slow_is_read_a_few_times_and_not_once_per_byte(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, matches = 0, 0

    class Counted:
        """Count the calls of a rule, which answers as RE2 does."""

        def __init__(self, pattern: Any) -> None:
            self.pattern = pattern

        def finditer(self, data: bytes, at: int = 0) -> Any:
            nonlocal calls, matches
            calls += at == 0
            for match in self.pattern.finditer(data, at):
                matches += 1
                yield match

        def search(self, data: bytes) -> Any:
            return self.pattern.search(data)

    groups = [
        group._replace(rules=tuple(replace(rule, pattern=Counted(rule.pattern)) for rule in group.rules))
        for group in credential_rules.GROUPS
    ]
    monkeypatch.setattr(credential_rules, "GROUPS", groups)
    data = orjson.dumps(body(error=piece * (2**17 // len(piece))))
    with suppress(TooManyCredentials):
        clean = redaction.replace(data)
        assert orjson.loads(clean.body)["phases"] == []
        assert matches >= sum(clean.found.values())  # the rules that count are those that ran
    assert calls <= 18 * len(RULES)  # of six views, three times
    assert matches <= 18 * data.count(orjson.dumps(piece)[1:-1]) + len(RULES)


@pytest.mark.parametrize("encoded", [0, 5_000, 10_000])
def test_a_record_may_have_ten_thousand_credentials_however_they_are_encoded(encoded: int) -> None:
    plain, decoded = "a://:b@ ", "a%3A%2F%2F%3Ab%40 "
    text = plain * (10_000 - encoded) + decoded * encoded
    assert sum(redact(form_of(body(error=text))).found.values()) == 10_000
    for one_more in (plain, decoded):
        with pytest.raises(TooManyCredentials):
            redact(form_of(body(error=text + one_more)))


@pytest.mark.parametrize("outside", ["; docker run -u app:group\n", "\n git checkout -b 'fix=1234567890abcdef'\n"])
def test_options_of_other_commands_are_read_up_to_a_limit(outside: str) -> None:
    alone = form_of(body(error=outside * 15_000))
    assert redact(alone) == (alone, {})
    command = f"curl https://example.com{outside}"
    given = form_of(body(error=command * 4_000))
    assert redact(given) == (given, {})
    with pytest.raises(TooManyCredentials):
        redact(form_of(body(error=command * 10_001)))


def test_options_are_found_in_each_command_and_not_between_them() -> None:
    text = "a -u a:b\ncurl a.b\ndocker -u c:d\ncurl a.b -u {0} -b {1}; docker -u e:f\ncurl -u {0} a.b\n -u g:h\n"
    given = text.format("admin:hunter2", f"sid={HEX[:32]}") * 500
    record = stored(body(error=given))
    assert record["error"] == text.format("[redacted:basic-auth]", "[redacted:cookie]") * 500


def test_lines_that_continue_a_token_are_read_up_to_a_limit() -> None:
    base64 = "eyJ" + "\n".join([MIXED[:76]] * (search_text.MAX_BREAKS // 2))
    assert stored(body(error=base64))["error"] == base64
    with pytest.raises(TooManyCredentials):
        redact(form_of(body(error=base64 + f"\n{base64}\n{MIXED[:76]}")))
    short = "ghp_a\nabcd12\n"
    assert stored(body(error=short * 4_000))["error"] == short * 4_000
    with pytest.raises(TooManyCredentials):
        redact(form_of(body(error=short * 5_000)))
