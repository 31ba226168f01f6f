"""Formats: the lines of each, and what is left out and why."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import orjson
import pytest

from tests.training.runs import phase, record, rows, run_with_choices
from trajectories.domain import answers
from trajectories.exceptions import InvalidInput
from trajectories.training import formats, messages

LARGE, SMALL = run_with_choices(1, "large"), run_with_choices(2, "small")


def said(row: dict[str, Any], name: str = "completion") -> dict[str, Any]:
    """Return the decision in an assistant's message with JSON text."""
    (message,) = row[name]
    assert message["role"] == "assistant"
    arguments: dict[str, Any] = orjson.loads(message["content"])
    return arguments


def test_a_line_of_jsonl_is_the_record_byte_by_byte() -> None:
    format_ = formats.get("jsonl")
    assert list(format_.lines([LARGE, SMALL], {})) == [answers.item(one) + b"\n" for one in (LARGE, SMALL)]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_has_rows_of_its_columns_in_their_order(name: str) -> None:
    format_ = formats.get(name)
    for given in ({}, {"kind": "dpo"}, {"calls": "text"}, {"min_reward": "0.5"}):
        options = format_.read_options({key: text for key, text in given.items() if key in format_.options})
        found = list(format_.rows([LARGE, SMALL, LARGE], options))
        columns = list(format_.columns(options))
        assert found
        assert all([key for key in columns if key in row] == list(row) for row in found if name != "jsonl")
        assert found == [orjson.loads(line) for line in format_.lines([LARGE, SMALL, LARGE], options)]


@pytest.mark.parametrize("name", formats.FORMATS)
def test_every_format_of_no_record_is_empty(name: str) -> None:
    assert rows(name) == []


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_run_without_phases_and_a_run_of_unknowns_have_lines_or_reasons(name: str) -> None:
    bare = [record(number=1), record({"phase_name": ""}, number=2, request_summary="")]
    left_out: Counter[str] = Counter()
    assert rows(name, *bare, left_out=left_out) or left_out


def test_a_decision_is_a_flat_row_of_context_action_and_reward() -> None:
    row = rows("decisions", SMALL)[1]
    expected = {
        "trajectory_id": str(UUID(int=2)),
        "phase_index": 1,
        "request_type": "bugfix",
        "phase": "implement",
        "phases_before": 1,
        "last_phase": "spec",
        "last_outcome": "success",
        "spent_cost_usd": 0.01,
        "action": "run",
        "model": "small",
        "propensity": 0.2,
        "model_propensity": 0.4,
        "reward": 0.0,
        "reward_rule": "checks",
        "reward_source": "tests_passed",
        "phase_outcome": "success",
        "run_outcome": "failure",
        "cost_usd": 0.02,
        "run_cost_usd": 0.03,
        "tests_passed": False,
    }
    assert {name: row[name] for name in expected} == expected
    assert [action["action"] for action in row["actions"]] == ["run", "run", "skip"]


def test_an_example_of_sft_is_the_context_and_the_call_of_a_tool_that_it_lists() -> None:
    spec, _, review, _ = rows("sft", LARGE)
    assert [message["role"] for message in spec["messages"]] == ["system", "user", "assistant"]
    call = spec["messages"][-1]["tool_calls"][0]["function"]
    assert call == {
        "name": "run_phase",
        "arguments": {"phase": "spec", "agent": "analyst", "model": "small", "tools": ["grep"]},
    }
    skip = review["messages"][-1]["tool_calls"][0]["function"]
    assert skip == {"name": "skip_phase", "arguments": {"phase": "review", "reason": "small change"}}
    for called in (call, skip):
        (tool,) = [tool["function"] for tool in spec["tools"] if tool["function"]["name"] == called["name"]]
        assert set(called["arguments"]) <= set(tool["parameters"]["properties"])
    assert (spec["weight"], spec["trajectory_id"], spec["phase_index"]) == (1.0, str(UUID(int=1)), 0)
    assert review["messages"][1]["content"] == (
        "Request (bugfix): Fix the login\n"
        "Project: web\n"
        "Phases so far:\n"
        "1. spec by analyst with small: success (0.01 USD, 1.5 s)\n"
        "2. implement with large: success (0.2 USD)\n"
        "Spent so far: 0.21 USD, 1.5 s"
    )


def test_an_example_names_the_models_to_choose_from() -> None:
    assert rows("sft", LARGE)[1]["messages"][1]["content"].endswith("\nModels to choose from: large, small")


def test_min_reward_leaves_out_lower_and_unknown_rewards() -> None:
    of = record(phase("a"), phase("b", "partial"), phase("c", "failure"), phase("d", "unknown"))
    for name in ("sft", "prompt-completion"):
        assert [row["weight"] for row in rows(name, of)] == [1.0, 0.5, 0.0, 0.5]
        left_out: Counter[str] = Counter()
        assert [row["weight"] for row in rows(name, of, left_out=left_out, min_reward="0.5")] == [1.0, 0.5]
        assert left_out == {"decision below min_reward, or whose reward is not known": 2}


