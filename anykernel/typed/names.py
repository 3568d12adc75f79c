# SPDX-License-Identifier: GPL-2.0
"""Names: the functions and variables of a space as attributes."""

from __future__ import annotations

from typing import Any

from anykernel.errors import UsageError
from anykernel.typed.space import Space
from anykernel.typed.values import Pointer


class Names:
    """``names.int_sqrt(144)`` calls a function, static ones too; ``names.sysctl_tcp_mem`` is a
    variable; ``names["space"]`` one whose name Python code here uses itself."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self._found: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):  # Python's, not C's
            raise AttributeError(name)
        try:
            return self[name]
        except UsageError as error:
            raise AttributeError(str(error)) from None

    def __getitem__(self, name: str) -> Any:
        """A function or variable.  Raises UsageError."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self.space.find(name)
        return found

    def constant(self, name: str) -> int:
        """The value of an enumerator: ``constant("TCP_ESTABLISHED")``.  Raises UsageError."""
        return self.space.constant(name)

    def at(self, address: int | Pointer, kind: str) -> Pointer:
        """What lies at an address, as a type.  Raises UsageError for an unknown one."""
        return self.space.at(int(address), kind)
