# SPDX-License-Identifier: GPL-2.0
"""`anykernel shell`: a Python prompt with a booted kernel, or a script on stdin."""

from __future__ import annotations

import code
import contextlib
import importlib.util
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anykernel.errors import AnykernelError, BorderError, HostDied, KernelCrash
from anykernel.settings import settings
from anykernel.visible import visible

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.host import Host
    from anykernel.kernel import Kernel

RESTART = "restart() gives a new kernel."
STEP = 0.05
"""Seconds between two looks at the log."""


@dataclass
class Session:
    """The kernel of a prompt, and the names that the user finds there."""

    image: Image
    options: Mapping[str, Any]
    """Of Host."""
    log: bool = False
    """Whether what the kernel prints is shown at once."""
    names: dict[str, Any] = field(default_factory=dict)
    _host: Host | None = None
    _told: Host | None = None
    """The host whose end was reported."""

    def restart(self) -> Kernel:
        """Boots a new kernel, as the first one was; the name `kernel` is it from now on."""
        from anykernel.host import Host
        from anykernel.kernel import Kernel

        self.close()
        self._host = host = Host(self.image, **self.options)
        if self.log:
            threading.Thread(target=_follow, args=(host,), name="kernel-log", daemon=True).start()
        kernel = Kernel(self._host.instances[0], self.image)
        self.names.update(kernel=kernel, restart=self.restart)
        return kernel

    def close(self) -> None:
        """Ends the kernel.  Twice does no harm."""
        if self._host is not None:
            self._host.close()
        self._host = None

    @property
    def banner(self) -> str:
        """What the prompt begins with."""
        pid = self._host.pid if self._host else 0
        return (
            f"Linux {self.image.release} in process {pid}. Try: kernel.log, "
            "kernel.os.listdir('/'), kernel.sysctl['net.ipv4.ip_forward'], "
            "kernel.add_netdev('eth0'). Ctrl-C ends a call, restart() boots anew."
        )

    def explain(self, error: BaseException) -> str:
        """An error of ours, for the prompt: a kernel's end is told once."""
        if not isinstance(error, KernelCrash | HostDied):
            return f"{type(error).__name__}: {error}"
        if self._told is self._host:
            return f"the kernel is dead, as was said. {RESTART}"
        self._told = self._host
        return f"{error}\n{RESTART}"


def _follow(host: Host) -> None:
    """Shows what the kernel prints, from its boot on, until its process ends."""
    from anykernel.host.follow import Follower

    follower, alive = Follower(host, 0, 0), True
    with contextlib.suppress(BorderError):  # its host lies: the next call says so
        while alive:
            alive = host.alive
            for line in follower.lines():
                print(visible(line), file=sys.stderr)
            time.sleep(STEP)


@contextlib.contextmanager
def session(image: Image, options: Mapping[str, Any], log: bool = False) -> Iterator[Session]:
    """A booted kernel for a prompt."""
    made = Session(image, options, log)
    try:
        made.restart()
        yield made
    finally:
        made.close()


def run(opened: Session) -> int:
    """A prompt on a terminal, else the script on stdin, as `python -` runs it; the exit code."""
    if sys.stdin.isatty():
        prompt(opened)
        return 0
    return script(opened, sys.stdin.read())


def script(opened: Session, text: str) -> int:
    """Runs `text`.  An error is shown as Python shows it, from the script's lines on."""
    opened.names.update(__name__="__main__", __builtins__=__builtins__)
    try:
        exec(compile(text, "<stdin>", "exec"), opened.names)
    except Exception as error:
        trace = error.__traceback__
        if not isinstance(error, SyntaxError) and trace is not None:
            trace = trace.tb_next  # ours
        traceback.print_exception(error.with_traceback(trace))
        return 1
    sys.stdout.flush()
    return 0


def prompt(opened: Session) -> None:
    """IPython where it is installed, else Python's own prompt."""
    if importlib.util.find_spec("IPython"):
        _ipython(opened)
    else:
        _plain(opened)


def _ipython(opened: Session) -> None:
    from IPython.terminal.ipapp import TerminalIPythonApp
    from traitlets.config import Config

    config = Config()
    config.TerminalInteractiveShell.banner1 = opened.banner + "\n"
    config.TerminalInteractiveShell.confirm_exit = False  # as at Python's own prompt
    app = TerminalIPythonApp.instance(config=config, user_ns=opened.names)
    app.initialize(argv=[])
    # IPython copies what it is given; restart() is to change what the user sees.
    opened.names = app.shell.user_ns

    def show(
        shell: Any, kind: Any, error: BaseException, trace: Any, tb_offset: Any = None
    ) -> None:
        print(opened.explain(error), file=sys.stderr)

    app.shell.set_custom_exc((AnykernelError,), show)
    app.start()


def _plain(opened: Session) -> None:
    with _edited_lines(opened.names):
        Console(opened).interact(banner=opened.banner, exitmsg="")


class Console(code.InteractiveConsole):
    """Python's prompt; errors of ours are shown without the stack of our own code."""

    def __init__(self, opened: Session) -> None:
        super().__init__(opened.names)
        self._session = opened

    def showtraceback(self) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, AnykernelError):
            self.write(self._session.explain(error) + "\n")
        elif isinstance(error, KeyboardInterrupt):
            self.write("\nKeyboardInterrupt\n")
        else:
            super().showtraceback()


@contextlib.contextmanager
def _edited_lines(names: dict[str, Any]) -> Iterator[None]:
    """Tab completes, and the lines of earlier sessions can be had again."""
    try:
        import readline
    except ImportError:  # a Python that was built without it
        yield
        return
    import rlcompleter

    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
    path = settings().state_dir / "shell_history"
    with contextlib.suppress(OSError):  # none yet
        readline.read_history_file(path)
    try:
        yield
    finally:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
        except OSError as error:
            print(f"the history of this session isn't kept: {error}", file=sys.stderr)
        readline.set_completer(None)
