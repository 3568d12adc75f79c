# SPDX-License-Identifier: GPL-2.0
"""`anykernel shell`: as `python -` on stdin, and a prompt on a terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anykernel.kernel import Kernel
from suites.selftest.cli.test_commands import MAIN, fails, run
from suites.selftest.terminal import ENOUGH, Terminal

WITHOUT_IPYTHON = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "IPython" else find(name, *more)
from anykernel.cli import main
main()
"""
CRASH = "kernel.inside.dev_open(None, None)"


def of(kernel: Kernel) -> tuple[str, str, str, str]:
    return "--source", kernel.image.source, "--flavour", kernel.image.flavour


# On stdin


def script(kernel: Kernel, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MAIN, "shell", *of(kernel), *options],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_script_says_only_what_it_prints(kernel: Kernel) -> None:
    text = "def pid():\n    return kernel.os.getpid()\n\n\nif __name__ == '__main__':\n"
    done = script(kernel, text + "    print(kernel.release, pid())\npid()\n")
    assert (done.returncode, done.stdout) == (0, f"{kernel.release} 1\n"), done.stderr


def test_an_error_of_a_script_ends_it(kernel: Kernel) -> None:
    done = script(kernel, "print('before', flush=True)\n\nkernel.open('/none')\nprint('after')\n")
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert '  File "<stdin>", line 3, in <module>' in done.stderr
    assert "FileNotFoundError" in done.stderr and "shell.py" not in done.stderr
    done = script(kernel, "one two\n")
    assert done.returncode == 1
    assert 'File "<stdin>", line 1' in done.stderr and "SyntaxError" in done.stderr


def test_a_script_boots_anew(kernel: Kernel) -> None:
    done = script(
        kernel,
        "kernel.write_text('/tmp/x', 'x')\nold = kernel\n"
        "assert restart() is kernel is not old\nprint(kernel.os.listdir('/tmp'))\n",
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_options_of_the_kernel(kernel: Kernel) -> None:
    text = (
        "print(int(kernel.read_text('/proc/meminfo').split()[1]) >> 10,"
        " kernel.read_text('/proc/cmdline').strip(), kernel.os.exists('/proc/sys/net/ipv4'))"
    )
    chosen = ("--memory", "128MiB", "--cmdline", "one two=3", "--components", "base")
    done = script(kernel, text, *chosen)
    assert done.returncode == 0, done.stderr
    size, *rest = done.stdout.split()
    assert 100 < int(size) <= 128 and rest == ["one", "two=3", "False"]


def test_the_log_live(kernel: Kernel) -> None:
    """On stderr, from the boot on; a new kernel's, too."""
    text = "import time\n" + 2 * (
        "kernel.write_text('/dev/kmsg', 'hello from the test\\n')\ntime.sleep(0.5)\nrestart()\n"
    )
    done = script(kernel, text, "--log")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.count("hello from the test") == 2
    assert done.stderr.count("Linux version") >= 2
    assert script(kernel, text).stderr == ""


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--seed", "-1", "is not in the range"),
        ("--seed", str(1 << 64), "is not in the range"),
        ("--memory", "1Q", "is no size: write bytes, or as in 64M"),
        ("--memory", "5M", "a kernel needs 16 MiB at least, in multiples of 4 MiB"),
        ("--budget", "0", "is not in the range"),
        ("--components", " ,", "names no component: `anykernel components` lists them"),
        ("--components", "net/ipv44", "did you mean net/ipv4"),
    ],
)
@pytest.mark.parametrize("command", ["boot", "shell"])
def test_values_that_no_kernel_can_have(
    kernel: Kernel, command: str, option: str, value: str, said: str
) -> None:
    assert said in fails(command, *of(kernel), option, value)


def test_boot_takes_the_same_options(kernel: Kernel) -> None:
    done = run("boot", *of(kernel), "--components", "base", "--cmdline", "one two=3")
    assert "Kernel command line: one two=3" in done.stdout


# On a terminal


def shell(kernel: Kernel, code: str, home: Path) -> Terminal:
    return Terminal(
        [sys.executable, "-c", code, "shell", *of(kernel)],
        TERM="dumb",
        HOME=str(home),
        XDG_STATE_HOME=str(home / "state"),
        IPYTHONDIR=str(home / "ipython"),
    )


@pytest.fixture
def terminal(kernel: Kernel, tmp_path: Path) -> Iterator[Terminal]:
    """Python's own prompt."""
    with shell(kernel, WITHOUT_IPYTHON, tmp_path) as made:
        made.until("boots anew.", ">>> ")
        yield made


def test_tab_completes_and_lines_are_kept(terminal: Terminal, tmp_path: Path) -> None:
    terminal.press("kernel.rele\t\r")
    terminal.until("6.", ">>> ")
    terminal.press("\x04")
    assert terminal.process.wait(ENOUGH) == 0
    assert (tmp_path / "state/anykernel/shell_history").read_text() == "kernel.release\n"


def test_ctrl_c_at_the_prompt_keeps_it(terminal: Terminal) -> None:
    for _ in range(3):
        terminal.press("1 + 1000000")
        terminal.until("1000000")
        terminal.interrupt()
    terminal.press("kernel.os.getpid() + 40\r")
    terminal.until("41\r\n")


def test_a_crash_is_told_once(terminal: Terminal) -> None:
    terminal.press(CRASH + "\r")
    said = terminal.until("restart() gives a new kernel", ">>> ")
    assert "oops" in said and "dev_open" in said and "Traceback" not in said
    terminal.press("kernel.os.getpid()\r")
    said = terminal.until("the kernel is dead, as was said", ">>> ")
    assert "dev_open" not in said
    terminal.press("restart().os.getpid() + kernel.os.getpid() + 40\r")
    terminal.until("42\r\n")
    terminal.press(CRASH + "\r")
    assert "dev_open+" in terminal.until("restart() gives a new kernel", ">>> ")


def test_ipython(kernel: Kernel, tmp_path: Path) -> None:
    """Its own completion and history; errors of ours as at Python's prompt."""
    pytest.importorskip("IPython", reason="pip install pytest-anykernel[shell]")
    with shell(kernel, "from anykernel.cli import main; main()", tmp_path) as made:
        made.until("boots anew.", "In [1]:")
        made.press(CRASH + "\r")
        said = made.until("restart() gives a new kernel", "In [2]:")
        assert "dev_open+" in said and "Traceback" not in said
        made.press("restart().os.getpid() + kernel.os.getpid() + 40\r")
        made.until("42", "In [3]:")
        made.press("exit\r")
        assert made.process.wait(ENOUGH) == 0


def test_ctrl_c_ends_a_call_and_keeps_the_kernel(terminal: Terminal) -> None:
    terminal.press("kernel.write_text('/tmp/x', 'kept')\r")
    terminal.until(">>> ")
    terminal.press("kernel.clock.advance(1e9)\r")
    terminal.until("\n")
    time.sleep(1)  # it is in the call, or will be: it would take minutes
    terminal.press("\x03")
    said = terminal.until("KeyboardInterrupt", ">>> ")
    assert "Traceback" not in said
    terminal.press("kernel.read_text('/tmp/x'), kernel.os.getpid() + 40\r")
    terminal.until("('kept', 41)")
