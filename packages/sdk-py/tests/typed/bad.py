"""Mistakes that type checkers must report. Each marked line must be an error under mypy and under
pyright, and no other."""

from __future__ import annotations

import trajectories_sdk as sdk


def blocking(client: sdk.Client) -> None:
    client.trajectories.record({"phases": []})  # wrong
    client.trajectories.record({"request_summary": "x", "phases": [], "colour": "red"})  # wrong
    client.trajectories.record({"request_summary": "x", "phases": [{"phase_name": "spec", "outcome": "red"}]})  # wrong
    client.trajectories.record("x")  # wrong
    client.trajectories.update("x", {"colour": "red"})  # wrong
    client.trajectories.update("x", {"phases": [{"fit": "good_fit"}]})  # wrong
    client.trajectories.update("x", {"phases": [{"phase_id": "a", "fit": "tight"}]})  # wrong
    client.trajectories.update("x", {}, if_match="1")  # wrong
    client.trajectories.list(colour="red")  # wrong
    client.trajectories.list(build_passed="yes")  # wrong
    client.trajectories.list(outcome="red")  # wrong
    client.trajectories.delete_matching(project="a")  # wrong
    client.trajectories.export_jsonl(3)  # wrong
    sdk.Client(timeout=3)  # wrong
    client.trajectories.retrieve("29243fa3-f296-5e3b-9266-7052b77cbfe9").colours  # wrong


async def awaited(client: sdk.AsyncClient) -> None:
    for _ in client.trajectories.list():  # wrong
        pass
    (await client.trajectories.stats()).count.upper()  # wrong
