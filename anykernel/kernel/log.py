# SPDX-License-Identifier: GPL-2.0
"""The kernel's log as records, and what in it means that something went wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from anykernel.host.turns import atomic
from anykernel.visible import visible

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
        text = visible(self.text)
        return text if self.time is None else f"[{self.time:12.6f}] {text}"

    @property
    def is_failure(self) -> bool:
        """It says that something is wrong: a warning, an oops, lockdep, a sanitizer."""
        return FAILURE.search(self.text) is not None


class Log:
    """What the kernel printed, from its boot to now: a sequence of records, in which text can be
    looked for (``"link is up" in kernel.log``).  Restoring a snapshot takes lines back."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.lock = instance.lock
        self._text = ""
        self._offset = self._lost = 0
        self._records: list[LogRecord] = []
        self._parsed = 0

    @atomic
    def text(self) -> str:
        """All of it, as the console showed it; also after a crash."""
        life = self._instance.life
        said = life.said()
        if len(said) != self._offset:
            if life.lost != self._lost:
                self._text += f"\n({life.lost - self._lost} bytes of the log are lost)\n"
                self._lost = life.lost
            new = said[self._offset :].decode(errors="replace")
            self._text += new.replace("\r\n", "\n")
            self._offset = len(said)
        return self._text

    @atomic
    def _all(self) -> list[LogRecord]:
        text = self.text()
        while (end := text.find("\n", self._parsed)) >= 0:
            self._records.append(_record(text, self._parsed, end))
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

    @property
    def lost(self) -> int:
        """Bytes that are missing: the kernel printed more at once than its console holds
        (512 KiB), or more than 64 MiB in all."""
        self.text()
        return self._instance.life.lost

    def failures(self) -> list[LogRecord]:
        """The records that say that something is wrong: warnings, oopses, lockdep, sanitizers."""
        return [record for record in self._all() if record.is_failure]

    @atomic
    def save(self) -> tuple[int, int, int]:
        """Where the log is, for load()."""
        self._all()
        return len(self._text), len(self._records), self._parsed

    @atomic
    def load(self, saved: tuple[int, int, int]) -> None:
        """Goes back to save(), as the instance has done."""
        self._offset, self._lost = len(self._instance.life.said()), self._instance.life.lost
        length, records, self._parsed = saved
        if len(self._text) != length:
            self._text = self._text[:length]
            del self._records[records:]


def _record(text: str, start: int, end: int) -> LogRecord:
    match = LINE.match(text, start, end)
    assert match is not None  # it takes anything
    time, level = match["time"], match["level"]
    return LogRecord(
        None if time is None else float(time),
        None if level is None else int(level) & 7,
        match["text"],
    )


SYSLOG = 103
READ_ALL = 3
BUFFER = 1 << 20


def own_buffer(kernel: Any) -> list[LogRecord]:
    """What the kernel's own buffer (dmesg) has, whatever its console was told; of its present
    life.  Raises OSError, and UsageError where its first process is in a call."""
    instance = kernel.instance
    buffer = instance.user.alloc(BUFFER)
    try:
        length = instance.syscall(SYSLOG, READ_ALL, buffer.address, BUFFER)
        if length < 0:
            raise OSError(-length, os.strerror(-length))
        text = bytes(buffer.view[: min(length, BUFFER)]).decode(errors="replace")
    finally:
        buffer.free()
    lines = (_record(line, 0, len(line)) for line in text.split("\n"))
    return [record for record in lines if record.text]
