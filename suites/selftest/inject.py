# SPDX-License-Identifier: GPL-2.0
"""C code put into a booted kernel, to be as wrong there as a kernel can be: kernel.c() with what
such code includes, called with plain words."""

from __future__ import annotations

from typing import cast

from anykernel.host import Instance
from anykernel.kernel import Kernel
from anykernel.link.symbols import Symbols

INCLUDES = """\
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/interrupt.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#line 1 "injected.c"
"""


class Injected:
    """Functions of `source` in `kernel`, called by name with words: `Injected(kernel, "long go(long
    a) { return a + 1; }")("go", 1)`.

    It is there until the kernel is thrown away, or until a restore takes changes of code back.
    Raises what Kernel.c() does, and what Instance.call() does when a function is called.
    """

    def __init__(self, kernel: Kernel, source: str) -> None:
        self._instance = cast("Instance", kernel.instance)
        self.symbols = Symbols.of(kernel.c(INCLUDES + source).elf).addresses

    def __call__(self, name: str = "go", *words: int) -> int:
        """What the function returns, as a signed long."""
        given = [word & (1 << 64) - 1 for word in words]
        result, _ = self._instance.call(self.symbols[name], given)
        return result - (1 << 64) if result >> 63 else result
