"""Bodies that the wire contract refuses, and the error of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticCustomError

from tests.examples import body, in_phase, nested, phase
from trajectories.domain import patch, schema
from trajectories.domain.contract_types import MAX_DURATION_MS, MAX_NAME, MAX_PROBLEMS, free_value
from trajectories.domain.dialects import read
from trajectories.domain.schema import Attempt, Candidate, Exploration, FeedbackLoop, Phase, Trajectory, parse
from trajectories.domain.text import fold
from trajectories.exceptions import InvalidInput

NUL = "a\0b"
CAMEL_PHASE = {"phase": "a", "success": True}
LATE = MAX_DURATION_MS + 1

# The mistake, the body, the reported path, the code, and words of the message.
REFUSED: list[tuple[str, Any, str, str, str]] = [
    ("wrong type", body(project=7), "project", "string_type", "valid string"),
    ("text for a number", body(total_cost_usd="1"), "total_cost_usd", "float_type", "valid number"),
    ("bool for a number", body(total_cost_usd=True), "total_cost_usd", "float_type", "valid number"),
    ("number for a bool", body(build_passed=1), "build_passed", "bool_type", "valid boolean"),
    ("half a step", in_phase(steps_taken=0.5), "phases[0].steps_taken", "int_type", "valid integer"),
    ("no such outcome", body(outcome="good"), "outcome", "literal_error", "'success', 'failure', 'partial' or"),
    ("a skipped run", body(outcome="skipped"), "outcome", "literal_error", "'success'"),
    ("no phases", {"request_summary": "x"}, "phases", "missing", "Field required"),
    ("null phases", body(phases=None), "phases", "list_type", "valid array"),
    ("a phase without name", body(phases=[{}]), "phases[0].phase_name", "missing", "Field required"),
    ("201 phases", body(phases=[phase()] * 201), "phases", "too_long", "at most 200 items"),
    ("negative cost", in_phase(cost_usd=-0.01), "phases[0].cost_usd", "greater_than_equal", "or equal to 0"),
    ("negative tokens", in_phase(input_tokens=-1), "phases[0].input_tokens", "greater_than_equal", "to 0"),
    ("a cost beyond reason", body(total_cost_usd=1e9), "total_cost_usd", "less_than_equal", "1000000"),
    ("a time beyond reason", in_phase(duration_ms=LATE), "phases[0].duration_ms", "less_than_equal", "1000000000"),
    (
        "more than certain",
        in_phase(selection_probability=1.1),
        "phases[0].selection_probability",
        "less_than_equal",
        "1",
    ),
    ("a count beyond 2^53", body(total_phases=2**53), "total_phases", "less_than_equal", "9007199254740991"),
    ("an integer beyond 2^53", body(metadata={"a": [2**53]}), "metadata.a[0]", "integer_range", "2^53 - 1"),
    ("one below -2^53", body(metadata={"a": -(2**53)}), "metadata.a", "integer_range", "2^53 - 1"),
    ("a long name", body(project="p" * (MAX_NAME + 1)), "project", "string_too_long", "512"),
    ("no UUID", body(id="42"), "id", "uuid_parsing", "valid UUID"),
    ("digits for a time", body(started_at="1767657526"), "started_at", "datetime_parsing", "RFC 3339"),
    ("a number for a time", body(started_at=1767657526), "started_at", "datetime_parsing", "RFC 3339"),
    ("a day for a time", body(started_at="2026-01-05"), "started_at", "datetime_parsing", "RFC 3339"),
    ("a time of nowhere", body(started_at="2026-01-05T23:58:46"), "started_at", "timezone_aware", "timezone"),
    ("a time before time", body(ended_at="0001-01-01T00:00:00+01:00"), "ended_at", "datetime_range", "1 and 9999"),
    ("NaN", body(total_cost_usd=float("nan")), "total_cost_usd", "finite_number", "finite"),
    ("Infinity", in_phase(duration_ms=float("inf")), "phases[0].duration_ms", "finite_number", "finite"),
    ("NaN of its own", body(metadata={"a": [{"b": float("nan")}]}), "metadata.a[0].b", "finite_number", "finite"),
    ("-Infinity of its own", body(metadata={"a": float("-inf")}), "metadata.a", "finite_number", "finite"),
    ("too deep", body(metadata=nested(65)), "metadata" + ".a" * 64, "too_deep", "64 levels"),
    ("NUL in a reference", body(external_refs={"a": NUL}), "external_refs.a", "nul_character", "String has a NUL"),
    ("NUL in a reference's key", body(external_refs={NUL: "a"}), "external_refs", "nul_character", "A key has a NUL"),
    ("NUL in own data", body(metadata={"a": {"b": [NUL]}}), "metadata.a.b[0]", "nul_character", "String has a NUL"),
    ("NUL in a key of own data", body(metadata={"a": {NUL: 1}}), "metadata.a", "nul_character", "A key has a NUL"),
    ("NUL in a phase's data", in_phase(metadata={NUL: 1}), "phases[0].metadata", "nul_character", "A key has a NUL"),
    ("a reference's long key", body(external_refs={"k" * 513: "a"}), "external_refs", "string_too_long", "A key"),
    ("unknown key", body(projct="p"), "projct", "unknown_key", "did you mean 'project'?"),
    ("unknown key of a phase", in_phase(cost=1), "phases[0].cost", "unknown_key", "did you mean 'cost_usd'?"),
    (
        "unknown key of a candidate",
        in_phase(candidates=[{"model": "m", "scor": 1}]),
        "phases[0].candidates[0].scor",
        "unknown_key",
        "did you mean 'score'?",
    ),
    (
        "unknown key of a loop",
        body(feedback_loops=[{"reson": "r"}]),
        "feedback_loops[0].reson",
        "unknown_key",
        "'reason'",
    ),
    ("no such fit", in_phase(fit="good"), "phases[0].fit", "literal_error", "'good_fit', 'underpowered', 'overprovis"),
    ("no UUID of a parent", body(parent_id="42"), "parent_id", "uuid_parsing", "valid UUID"),
    ("kept too surely", in_phase(keep_probability=1.1), "phases[0].keep_probability", "less_than_equal", "equal to 1"),
    ("one dependency", in_phase(depends_on="a"), "phases[0].depends_on", "list_type", "valid array"),
    ("a long phase_id", in_phase(phase_id="p" * 513), "phases[0].phase_id", "string_too_long", "512"),
    ("many dependencies", in_phase(depends_on=["a"] * 201), "phases[0].depends_on", "too_long", "at most 200 items"),
    (
        "minus one token",
        in_phase(cache_write_input_tokens=-1),
        "phases[0].cache_write_input_tokens",
        "greater_than_equal",
        "0",
    ),
    (
        "no strategy",
        in_phase(exploration={"samples": 10}),
        "phases[0].exploration.strategy",
        "missing",
        "Field required",
    ),
    (
        "unknown key of an exploration",
        in_phase(exploration={"strategy": "s", "sample": 10}),
        "phases[0].exploration.sample",
        "unknown_key",
        "did you mean 'samples'?",
    ),
    (
        "half a sample",
        in_phase(exploration={"strategy": "s", "samples": 0.5}),
        "phases[0].exploration.samples",
        "int_type",
        "valid integer",
    ),
    (
        "a seed beyond 2^53",
        in_phase(exploration={"strategy": "s", "seed": 2**53}),
        "phases[0].exploration.seed",
        "less_than_equal",
        "9007199254740991",
    ),
    (
        "an attempt without an outcome",
        in_phase(attempts=[{"model": "m"}]),
        "phases[0].attempts[0].outcome",
        "missing",
        "Field required",
    ),
    (
        "unknown key of an attempt",
        in_phase(attempts=[{"model": "m", "outcome": "success", "cost": 1}]),
        "phases[0].attempts[0].cost",
        "unknown_key",
        "did you mean 'cost_usd'?",
    ),
    (
        "evidence that is no text",
        in_phase(evidence={"log": 1}),
        "phases[0].evidence.log",
        "string_type",
        "valid string",
    ),
    ("NUL in evidence's key", in_phase(evidence={NUL: "a"}), "phases[0].evidence", "nul_character", "A key has a NUL"),
    (
        "a part of a score that is no number",
        in_phase(candidates=[{"model": "m", "score_parts": {"price": "1"}}]),
        "phases[0].candidates[0].score_parts.price",
        "float_type",
        "valid number",
    ),
    (
        "an eligibility in words",
        in_phase(candidates=[{"model": "m", "eligible": "yes"}]),
        "phases[0].candidates[0].eligible",
        "bool_type",
        "valid boolean",
    ),
    ("a key like no other", body(zzz=1), "zzz", "unknown_key", "Unknown key 'zzz'. Own data goes into 'metadata'."),
    ("not an object", [1], "", "model_type", "should be an object"),
]


def texts_of(model: type[BaseModel]) -> list[tuple[str, Any, str]]:
    """Each field of a model that holds text or a list of it, with NUL in it and the rest of its
    path."""
    found: list[tuple[str, Any, str]] = []
    for name, field in model.model_json_schema()["properties"].items():
        for kind in field.get("anyOf", [field]):
            if _is_text(kind):
                found.append((name, NUL, name))
            elif _is_text(kind.get("items", {})):
                found.append((name, ["fine", NUL], f"{name}[1]"))
    return found


def _is_text(kind: dict[str, Any]) -> bool:
    return kind.get("type") == "string" and not {"format", "enum"} & set(kind)


TEXTS = [
    *((body(**{name: value}), path) for name, value, path in texts_of(Trajectory)),
    *((in_phase(**{name: value}), f"phases[0].{path}") for name, value, path in texts_of(Phase)),
    *(
        (body(feedback_loops=[{name: value}]), f"feedback_loops[0].{path}")
        for name, value, path in texts_of(FeedbackLoop)
    ),
    *(
        (in_phase(candidates=[{"model": "m"} | {name: value}]), f"phases[0].candidates[0].{path}")
        for name, value, path in texts_of(Candidate)
    ),
    *(
        (in_phase(exploration={"strategy": "s"} | {name: value}), f"phases[0].exploration.{path}")
        for name, value, path in texts_of(Exploration)
    ),
    *(
        (in_phase(attempts=[{"model": "m", "outcome": "success"} | {name: value}]), f"phases[0].attempts[0].{path}")
        for name, value, path in texts_of(Attempt)
    ),
]


def refusal(data: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as refused:
        parse(data if isinstance(data, bytes) else json.dumps(data).encode())
    return refused.value


@pytest.mark.parametrize(("given", "path", "code", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_problems_are_reported_with_their_path(given: Any, path: str, code: str, words: str) -> None:
    refused = refusal(given)
    (problem,) = refused.details
    assert (problem.path, problem.code) == (path, code)
    assert words in problem.message
    assert problem.message in refused.message
    assert (refused.status, refused.code, refused.param) == (400, "invalid_input", path or None)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (body(outcome="good"), "'good'"),
        (body(project=7), "7"),
        (body(build_passed=None, phases=None), "null"),
        (body(total_cost_usd=True), "true"),
        (in_phase(keep_probability=1.5), "1.5"),
        (in_phase(depends_on={"a": 1}), "an object"),
        (in_phase(evidence=["a"]), "an array"),
        (body(started_at="yesterday"), "'yesterday'"),
        (body(started_at="2026-01-05T23:58:46"), "'2026-01-05T23:58:46'"),
        (body(ended_at="0001-01-01T00:00:00+01:00"), "'0001-01-01T00:00:00+01:00'"),
        (body(parent_id="p" * 100), f"'{'p' * 40}'"),
        (in_phase(fit="sk-ant-api03-" + "a" * 95), "'[redacted:anthropic-key]'"),
    ],
)
def test_a_refused_value_is_named_short_and_without_credentials(given: Any, named: str) -> None:
    (problem,) = refusal(given).details
    assert problem.message.endswith(f", got {named}")


def test_a_refused_value_of_many_digits_is_not_named() -> None:
    (problem,) = refusal(b'{"request_summary":"x","phases":[],"total_phases":%b}' % (b"9" * 4_000)).details
    assert "got" not in problem.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "EOF"),
        (b'{"request_summary":', "EOF"),
        (b"not JSON", "expected"),
        (b'{"request_summary": "\xff", "phases": []}', "unicode"),
        (b'{"request_summary": "\\ud800", "phases": []}', "surrogates come in pairs"),
        (b'{"request_summary": "\\udc00 behind", "phases": []}', "surrogates come in pairs"),
        (b'{"request_summary":"x","phases":[],"metadata":%b1%b}' % (b'{"a":' * 1_000, b"}" * 1_000), "recursion limit"),
        (b'{"request_summary": "x", "phases": []} {}', "trailing"),
    ],
)
def test_a_body_that_is_not_json_is_reported_as_such(data: bytes, words: str) -> None:
    refused = refusal(data)
    assert refused.code == "invalid_json"
    assert words in refused.message


@pytest.mark.parametrize("field", [b'"total_cost_usd":1e999', b'"metadata":{"a":1e999}', b'"metadata":{"a":[-1e999]}'])
def test_a_number_too_large_for_a_float_is_not_read_as_infinity(field: bytes) -> None:
    refused = refusal(b'{"request_summary":"x","phases":[],%b}' % field)
    assert [problem.code for problem in refused.details] == ["finite_number"]


def test_every_problem_is_reported_at_once() -> None:
    refused = refusal(
        {"phases": [phase(cost_usd=-1), phase(), {"outcome": "good"}], "metadata": {"a": NUL, "b": 2**60}}
    )
    assert [problem.path for problem in refused.details] == [
        "request_summary",
        "phases[0].cost_usd",
        "phases[2].phase_name",
        "phases[2].outcome",
        "metadata.a",
        "metadata.b",
    ]
    assert refused.message == "request_summary: Field required (5 more)"


def test_every_place_of_a_text_is_tried() -> None:
    assert len(TEXTS) == 10 + 14 + 5 + 2 + 1 + 3


@pytest.mark.parametrize(("given", "path"), TEXTS, ids=[path for _, path in TEXTS])
def test_a_nul_character_is_refused_wherever_there_may_be_text(given: Any, path: str) -> None:
    (problem,) = refusal(given).details
    assert (problem.path, problem.code) == (path, "nul_character")
    assert problem.message == "String has a NUL character"


# A bad body must not cost more than its bytes: these took seconds and tens of megabytes once.


def test_a_body_full_of_unknown_keys_is_answered_with_its_first_problems_only() -> None:
    refused = refusal(body(**{f"total_{number}_us": 0 for number in range(5_000)}))
    assert refused.found == 5_000
    assert len(refused.details) == MAX_PROBLEMS
    # The search for the nearest known key is the expensive part, and a typo is not repeated 50,000
    # times.
    assert sum("did you mean" in problem.message for problem in refused.details) == 3


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (body(**{f"total_{number}_us": 0 for number in range(50_000)}), 50_000),
        (in_phase(attempts=[{}] * 200, evidence={str(number): 1 for number in range(10_000)}), 10_400),
    ],
    ids=["unknown keys", "items of lists and of objects"],
)
def test_thousands_of_problems_are_counted_and_not_listed(
    given: Any, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pydantic lists all or none, and 100 kB can have 80,000.
    monkeypatch.setattr(schema, "_problem", None)
    refused = refusal(given)
    assert (refused.code, refused.found, refused.details) == ("too_many_problems", found, ())
    assert f"{found:,} problems" in refused.message


@pytest.mark.parametrize(
    "given",
    [
        in_phase(tools_used=[0] * 10_000),
        {"request": "x", "phases": [{"phase": "a", "success": True, "toolCalls": [0] * 10_000}]},
        {"request": "x", "phases": [{"phase": "a", "success": True, "toolCalls": [0] * 10_001}]},
        {"request": "x", "phases": [], "feedbackLoops": [0] * 1_001},
    ],
)
def test_one_problem_of_a_long_list_is_reported(given: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        read(json.dumps(given).encode())
    assert len(refused.value.details) == 1


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("phases[0].tools_used", lambda tools: in_phase(tools_used=tools)),
        ("phases[0].toolCalls", lambda tools: {"request": "x", "phases": [CAMEL_PHASE | {"toolCalls": tools}]}),
    ],
)
def test_a_phase_may_have_ten_thousand_tools(path: str, given: Callable[[list[str]], Any]) -> None:
    (with_most,) = read(json.dumps(given(["t"] * 10_000)).encode()).phases
    assert len(with_most.tools_used or ()) == 10_000
    with pytest.raises(InvalidInput) as refused:
        read(json.dumps(given(["t"] * 10_001)).encode())
    (problem,) = refused.value.details
    assert (problem.path, problem.code) == (path, "too_long")
    assert "at most 10000 items" in problem.message


def test_a_patch_may_give_a_phase_ten_thousand_tools() -> None:
    def changed(tools: int) -> dict[str, Any]:
        return patch.parse(
            json.dumps({"phases": [{"phase_id": "a", "tools_used": ["t"] * tools}]}).encode(), UUID(int=1)
        )

    assert len(changed(10_000)["phases"][0]["tools_used"]) == 10_000
    with pytest.raises(InvalidInput, match="at most 10000 items"):
        changed(10_001)


def test_validation_stops_after_the_reported_number_of_problems() -> None:
    with pytest.raises(PydanticCustomError) as refused:
        free_value({"a": [NUL] * 50_000})
    assert len((refused.value.context or {})["problems"]) == MAX_PROBLEMS


def test_a_long_key_is_cut_in_the_paths_that_lead_through_it() -> None:
    refused = refusal(body(metadata={"k" * 100_000: [NUL] * 1_000}))
    assert len(refused.details) == MAX_PROBLEMS
    assert all(len(problem.path) < 200 for problem in refused.details)


@pytest.mark.parametrize("field", ["request_summary", "request"])
def test_a_summary_that_would_be_far_longer_for_searches_is_refused(field: str) -> None:
    ligature = "\ufdfa"  # 18 characters in its compatibility form
    at_limit = 2**20 // 18
    assert len(read(json.dumps({field: ligature * at_limit, "phases": []}).encode()).request_summary) == at_limit
    with pytest.raises(InvalidInput) as refused:
        read(json.dumps({field: ligature * (at_limit + 1), "phases": []}).encode())
    (problem,) = refused.value.details
    assert (problem.path, problem.code) == (field, "folded_too_long")
    assert "at most 1048576 characters" in problem.message
    assert read(json.dumps({field: "\u00e9" * 500_000, "phases": []}).encode())


def test_no_character_is_longer_for_searches_than_the_bound_expects() -> None:
    assert max(len(fold(chr(code))) for code in range(0x110000) if not 0xD800 <= code < 0xE000) == 18
