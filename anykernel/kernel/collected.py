# SPDX-License-Identifier: GPL-2.0
"""Files and sockets that Python collects while they are open.

Python closes its own at that moment, which may be in the middle of a request to the host.  Ours
are only noted then, and closed before the kernel's next system call.  What a restore took away by
then is not open any more.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anykernel.host.stretch import Stretch
    from anykernel.kernel.process import Process


class ClosedLater:
    """Base of what has close(), closed and a descriptor of the kernel."""

    _open_since: tuple[Process, Stretch] | None = None
    """Whose it is, and since when; None until it is open, and for what another object closes."""

    def closed_later(self, process: Process) -> None:
        """From now on, it is closed when it is collected."""
        self._open_since = process, process.state

    def __del__(self) -> None:
        if self._open_since is not None and not self.closed:  # type: ignore[attr-defined]
            self._open_since[0].orphans.append(self)

    def close_collected(self) -> None:
        """Closes it.  Errors are nobody's, as with Python's own."""
        if self._open_since is None:
            return
        process, since = self._open_since
        if since.alive and not process.ended:
            with suppress(Exception):
                self.close()  # type: ignore[attr-defined]