def test_a_label_of_kto_is_whether_the_decision_was_right() -> None:
    of = record(phase("a"), phase("b", "partial"), phase("c", "failure"), phase("d", "unknown"))
    left_out: Counter[str] = Counter()
    assert [(said(row)["phase"], row["label"]) for row in rows("kto", of, left_out=left_out)] == [
        ("a", True),
        ("c", False),
    ]
    assert left_out == {"decision with a partial success": 1, "decision whose reward is not known": 1}


def test_steps_are_labelled_and_unknown_ones_left_out() -> None:
    (row,) = rows("stepwise", record(phase("a"), phase("b", "unknown"), phase("c", "failure")))
    assert [orjson.loads(step)["phase"] for step in row["completions"]] == ["a", "c"]
    assert (row["labels"], row["prompt"]) == ([True, False], "Request: Fix the login")


# Pairs.


def chosen_and_rejected(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return said(row, "chosen"), said(row, "rejected")


def test_a_pair_is_two_actions_in_the_same_context_of_which_one_earned_more() -> None:
    pairs = rows("dpo", LARGE, SMALL, record(phase("spec", "failure", model="large"), number=3, request_type="bugfix"))
    by_phase = {said(row, "chosen")["phase"]: row for row in pairs}
    assert {name: [side.get("model") for side in chosen_and_rejected(row)] for name, row in by_phase.items()} == {
        "spec": ["small", "large"],
        "implement": ["large", "small"],
        "docs": ["large", "small"],
    }
    implement = by_phase["implement"]
    assert (implement["chosen_reward"], implement["rejected_reward"]) == (1.0, 0.0)
    assert (implement["trajectory_id"], implement["rejected_trajectory_id"]) == (str(UUID(int=1)), str(UUID(int=2)))
    assert implement["prompt"] == rows("prompt-completion", LARGE)[1]["prompt"]


def test_pairs_are_unique_and_ordered_for_any_number_of_runs() -> None:
    many = [run_with_choices(number, "large" if number % 2 else "small") for number in range(1, 9)]
    pairs = rows("dpo", *many)
    texts = [orjson.dumps(chosen_and_rejected(row)) for row in pairs]
    assert len(texts) == len(set(texts))
    assert pairs == rows("dpo", *many)


def test_the_reward_of_an_action_is_its_mean_and_the_cheaper_of_equals_is_best() -> None:
    def implement(number: int, model: str, outcome: str, cost_usd: float) -> Any:
        return record(phase("code", outcome, model=model, cost_usd=cost_usd), number=number, request_summary="x")

    pairs = rows(
        "dpo",
        implement(1, "a", "success", 3),
        implement(2, "b", "success", 1),
        implement(3, "c", "success", 1),
        implement(4, "c", "failure", 1),
    )
    assert [(*(side["model"] for side in chosen_and_rejected(row)), row["rejected_reward"]) for row in pairs] == [
        ("b", "c", 0.5)
    ]


def test_requests_are_compared_without_case_and_blanks_or_by_type() -> None:
    one = record(phase("code", model="a"), number=1, request_summary="Fix  the LOGIN", request_type="bug")
    same = record(phase("code", "failure", model="b"), number=2, request_summary="fix the login ", request_type="bug")
    other = record(phase("code", "failure", model="c"), number=3, request_summary="Fix it", request_type="bug")
    assert [said(row, "rejected")["model"] for row in rows("dpo", one, same, other)] == ["b"]
    assert [said(row, "rejected")["model"] for row in rows("dpo", one, same, other, pair_by="type")] == ["b", "c"]


# Vowpal Wabbit.


def test_a_line_of_dsjson_has_cost_probability_and_every_action() -> None:
    implement, review = rows("dsjson", LARGE)
    assert (implement["_label_cost"], implement["_label_probability"], implement["_labelIndex"]) == (-1.0, 0.3, 0)
    assert (implement["a"], implement["p"]) == ([1, 2, 3], [0.3, 0.2, 0.5])
    assert implement["c"]["_multi"] == [
        {"Action": {"model=large": 1}},
        {"Action": {"model=small": 1}},
        {"Action": {"skip": 1}},
    ]
    assert (review["_labelIndex"], review["_label_probability"], review["p"]) == (1, 0.25, [0.75, 0.25])
    assert (implement["EventId"], implement["VWState"]) == (f"{UUID(int=1)}/1", {"m": "router@1"})


def test_a_price_of_money_is_added_to_the_cost() -> None:
    assert rows("dsjson", LARGE, usd_weight="2")[0]["_label_cost"] == 0.4 - 1


def test_without_a_probability_of_skipping_the_choice_is_among_models() -> None:
    of = record(
        phase(
            "code",
            model="a",
            selection_probability=0.5,
            candidates=[{"model": "a"}, {"model": "b", "probability": 0.3}, {"model": "c"}],
        ),
        planned_phases=["code"],
    )
    (row,) = rows("dsjson", of)
    assert (row["_label_probability"], row["p"]) == (0.5, pytest.approx([0.5, 0.3, 0.2]))
    assert len(row["c"]["_multi"]) == 3


def test_decisions_that_cannot_train_a_bandit_are_left_out_with_the_reason() -> None:
    two = [{"model": "a"}, {"model": "b"}]
    of = record(
        phase("code", model="a"),
        phase("code", model="a", candidates=two),
        phase("code", "unknown", model="a", candidates=two),
    )
    left_out: Counter[str] = Counter()
    assert rows("dsjson", of, left_out=left_out) == []
    assert left_out == {
        "decision with one action": 1,
        "decision whose propensity is not recorded": 1,
        "decision whose reward is not known": 1,
    }
    assert [row["_label_probability"] for row in rows("dsjson", of, assume_propensity="0.9")] == [0.9]


# Items and models.


def test_a_routing_table_compares_the_models_of_an_item() -> None:
    left_out: Counter[str] = Counter()
    table = rows("routing-table", LARGE, SMALL, SMALL, left_out=left_out)
    found = [(row["phase"], row["model"], row["runs"], row["score"], row["cost_usd"]) for row in table]
    assert found == [
        ("implement", "large", 1, 1.0, 0.2),
        ("implement", "small", 2, 0.0, 0.02),
        ("docs", "large", 3, 1.0, None),
        ("docs", "small", 3, 0.0, None),
    ]
    assert len({row["item"] for row in table}) == 2
    assert left_out == {"item that one model worked on": 1}


# Other trainers.


def test_openai_has_arguments_as_text_and_a_weight_of_nought_or_one() -> None:
    good, bad = rows("openai", LARGE)[1], rows("openai", SMALL)[1]
    assert set(good) == {"messages", "tools", "parallel_tool_calls"}
    assert [row["messages"][-1]["weight"] for row in (good, bad)] == [1, 0]
    arguments = good["messages"][-1]["tool_calls"][0]["function"]["arguments"]
    assert orjson.loads(arguments) == {"phase": "implement", "model": "large"}
    pair = rows("openai", LARGE, SMALL, kind="dpo")[0]
    assert set(pair) == {"input", "preferred_output", "non_preferred_output"}
    assert pair["input"]["messages"] == rows("dpo", LARGE, SMALL)[0]["prompt"]


def test_axolotl_has_one_message_a_side_of_a_pair() -> None:
    assert rows("axolotl", LARGE, calls="text")[0] == {
        "messages": rows("sft", LARGE, calls="text")[0]["messages"],
    }
    pair = rows("axolotl", LARGE, SMALL, kind="dpo")[0]
    assert [pair[side]["role"] for side in ("chosen", "rejected")] == ["assistant", "assistant"]
    assert [message["role"] for message in pair["messages"]] == ["system", "user"]


def test_llama_factory_has_turns_that_alternate_and_tools_as_text() -> None:
    row = rows("llama-factory", LARGE)[0]
    assert [turn["from"] for turn in row["conversations"]] == ["human", "function_call"]
    assert set(orjson.loads(row["conversations"][1]["value"])) == {"name", "arguments"}
    assert [tool["name"] for tool in orjson.loads(row["tools"])] == ["run_phase", "skip_phase"]
    assert row["system"] == messages.SYSTEM
    pair = rows("llama-factory", LARGE, SMALL, kind="dpo")[0]
    assert (pair["chosen"]["from"], [turn["from"] for turn in pair["conversations"]]) == ("gpt", ["human"])


def test_the_ground_truth_of_verl_is_a_decision_that_was_right() -> None:
    left_out: Counter[str] = Counter()
    assert rows("verl", SMALL, left_out=left_out) == []
    assert sum(left_out.values()) == 4
    found = rows("verl", LARGE)
    assert [row["extra_info"]["phase_index"] for row in found] == [0, 1, 2]
    assert orjson.loads(found[2]["reward_model"]["ground_truth"])["action"] == "skip"


# Wrong requests.


def test_an_unknown_format_names_the_nearest_and_all() -> None:
    with pytest.raises(InvalidInput, match=r"Unknown format 'decision'. Did you mean 'decisions'") as caught:
        formats.get("decision")
    assert all(name in str(caught.value) for name in formats.FORMATS)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("kto", {"calls": "text"}, "The format kto has no option 'calls'; it has credit, reward_outcome."),
        ("jsonl", {"credit": "checks"}, "The format jsonl has no option 'credit'; it has none."),
        ("sft", {"calls": "both"}, "calls must be tool or text, got 'both'."),
        ("sft", {"min_reward": "2"}, "min_reward must be above 0 and at most 1, got '2'."),
        ("dsjson", {"usd_weight": "-1"}, "usd_weight must be between 0 and 1000000, got '-1'."),
        ("dsjson", {"usd_weight": "nan"}, "usd_weight must be between 0 and 1000000, got 'nan'."),
    ],
)
def test_an_option_that_a_format_does_not_have_or_take_is_refused(
    name: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        formats.get(name).read_options(given)
    assert str(caught.value) == message
    assert caught.value.param == next(iter(given))


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_format_shows_a_line_in_its_docstring(name: str) -> None:
    assert '\n    {"' in (__import__(type(formats.get(name)).__module__, fromlist=["*"]).__doc__ or "")
