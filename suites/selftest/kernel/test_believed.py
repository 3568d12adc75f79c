# SPDX-License-Identifier: GPL-2.0
"""What a kernel returns is checked against what the call can return."""

from __future__ import annotations

import errno

import pytest

from anykernel.errors import KernelError, call_error
from anykernel.host.syscalls import NUMBERS
from anykernel.kernel import Kernel
from anykernel.kernel.call import MSG_TRUNC, believed
from suites.selftest.inject import Injected

READ, RECVFROM, GETPID = NUMBERS["read"], NUMBERS["recvfrom"], NUMBERS["getpid"]


def test_results_that_can_be() -> None:
    assert believed(READ, (3, 0x1000, 10), 10) == 10
    assert believed(READ, (3, 0x1000, 10), 0) == 0
    assert believed(GETPID, (), 1 << 40) == 1 << 40
    assert believed(RECVFROM, (3, 0x1000, 10, MSG_TRUNC, 0, 0), 5000) == 5000


@pytest.mark.parametrize(
    ("nr", "args", "result"),
    [
        (READ, (3, 0x1000, 10), 11),
        (READ, (3, 0x1000, 10), (1 << 63) - 1),
        (RECVFROM, (3, 0x1000, 10, 0, 0, 0), 11),
        (GETPID, (), 1 << 62),
    ],
)
def test_results_that_can_not_be(nr: int, args: tuple[int, ...], result: int) -> None:
    with pytest.raises(KernelError, match=f"the kernel returned {result}"):
        believed(nr, args, result)


def test_errors_of_calls() -> None:
    assert isinstance(call_error(-errno.ENOENT), FileNotFoundError)
    assert str(call_error(-errno.EEXIST, "netdev eth0")).endswith("netdev eth0: File exists")
    for result in (-4096, -(1 << 31), -(1 << 63)):
        error = call_error(result)
        assert error.errno == errno.EPROTO and f"returned {result}" in str(error)


def test_a_kernel_that_says_it_read_more(kernel: Kernel) -> None:
    """Its pipes give a byte too many, which is not there."""
    reader, writer = kernel.os.pipe()
    kernel.os.write(writer, b"four")
    assert kernel.os.read(reader, 4) == b"four"
    liar = Injected(
        kernel,
        """
#include <linux/fs.h>
#include <linux/file.h>

static struct file_operations lies;

static ssize_t read_more(struct kiocb *iocb, struct iov_iter *to)
{
	return iov_iter_count(to) + 1;
}

long go(long fd)
{
	struct file *file = fget(fd);

	lies = *file->f_op;
	lies.read_iter = read_more;
	file->f_op = &lies;
	fput(file);
	return 0;
}
""",
    )
    liar("go", reader)
    with pytest.raises(KernelError, match="the kernel returned 5 where at most 4 can be") as found:
        kernel.os.read(reader, 4)
    assert "read()" in "".join(found.value.__notes__)
