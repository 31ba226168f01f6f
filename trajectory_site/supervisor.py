"""Run programs side by side: print their output, start again what ends, and stop them in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import IO, Literal

STOP_S = 10.0
"""Limit for the stop of a program after SIGTERM; then its whole group is killed."""

SHORT_RUNS = 3
"""A program is not started again after so many runs in a row that were shorter than
``SHORT_RUN_S``."""
SHORT_RUN_S = 30.0

_LAST_LINES = 10
_COLOURS = (36, 33, 32, 35)  # cyan, yellow, green, magenta
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run, in a session of its own."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    log: Path | None = None
    """File for its output. Without one, each line is printed behind the time and the name."""
    pass_fds: Sequence[int] = ()


@dataclass(slots=True)
class _Child:
    program: Program
    colour: int
    process: subprocess.Popen[bytes]
    is_running: bool = True
    started_at: float = field(default_factory=time.monotonic)
    short_runs: int = 0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_LINES))

    def last_lines(self) -> list[str]:
        if self.program.log is None:
            return list(self.lines)
        return self.program.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]


@dataclass(frozen=True, slots=True)
class _Event:
    kind: Literal["line", "text", "end", "start", "signal", "failure"]
    text: str = ""
    name: str = ""
    program: Program | None = None


class Supervisor:
    """Run programs until a signal, ``fail()``, or until one keeps ending.

    All stop when the context ends, in the reverse order of their start.
    """

    def __init__(self, on_start: Callable[[dict[str, int]], None]) -> None:
        """Args: ``on_start`` gets the pids by name whenever a program has started."""
        # SimpleQueue: a signal handler's put() may interrupt a get() of the same thread.
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._children: dict[str, _Child] = {}
        self._on_start = on_start

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._catch_signals()
        for child in reversed(self._children.values()):
            self._stop(child)
        with suppress(Empty):
            while True:
                self._handle(self._events.get_nowait())

    def start(self, program: Program) -> subprocess.Popen[bytes]:
        """Start a program, in the thread of the context. ``run`` starts it again if it ends."""
        colour = _COLOURS[len(self._children) % len(_COLOURS)]
        child = self._children[program.name] = _Child(program, colour, self._spawn(program))
        self._report_pids()
        return child.process

    def add(self, program: Program) -> None:
        """Have ``run`` start a program, unless it is about to end. Thread-safe."""
        self._events.put(_Event("start", program=program))

    def say(self, text: str) -> None:
        """Print ``text`` without a prefix, between two lines of output. Thread-safe."""
        self._events.put(_Event("text", text))

    def fail(self, text: str) -> None:
        """End ``run``, with ``text`` as the reason. Thread-safe."""
        self._events.put(_Event("failure", text))

    def run(self, meanwhile: Callable[[], None]) -> int:
        """Run until the end, with ``meanwhile`` in a separate thread.

        Returns:
            The exit code: 0 after a signal, 1 after a failure.
        """
        self._catch_signals()
        threading.Thread(target=meanwhile, daemon=True).start()
        while True:
            event = self._events.get()
            self._handle(event)
            if event.kind == "signal":
                return 0
            if event.kind == "failure":
                return 1
            if event.program:
                self.start(event.program)
            if event.kind == "end" and not self._is_started_again(self._children[event.name]):
                return 1

    def _catch_signals(self) -> None:
        # The handlers stay: a second Ctrl-C must not interrupt programs that stop later.
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, lambda *_: self._events.put(_Event("signal")))

    # --- Programs

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        with program.log.open("ab") if program.log else nullcontext() as log:
            process = subprocess.Popen(
                program.argv,
                stdin=subprocess.DEVNULL,
                stdout=log or subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=program.env,
                pass_fds=program.pass_fds,
                # Ctrl-C reaches every process of the terminal's group, but they must stop in order.
                start_new_session=True,
            )
        threading.Thread(target=self._follow, args=(program.name, process), daemon=True).start()
        return process

    def _follow(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Pass on the output of a process, and its end."""
        reader = threading.Thread(target=self._read, args=(name, process.stdout), daemon=True)
        reader.start()
        process.wait()
        # Its children would go on serving, and hold its output open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        reader.join()
        self._events.put(_Event("end", name=name))

    def _read(self, name: str, output: IO[bytes] | None) -> None:
        if output:
            with output:
                for line in output:
                    self._events.put(_Event("line", line.decode(errors="replace").rstrip("\n"), name))

    def _is_started_again(self, child: _Child) -> bool:
        name, how = child.program.name, _how_it_ended(child.process.returncode)
        is_short = time.monotonic() - child.started_at < SHORT_RUN_S
        child.short_runs = child.short_runs + 1 if is_short else 0
        if child.short_runs >= SHORT_RUNS:
            last = "".join(f"\n  {line}" for line in child.last_lines())
            self._print(f"{name} keeps ending ({how}): {SHORT_RUNS} times soon after its start. Its last lines:{last}")
            return False
        self._print(f"{name} ended ({how}). It is started again.")
        try:
            child.process = self._spawn(child.program)
        except OSError as error:
            self._print(f"{name} cannot be started again: {error}")
            return False
        child.is_running, child.started_at = True, time.monotonic()
        self._report_pids()
        return True

    def _report_pids(self) -> None:
        self._on_start({name: child.process.pid for name, child in self._children.items()})

    def _stop(self, child: _Child) -> None:
        if child.is_running:
            child.process.send_signal(signal.SIGTERM)
        if not self._has_ended(child):
            with suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
            self._has_ended(child)

    def _has_ended(self, child: _Child) -> bool:
        deadline = time.monotonic() + STOP_S
        while child.is_running:
            if time.monotonic() > deadline:
                return False
            with suppress(Empty):
                self._handle(self._events.get(timeout=0.1))
        return True

    # --- Output

    def _handle(self, event: _Event) -> None:
        if event.kind == "line":
            self._children[event.name].lines.append(event.text)
            self._print(self._prefix(event.name) + event.text)
        elif event.kind == "end":
            self._children[event.name].is_running = False
        elif event.text:
            self._print(event.text)

    def _prefix(self, name: str) -> str:
        prefix = f"{time.strftime('%H:%M:%S')} {name:<{max(map(len, self._children))}} | "
        return f"\x1b[0;{self._children[name].colour}m{prefix}\x1b[0m" if sys.stdout.isatty() else prefix

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # The output has no reader: the terminal is closed, or the reader of the pipe has ended.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._events.put(_Event("signal"))


def _how_it_ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
