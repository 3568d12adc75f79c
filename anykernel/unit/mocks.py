# SPDX-License-Identifier: GPL-2.0
"""Mock: a function that a unit needs and doesn't have, answered from Python.

Calls are recorded in C, also when C answers, and handed to a unittest.mock.Mock when somebody
looks: so its assertions are Python's own.
"""

from __future__ import annotations

import errno as errnos
import unittest.mock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError
from anykernel.link.debuginfo import Signature
from anykernel.typed.functions import WORD, from_word
from anykernel.typed.shapes import PointerShape, Scalar, Shape, StructShape, Void, shape_of

if TYPE_CHECKING:
    from anykernel.unit.unit import Unit

RECORDS = frozenset(
    {
        "assert_any_call",
        "assert_called",
        "assert_called_once",
        "assert_called_once_with",
        "assert_called_with",
        "assert_has_calls",
        "assert_not_called",
        "call_args",
        "call_args_list",
        "call_count",
        "called",
    }
)
"""What is unittest.mock's own."""


class Mock:
    """``mock.returns(3)``, ``mock.raises(errno.ENOMEM)``, ``mock.does(lambda a, b: a + b)``; then
    ``mock.assert_called_once_with(1, 2)`` and the other assertions of unittest.mock.

    A mock that was given nothing to do does what a policy grants its function, or fails the test.
    """

    def __init__(self, unit: Unit, number: int, signature: Signature) -> None:
        self._unit = unit
        self._number = number
        self.signature = signature
        self._parameters = [shape_of(one.type) for one in signature.parameters]
        self._result: Shape = shape_of(signature.returns)
        self._does: Callable[..., Any] | None = None
        self._record = unittest.mock.Mock(name=signature.name)

    def __repr__(self) -> str:
        return f"<Mock {self.signature}>"

    # What it does

    def returns(self, value: Any = None) -> Mock:
        """Each call returns `value`.  Raises UsageError when it doesn't fit."""
        self._does = None
        self._unit.control.behave(self._number, "UNIT_RETURNS", self._words(value))
        return self

    def raises(self, error: int | OSError) -> Mock:
        """Each call fails as C does: -errno, or ERR_PTR(-errno)."""
        number = error.errno if isinstance(error, OSError) else error
        if number is None or number not in errnos.errorcode:
            raise UsageError(f"{error!r} is no error number, such as errno.ENOMEM")
        if isinstance(self._result, PointerShape):
            self._does = None
            value = (-number & WORD, 0)
            self._unit.control.behave(self._number, "UNIT_RETURNS", value)
            return self
        return self.returns(-number)

    def does(self, effect: Callable[..., Any]) -> Mock:
        """Each call is one of `effect`, with typed arguments; what it returns, C gets.  What it
        raises ends the test's own call; an OSError becomes an error as raises() makes."""
        self._does = effect
        self._unit.control.behave(self._number, "UNIT_ASK")
        return self

    def undo(self) -> None:
        """Back to what it did before anybody said."""
        self._does = None
        self._unit.control.behave(self._number, "UNIT_LOUD")

    def save(self) -> Callable[..., Any] | None:
        """What load() comes back to: its Python side; Control has the other."""
        return self._does

    def load(self, saved: Callable[..., Any] | None) -> None:
        self._does = saved
        self._record.reset_mock()

    # How it was called

    def __getattr__(self, name: str) -> Any:
        if name not in RECORDS:
            raise AttributeError(f"a mock has no {name!r}")
        self._unit.sync_calls()
        return getattr(self._record, name)

    def note(self, words: list[int]) -> None:
        """One call, from the unit's record."""
        self._record(*self._arguments(words))

    def answer(self, words: list[int]) -> tuple[int, int]:
        """What a call gets that waits for Python."""
        assert self._does is not None
        try:
            return self._words(self._does(*self._arguments(words)))
        except OSError as error:
            if error.errno is None:
                raise
            return -error.errno & WORD, 0

    def _arguments(self, words: list[int]) -> list[Any]:
        space = self._unit.space
        return [
            from_word(space, shape, word)
            for shape, word in zip(self._parameters, words, strict=False)
        ]

    def _words(self, value: Any) -> tuple[int, int]:
        shape = self._result
        if isinstance(shape, Void):
            if value is not None:
                raise UsageError(f"{self.signature} returns nothing, not {value!r}")
            return 0, 0
        if isinstance(shape, Scalar):
            data = shape.store(value if value is not None else 0)
            return int.from_bytes(data, "little"), 0
        if isinstance(shape, PointerShape):
            return int(value or 0) & WORD, 0
        if isinstance(shape, StructShape) and shape.size <= 16 and hasattr(value, "bytes"):
            data = value.bytes(shape.size).ljust(16, b"\0")
            return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
        raise UsageError(f"{self.signature}: {value!r} can't be returned")
