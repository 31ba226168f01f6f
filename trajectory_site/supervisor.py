"""Run processes side by side with honcho's prefixed output, and stop them in order.

Honcho's own manager signals all process groups at once and kills them after five seconds. A
worker's pool would die in the middle of a batch.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any

from honcho.colour import get_colours
from honcho.printer import Message, Printer
from honcho.process import Process

STOP_S = 10.0
"""Limit for the stop of a process after SIGTERM; then its whole group is killed."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Start every added process and print its output.

    All processes stop on a signal, on ``fail()``, or if one ends by itself.
    """

    def __init__(self) -> None:
        # SimpleQueue: a signal handler's put() may interrupt a get() of the same thread.
        self._events: SimpleQueue[Message] = SimpleQueue()
        self._printer = Printer(sys.stdout)
        self._processes: dict[str, Process] = {}
        self.pids: dict[str, int] = {}  # of the processes that have started
        self._running: set[str] = set()
        self._colours = get_colours()

    def add(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        """Add a process to start. Processes stop in the order in which they were added."""
        # exec, so that the pid is that of the program, not of honcho's shell.
        command = f"exec {shlex.join(argv)}"
        self._processes[name] = Process(command, name=name, colour=next(self._colours), env=env)
        self._printer.width = max(self._printer.width, len(name))

    def say(self, text: str) -> None:
        """Print ``text`` without a prefix, between two lines of output. Thread-safe."""
        self._put("text", text)

    def fail(self, text: str) -> None:
        """Stop all processes, with ``text`` as the reason. Thread-safe."""
        self._put("failure", text)

    def run(self, meanwhile: Callable[[], None]) -> int:
        """Run until a signal or until a process ends, with ``meanwhile`` in a separate thread.

        Returns:
            The exit code: 0 after a signal, 1 after a failure.
        """
        # The handlers stay: a second Ctrl-C must not interrupt servers that stop later.
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, lambda *_: self._put("signal", None))
        for process in self._processes.values():
            self._running.add(process.name)
            self._thread(process.run, self._events)
        self._thread(meanwhile)
        exit_code = self._print_until_the_end()
        for name in self._processes:
            self._stop(name)
        self._print_rest()
        return exit_code

    def _print_until_the_end(self) -> int:
        while True:
            message = self._events.get()
            self._handle(message)
            if message.type == "signal":
                return 0
            if message.type == "failure":
                return 1
            if message.type == "stop":
                self._print(f"{message.name} ended by itself (exit code {message.data['returncode']}).")
                return 1

    def _stop(self, name: str) -> None:
        self._handle_until(lambda: name in self.pids or name not in self._running)
        if name in self._running:
            with suppress(ProcessLookupError):
                os.kill(self.pids[name], signal.SIGTERM)
        if not self._handle_until(lambda: name not in self._running):
            with suppress(ProcessLookupError):
                os.killpg(self.pids[name], signal.SIGKILL)
            self._handle_until(lambda: name not in self._running)

    def _handle_until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + STOP_S
        while not condition():
            if time.monotonic() > deadline:
                return False
            with suppress(Empty):
                self._handle(self._events.get(timeout=0.1))
        return True

    def _print_rest(self) -> None:
        with suppress(Empty):
            while True:
                self._handle(self._events.get_nowait())

    def _handle(self, message: Message) -> None:
        if message.type == "line":
            self._print(message)
        elif message.type == "start":
            self.pids[message.name] = message.data["pid"]
        elif message.type == "stop":
            self._running.discard(message.name)
        elif message.data:
            self._print(message.data)

    def _print(self, message: Message | str) -> None:
        try:
            if isinstance(message, str):
                print(message, flush=True)
            else:
                self._printer.write(message)
        except OSError:
            # The output has no reader: the terminal is closed, or the reader of the pipe has ended.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._put("signal", None)

    def _put(self, kind: str, data: str | None) -> None:
        self._events.put(Message(type=kind, data=data, time=datetime.now().astimezone(), name=None, colour=None))

    @staticmethod
    def _thread(target: Callable[..., Any], *args: Any) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()
