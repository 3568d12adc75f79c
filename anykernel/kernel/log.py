# SPDX-License-Identifier: GPL-2.0
"""The kernel's log as records, and what in it means that something went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, overload

from anykernel.host.turns import atomic

if TYPE_CHECKING:
    from anykernel.kernel.interface import Instance

LINE = re.compile(r"(?:<(?P<level>\d+)>)?(?:\[ *(?P<time>\d+\.\d+)\] ?)?(?P<text>.*)")
FAILURE = re.compile(
    r"""WARNING:\ | BUG: | \bOops\b | general\ protection\ fault | Kernel\ panic | KASAN: | KCSAN:
    | UBSAN: | KFENCE: | possible\ circular\ locking | possible\ recursive\ locking
    | inconsistent\ lock\ state | suspicious\ RCU\ usage | INFO:\ (task|rcu|trying|possible)
    | sleeping\ function\ called\ from\ invalid | scheduling\ while\ atomic | bad:\ scheduling
    | unregister_netdevice:\ waiting | refcount_t: | list_(add|del)\ corruption
    | stack\ overflow | soft\ lockup | unreferenced\ object""",
    re.VERBOSE,
)


class LogRecord(NamedTuple):
    """One line of the log: seconds since boot (None: not said), level 0-7 (None), text."""

    time: float | None
    level: int | None
    text: str

    def __str__(self) -> str:
        return self.text if self.time is None else f"[{self.time:12.6f}] {self.text}"


class Log:
    """What the kernel printed, from its boot to now: a sequence of records, in which text can be
    looked for (``"link is up" in kernel.log``).  Restoring a snapshot takes lines back."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.lock = instance.lock
        self._text = ""
        self._offset = 0
        self._records: list[LogRecord] = []
        self._parsed = 0

    @atomic
    def text(self) -> str:
        """All of it, as the console showed it; also after a crash."""
        self._offset, new = self._instance.console(self._offset)
        if new:
            self._text += new.decode(errors="replace").replace("\r\n", "\n")
        return self._text

    @atomic
    def _all(self) -> list[LogRecord]:
        text = self.text()
        while (end := text.find("\n", self._parsed)) >= 0:
            match = LINE.match(text, self._parsed, end)
            if match is not None:
                time, level = match["time"], match["level"]
                self._records.append(
                    LogRecord(
                        None if time is None else float(time),
                        None if level is None else int(level) & 7,
                        match["text"],
                    )
                )
            self._parsed = end + 1
        return self._records

    @overload
    def __getitem__(self, index: int) -> LogRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[LogRecord]: ...
    def __getitem__(self, index: int | slice) -> LogRecord | list[LogRecord]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[LogRecord]:
        return iter(list(self._all()))

    def __contains__(self, what: object) -> bool:
        """``"some text" in kernel.log``; a record works too."""
        return what in self.text() if isinstance(what, str) else what in self._all()

    def __repr__(self) -> str:
        return f"<kernel log of {len(self)} lines>"

    def failures(self) -> list[LogRecord]:
        """The records that say that something is wrong: warnings, oopses, lockdep, sanitizers."""
        return [record for record in self._all() if FAILURE.search(record.text)]

    @atomic
    def save(self) -> tuple[int, int, int]:
        """Where the log is, for load()."""
        self._all()
        return len(self._text), len(self._records), self._parsed

    @atomic
    def load(self, saved: tuple[int, int, int]) -> None:
        """Goes back to save().  The host's console goes on: what it has now was another life."""
        self._offset, _ = self._instance.console(1 << 62)
        length, records, self._parsed = saved
        if len(self._text) != length:
            self._text = self._text[:length]
            del self._records[records:]
