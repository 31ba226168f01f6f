"""Credentials in records: which texts are found, which are not, and how the record changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rest_framework_api_key.crypto import KeyGenerator

from tests import strategies
from tests.credentials import CREDENTIALS, DISGUISES, HEX, IN_CONTEXT, MIXED, NO_CREDENTIALS, private_key
from tests.domain.redacted import form_of, stored
from tests.examples import CAMEL, REFERENCE, body, phase
from trajectories.domain import contract_types, dialects, redaction, schema
from trajectories.domain.credential_rules import KINDS
from trajectories.domain.redaction import COUNT_KEY, placeholder, redact
from trajectories.exceptions import InvalidInput
from trajectories.models import KEY_PREFIX_LENGTH

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOKEN = dict(CREDENTIALS)["github-token"]
JWT = dict(CREDENTIALS)["jwt"]


def is_stable(data: bytes) -> bool:
    """Whether a record that is exported and posted back is the same record."""
    return redact(form_of(orjson.loads(data))) == (data, {})


# Credentials.


@pytest.mark.parametrize(("kind", "credential"), CREDENTIALS, ids=[f"{k}{i}" for i, (k, _) in enumerate(CREDENTIALS)])
@pytest.mark.parametrize(
    "around", ["{}", "key={} was refused", '{{"key": "{}"}}', "line\n{}\nline", "é{}é", "\\n{}\\t"]
)
def test_a_credential_of_known_shape_is_removed_and_its_context_kept(kind: str, credential: str, around: str) -> None:
    if not credential.endswith("-----"):
        around = around.replace(
            "{}\nline", "{}\n. line"
        )  # a key that was cut off has base64 until something else comes
    record = stored(body(error=around.format(credential)))
    assert record["error"].startswith(around.format(placeholder(kind))[: around.index("{}") + len(placeholder(kind))])
    assert credential not in record["error"]
    assert MIXED[:20] not in record["error"]
    assert record["metadata"] == {COUNT_KEY: {kind: 1}}


@pytest.mark.parametrize(("kind", "before", "credential", "after"), IN_CONTEXT)
def test_only_the_announced_credential_is_removed(kind: str, before: str, credential: str, after: str) -> None:
    record = stored(body(error=before + credential + after))
    assert record["error"] == before + placeholder(kind) + after
    assert record["metadata"] == {COUNT_KEY: {kind: 1}}


@pytest.mark.parametrize("newline", ["\\\n", "\\\n    ", "^\r\n", "`\n"])
def test_an_option_of_curl_is_found_on_a_later_line_of_the_command(newline: str) -> None:
    cookie = f"sid={HEX[:32]}"
    given = (
        f"curl {newline} 'https://api.example.com' {newline}-d '{{\n}}' {newline} -u '%s' {newline} -b \"%s\" {newline}"
    )
    record = stored(body(error=given % ("admin:hunter2", cookie)))
    assert record["error"] == given % (placeholder("basic-auth"), placeholder("cookie"))


TOKENS = [(kind, text) for kind, text in CREDENTIALS if kind != "private-key"]


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("text", [HEX[:40], HEX[:64], f"sha256:{HEX[:64]}", "29243fa3-f296-5e3b-9266-7052b77cbfe9"])
def test_a_hidden_hash_is_kept(disguise: str, text: str) -> None:
    given = f"at {DISGUISES[disguise](text)} end"
    assert redaction.replace_text(given) == given


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_hidden_token_is_removed_and_its_context_kept(disguise: str) -> None:
    for kind, token in TOKENS:
        hidden = DISGUISES[disguise](token)
        record = stored(body(error=f"at {hidden} twice: {hidden} end"))
        assert record["metadata"] in ({COUNT_KEY: {kind: 2}}, {COUNT_KEY: {"jwt": 2}}), token
        assert record["error"].startswith("at ")
        assert record["error"].endswith(" end")
        assert token[-12:] not in record["error"]
        assert hidden[-20:] not in record["error"]


@pytest.mark.parametrize("start", ["\x1b]8;;", "\x9d8;;", "\\x1b]8;;", "^[]8;;", "\x1bP1;"])
def test_the_text_of_a_string_for_a_terminal_is_searched_too(start: str) -> None:
    for within in (TOKEN, TOKEN.replace("_", "%5F"), "\u200b".join((TOKEN[:9], TOKEN[9:]))):
        for after in ("\x07 end", " end", "\x1b[0m end", "\n\x1b]0;b\x07 end"):
            record = stored(body(error=f"at {start}{within}{after}"))
            assert record["error"] == f"at {start}{placeholder('github-token')}{after}"


def test_a_string_for_a_terminal_ends_in_the_text_that_it_begins_in() -> None:
    halves = {"a": f"{TOKEN[:9]}\x1b]8;;", "b": f"\x07{TOKEN[9:]}", "c": f"{TOKEN[:9]}\x1b]\\", "d": f"\x07{TOKEN[9:]}"}
    assert stored(body(metadata=halves))["metadata"] == halves


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\n    "])
@pytest.mark.parametrize("before", ["", "at\n", "printed\\n", "KEY=", "NAME_"])
def test_a_token_that_a_terminal_wrapped_is_removed_whole(before: str, newline: str) -> None:
    for kind, token in TOKENS:
        if "Q~" in token:
            continue  # it begins like a word
        wrapped = newline.join((token[: len(token) // 2], token[len(token) // 2 :]))
        after = f"{newline}then line 12{newline}2026-11-27T10:00:00Z"
        record = stored(body(error=before + wrapped + after))
        assert record["error"] == before + placeholder(kind) + after, token


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\n    "])
@pytest.mark.parametrize("before", ["", "at\n", "the key ", "Bearer "])
def test_a_key_of_this_store_is_removed_wherever_a_terminal_wrapped_it(before: str, newline: str) -> None:
    key = dict(CREDENTIALS)["trajectories-key"]
    for at in range(1, len(key)):
        given = f"{before}{key[:at]}{newline}{key[at:]}{newline}then line 12"
        record = stored(body(error=given))
        assert record["error"] == f"{before}{placeholder('trajectories-key')}{newline}then line 12", at


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\n    "])
@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [
        ("bearer-token", "Authorization: Bearer ", MIXED[:40]),
        ("azure-key", "AccountName=a;AccountKey=", MIXED[:86] + "=="),
    ],
)
def test_a_key_after_its_name_that_a_terminal_wrapped_is_removed_whole(
    kind: str, name: str, key: str, newline: str
) -> None:
    for at in (20, len(key) - 10):
        record = stored(body(error=f"{name}{key[:at]}{newline}{key[at:]}{newline}then line 12"))
        assert record["error"] == f"{name}{placeholder(kind)}{newline}then line 12"
    prose = f"The bearer{newline}account12 of AccountKey={newline}settings.json7 is here"
    assert stored(body(error=prose))["error"] == prose


def test_a_long_token_on_three_lines_is_removed_whole() -> None:
    wrapped = f"{'sk-'}ant-api03-{MIXED[:32]}\n{MIXED[:32]}\n{MIXED[:32]}"
    assert stored(body(error=f"{wrapped}\nnext"))["error"] == "[redacted:anthropic-key]\nnext"


@pytest.mark.parametrize("slash", ["\\/", "\\\\/"])
def test_a_credential_with_escaped_slashes_is_removed(slash: str) -> None:
    # As json_encode of PHP writes them.
    for kind, before, credential, after in [*IN_CONTEXT, *((kind, "", text, "") for kind, text in TOKENS)]:
        if "/" in before + credential and "curl" not in before:
            record = stored(body(error=f"at {before}{credential}{after}".replace("/", slash)))
            assert record["error"] == f"at {before}{placeholder(kind)}{after}".replace("/", slash)


def test_a_percent_encoded_announcement_announces() -> None:
    for kind, before, credential, after in IN_CONTEXT:
        record = stored(body(error="q=" + quote(before + credential + after + "\n", safe="") + "r=1"))
        assert record["metadata"] == {COUNT_KEY: {kind: 1}}, before
        assert record["error"].endswith("%0Ar=1")
        assert quote(credential, safe="") not in record["error"]


def test_a_key_that_this_store_issues_is_found_without_bearer() -> None:
    keys = [KeyGenerator(prefix_length=KEY_PREFIX_LENGTH).generate()[0] for _ in range(50)]
    found = [redaction.replace(f'key="{key}"'.encode()).body for key in keys if re.search("[0-9]", key)]
    assert set(found) == {b'key="[redacted:trajectories-key]"'}


def test_a_private_key_is_removed_whole_although_its_header_has_a_token() -> None:
    record = stored(body(error=f"before {private_key(headers=f'Comment: {TOKEN} too')}\nafter"))
    assert record["error"] == f"before {placeholder('private-key')}\nafter"
    assert record["metadata"] == {COUNT_KEY: {"private-key": 1}}


def test_every_kind_has_an_example() -> None:
    assert {kind for kind, *_ in [*CREDENTIALS, *IN_CONTEXT]} == set(KINDS)


def test_the_shape_tells_more_than_the_word_before_it() -> None:
    given = f"Authorization: Bearer {TOKEN} https://x-access-token:{TOKEN}@github.com {JWT}"
    placed = placeholder("github-token")
    assert stored(body(error=given))["error"] == (
        f"Authorization: Bearer {placed} https://x-access-token:{placed}@github.com {placeholder('jwt')}"
    )


@pytest.mark.parametrize("text", NO_CREDENTIALS)
def test_text_that_is_no_credential_is_kept(text: str) -> None:
    given = form_of(
        body(
            request_summary=text,
            project=text,
            tags=[text],
            phases=[phase(model=text, error=f"at {text}, twice")],
            metadata={"a": [text], "b": text},
        )
    )
    assert redact(given) == (given, {})


# Where it is looked for.

PLACES: list[Any] = [
    body(request_summary=TOKEN),
    body(**dict.fromkeys(("request_type", "source", "project", "error", "session_id", "trace_id"), TOKEN)),
    body(tags=[TOKEN], planned_phases=[TOKEN], external_refs={TOKEN: TOKEN}),
    body(feedback_loops=[{"from_phase": TOKEN, "to_phase": TOKEN, "reason": TOKEN}]),
    body(phases=[phase(agent=TOKEN, tools_used=["a", TOKEN], skip_reason=TOKEN, error=TOKEN)]),
    body(phases=[phase(model=TOKEN, requested_model=TOKEN, candidates=[{"model": TOKEN}])]),
    body(metadata={"a": [{"b": [TOKEN]}], TOKEN: 1, "c": {TOKEN: {TOKEN: [1.5, None]}}}),
    body(phases=[phase(metadata={"a": {"b": TOKEN}})]),
    CAMEL | {"request": TOKEN, "projectPath": TOKEN, "ownKey": {"a": TOKEN}, TOKEN: TOKEN},
    CAMEL | {"phases": [CAMEL["phases"][0] | {"error": TOKEN, "toolCalls": [TOKEN], "ownKey": TOKEN}]},
    CAMEL | {"id": TOKEN, "feedbackLoops": [{"reason": TOKEN, "ownKey": TOKEN}]},
]


@pytest.mark.parametrize("given", PLACES)
def test_no_text_of_a_record_keeps_a_credential(given: Any) -> None:
    before = form_of(given)
    after = redact(before)
    placed = placeholder("github-token").encode()
    assert TOKEN.encode() not in after.body
    assert after.found == {"github-token": before.count(TOKEN.encode())}
    assert after.body.count(placed) == before.count(TOKEN.encode())
    assert orjson.loads(after.body)["metadata"][COUNT_KEY] == after.found
    assert is_stable(after.body)


def test_a_name_next_to_its_value_announces_a_credential_in_own_data() -> None:
    secret = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYABCDEFGHIJ"
    record = stored(body(metadata={"env": {"AWS_SECRET_ACCESS_KEY": secret, "COMMIT": HEX[:40]}}))
    assert record["metadata"]["env"] == {"AWS_SECRET_ACCESS_KEY": placeholder("aws-secret-key"), "COMMIT": HEX[:40]}


def test_keys_that_were_different_credentials_keep_their_values_apart() -> None:
    keys = [TOKEN, TOKEN + "x", TOKEN + "y"]
    record = stored(body(metadata={key: number for number, key in enumerate(keys)} | {"a": 0}))
    assert [value for key, value in record["metadata"].items() if key.startswith("[redacted:")] == [0, 1, 2]
    assert is_stable(orjson.dumps(record))


def test_keys_that_become_one_placeholder_in_different_ways_keep_their_values_apart() -> None:
    hosts = ["h" * (contract_types.MAX_NAME - 13), "i" * (contract_types.MAX_NAME - 13)]
    refs = {f"https://u:x1@{host}": host for host in hosts}
    # The long key becomes shorter than the body was, and its name is still too long.
    record = stored(body(external_refs=refs, error=private_key()))
    placed = placeholder("url-password")
    assert record["external_refs"] == {placed: hosts[0], f"{placed} 2": hosts[1]}
    assert is_stable(orjson.dumps(record))


def test_a_name_that_would_become_too_long_is_replaced_whole() -> None:
    url = "https://u:x1@" + "h" * (contract_types.MAX_NAME - 13)
    given = body(project=url, external_refs={"error": url}, error=url, metadata={"project": url})
    record = stored(given)
    placed = placeholder("url-password")
    assert (record["project"], record["external_refs"]) == (placed, {"error": placed})
    assert record["error"] == record["metadata"]["project"] == url.replace("x1", placed)
    assert record["metadata"][COUNT_KEY] == {"url-password": 4}
    assert is_stable(orjson.dumps(record))


def test_the_limit_of_names_is_the_contracts() -> None:
    assert redaction.MAX_NAME == contract_types.MAX_NAME
    limited = {
        name
        for model in (schema.Trajectory, schema.Phase, schema.FeedbackLoop, schema.Candidate)
        for name, field in model.model_json_schema()["properties"].items()
        if "maxLength" in orjson.dumps(field).decode()
    }
    assert not limited & redaction.UNLIMITED


# The count.


def test_the_redaction_count_is_kept_next_to_the_clients_own_data() -> None:
    given = body(error=f"{TOKEN} {TOKEN} {JWT}", metadata={"z": 1, "a": 2, "redacted": True})
    record = stored(given)
    assert record["metadata"] == {"a": 2, "redacted": True, COUNT_KEY: {"github-token": 2, "jwt": 1}, "z": 1}
    assert list(record["metadata"]) == sorted(record["metadata"])


def test_the_redaction_count_is_unchanged_when_a_record_is_posted_back() -> None:
    once = redact(form_of(body(error=TOKEN))).body
    assert is_stable(once)
    more = orjson.loads(once)
    more["phases"].append(phase(error=f"{TOKEN} {JWT}"))
    assert stored(more)["metadata"] == {COUNT_KEY: {"github-token": 2, "jwt": 1}}


@pytest.mark.parametrize("own", [7, "many", {"jwt": 99}, {"email": 1}, None])
def test_client_data_under_the_servers_key_is_kept_until_a_redaction(own: Any) -> None:
    quiet = form_of(body(metadata={COUNT_KEY: own}))
    assert redact(quiet) == (quiet, {})
    assert stored(body(metadata={COUNT_KEY: own}, error=JWT))["metadata"] == {COUNT_KEY: {"jwt": 1}}


def test_only_kinds_of_ours_are_counted() -> None:
    given = body(error=f"[redacted:email] {JWT}")
    assert stored(given)["metadata"] == {COUNT_KEY: {"jwt": 1}}


# Invariants.


@given(strategies.trajectories | strategies.camel_trajectories)
def test_a_body_without_a_credential_is_the_same_bytes(given: dict[str, Any]) -> None:
    form = form_of(given)
    assert redact(form) == (form, {})


_PIECES = st.sampled_from(
    [credential for _, credential in CREDENTIALS]
    + [before + credential + after for _, before, credential, after in IN_CONTEXT]
    + NO_CREDENTIALS
    + [disguise(TOKEN) for disguise in DISGUISES.values()]
    + ["\x1b[32m", "\x1b[", "[0m", "\\x1b[1m", "\u200b", "\u00ad", "\x7f", "%25", "%5C", "%22", "%", "\ufe0f", "AKIA"]
    + ["\x1b]8;;", "\x9d", "\x07", "\x1b\\", "\x9c", "^[]", "^G", "^[\\", "\\e]", "\\a", "\\e\\", "\x1bP", "%1B]"]
    + ["\\n", "\n", "\\", '"', "-", "-----", "_", ".", "@", ":", "://", "%41", "a", "1", "é", " ", "bearer ", "sk-"]
)
_TEXTS = st.lists(_PIECES, max_size=6).map("".join)


@given(_TEXTS, _TEXTS, st.dictionaries(_TEXTS, _TEXTS, max_size=3))
def test_a_redacted_body_is_canonical_and_has_nothing_left_to_redact(text: str, other: str, own: Any) -> None:
    form = form_of(body(request_summary=text, error=other, phases=[phase(tools_used=[other])], metadata=own))
    once = redact(form).body
    assert form_of(orjson.loads(once)) == once
    assert is_stable(once)


@given(_TEXTS)
def test_nothing_but_texts_is_changed(text: str) -> None:
    given = REFERENCE | {"error": text, "metadata": {"n": [1, -2.5, 1e300, True, None, HEX]}}
    record = stored(given)
    record["metadata"].pop(COUNT_KEY, None)
    assert record | {"error": text} == orjson.loads(form_of(given))


# Messages.


@pytest.mark.parametrize("kind_and_text", CREDENTIALS)
def test_a_refused_key_is_quoted_without_the_credential_that_it_is(kind_and_text: tuple[str, str]) -> None:
    _, text = kind_and_text
    for refusable in (body(**{text: 1}), body(metadata={text: "a\0b"}), body(external_refs={text: 1})):
        with pytest.raises(InvalidInput) as refused:
            dialects.read(orjson.dumps(refusable))
        told = repr((refused.value.message, refused.value.param, refused.value.details))
        assert "[redacted:" in told
        assert MIXED[:20] not in told
        assert HEX[:20] not in told


def test_the_text_of_a_validation_error_has_no_input_in_it() -> None:
    with pytest.raises(ValidationError) as raised:
        schema.Trajectory.model_validate_json(orjson.dumps({"request_summary": [TOKEN], "phases": 1}))
    assert TOKEN[:10] not in str(raised.value)


# Real runs.


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in _texts(part)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.skipif(not DATA.exists(), reason="the real runs are not beside this checkout")
def test_no_text_of_real_runs_is_redacted() -> None:
    changed = []
    for path in sorted(DATA.rglob("*.*")):
        for line in path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]:
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                value = line.decode()
            changed += [(path.name, text) for text in _texts(value) if redaction.replace(orjson.dumps(text)).found]
    assert changed == []


@pytest.mark.skipif(not DATA.exists(), reason="the real runs are not beside this checkout")
def test_the_real_runs_are_stored_byte_for_byte() -> None:
    lines = (DATA / "soar.jsonl").read_bytes().splitlines()
    forms = [schema.canonical(schema.parse(line)) for line in lines]
    assert [redact(form) for form in forms] == [(form, {}) for form in forms]
    assert len(forms) == 244
    assert private_key() not in repr(forms)
