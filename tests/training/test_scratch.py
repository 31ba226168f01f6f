"""Temporary tables of exports: rows by group and member, with means."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

from trajectories.training.scratch import BEST_FIRST, BY_KEY, Item, Scratch


def groups(items: list[Item], order: str) -> list[tuple[dict[str, Any], list[tuple[Any, ...]]]]:
    with Scratch() as scratch:
        return [(first, [tuple(one) for one in members]) for first, members in scratch.groups(items, order)]


def test_groups_come_in_the_order_of_their_first_row_and_members_have_the_first_row_and_means() -> None:
    items = [
        Item(b"z", b"m", {"n": 1}, (1.0, None, None)),
        Item(b"a", b"m", {"n": 2}, (0.5, None, None)),
        Item(b"a", b"k", {"n": 5}, (0.5, None, None)),
        Item(b"z", b"k", {"n": 3}, (0.0, 2.0, 7)),
        Item(b"z", b"m", {"n": 4}, (0.0, 3.0, None)),
    ]
    assert groups(items, BY_KEY) == [
        ({"n": 1}, [(1, {"n": 3}, (0.0, 2.0, 7.0)), (2, {"n": 1}, (0.5, 3.0, None))]),
        ({"n": 2}, [(1, {"n": 5}, (0.5, None, None)), (1, {"n": 2}, (0.5, None, None))]),
    ]


def test_groups_of_one_member_are_counted_and_not_yielded() -> None:
    keys = [(b"z", b"m"), (b"a", b"m"), (b"z", b"m"), (b"b", b"m"), (b"b", b"k")]
    items = [Item(group, member, {"group": group.decode()}, (1.0, None, None)) for group, member in keys]
    with Scratch() as scratch:
        assert [first for first, _ in scratch.groups(items, BY_KEY)] == [{"group": "b"}]
        assert scratch.alone == (2, 3)


def test_the_best_member_is_first_then_the_cheaper_then_the_one_of_unknown_cost_then_by_key() -> None:
    given = [(b"e", 0.0, 0.1), (b"d", 1.0, None), (b"c", 1.0, 3.0), (b"b", 1.0, 2.0), (b"a", 1.0, 3.0)]
    items = [Item(b"", key, {"key": key.decode()}, (reward, cost_usd, None)) for key, reward, cost_usd in given]
    [(_, members)] = groups(items, BEST_FIRST)
    assert [row["key"] for _, row, _ in members] == ["b", "a", "c", "d", "e"]


def test_a_value_is_kept_under_its_number_while_items_are_read() -> None:
    with Scratch() as scratch:

        def items() -> Iterator[Item]:
            for value in (b"one", b"two"):
                yield Item(b"group", value, {"kept": scratch.keep(value)}, (1.0, None, None))

        [(first, members)] = [(first, list(members)) for first, members in scratch.groups(items(), BY_KEY)]
        assert scratch.kept(first["kept"]) == b"one"
        assert [scratch.kept(member.row["kept"]) for member in members] == [b"one", b"two"]


def test_memory_does_not_grow_with_the_rows_of_a_context() -> None:
    rows = 2_000
    with Scratch() as scratch:
        items = (
            Item(b"context", b"%d" % (n % 3), {"prompt": "x" * 5_000, "n": n}, (n % 2, None, None)) for n in range(rows)
        )
        tracemalloc.start()
        [counts] = [[member.items for member in members] for _, members in scratch.groups(items, BEST_FIRST)]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert sum(counts) == rows
    assert peak < 500_000
