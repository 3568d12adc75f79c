# SPDX-License-Identifier: GPL-2.0
"""The inside of a booted kernel: drgn on its memory, and its functions called by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anykernel.errors import UsageError
from anykernel.typed import Names, Space

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.host import Instance

VMCOREINFO = """\
OSRELEASE={release}
PAGESIZE=4096
KERNELOFFSET={base:x}
SYMBOL(swapper_pg_dir)={base:x}
"""
"""What drgn wants to know of a kernel before it reads its debugging information; there are no page
tables, so their symbol's address is never looked at."""


def program(instance: Instance, image: Image) -> Any:
    """A drgn.Program over the memory of a running kernel, for which drgn's Linux helpers work."""
    import drgn

    flags = drgn.PlatformFlags.IS_64_BIT | drgn.PlatformFlags.IS_LITTLE_ENDIAN
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64, flags))
    base, end = instance.image_base, instance.ram_end
    prog.set_linux_kernel_custom(VMCOREINFO.format(release=image.release, base=base), True)

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return instance.read_memory(address, count)
        except UsageError as error:
            raise drgn.FaultError(str(error), address) from None

    prog.add_memory_segment(base, end - base, read, False)
    window = instance.user
    prog.add_memory_segment(window.base, len(window.window), read, False)
    module = prog.main_module("kernel", create=True)
    module.address_range = (base, end)
    module.try_file(str(image.vmlinux), force=True)
    return prog


def inside(instance: Instance, image: Image) -> Names:
    """The kernel's functions and variables; a function runs as a system call of the first process
    would."""
    return Names(Space(instance, image, instance.call))
