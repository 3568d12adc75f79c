# SPDX-License-Identifier: GPL-2.0
"""Threads of Python take turns at a host: what one of them does is over before another's begins."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Lock = AbstractContextManager[Any]
"""A threading.RLock: who holds it may take it again."""


class HasLock(Protocol):
    """What atomic methods are methods of."""

    @property
    def lock(self) -> Lock: ...


S = TypeVar("S", bound=HasLock)


def atomic(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Makes a method that no other thread interrupts: all kernels of a host share one area for
    commands, their arguments and what comes back."""

    @wraps(method)
    def taken(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.lock:
            return method(self, *args, **kwargs)

    return taken
