# SPDX-License-Identifier: GPL-2.0
"""C in a test: code that is put into the running kernel, as a module would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from anykernel.errors import UsageError, call_error
from anykernel.kernel.literal import where_is
from anykernel.link import code
from anykernel.link.code import Linked, Size, Where
from anykernel.link.symbols import Symbols
from anykernel.typed import Names, Space

if TYPE_CHECKING:
    from anykernel.build import Image
    from anykernel.host import Instance
    from anykernel.host.loaded import Loaded
    from anykernel.kernel.kernel import Kernel

ROOM = """\
#include <linux/gfp.h>

void *test_data(unsigned long size)
{
	return alloc_pages_exact(size, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
}

void test_data_gone(void *data, unsigned long size)
{
	free_pages_exact(data, size);
}
"""
"""Gets memory for data; has none itself."""


class Code(Names):
    """Functions and variables of a test's C in its kernel, by name: ``code.go(1)``,
    ``code.counter.value``, ``code["table"][3]``; static ones, too.

    Raises UsageError once the state in which it was loaded was restored away, and after unload().
    """

    def __init__(self, kernel: Kernel, linked: Linked, loaded: Loaded, data: range) -> None:
        self._kernel = kernel
        self._linked = linked
        self._loaded = loaded
        self._data = data
        instance = cast("Instance", kernel.instance)
        super().__init__(_Space(self, instance, kernel.image, linked.elf))

    def __repr__(self) -> str:
        state = "" if self.usable() is None else ", no more"
        return f"<C of a test at {self._loaded.place.start:#x}{state}>"

    def usable(self) -> str | None:
        """Why it can't be used; None while it can."""
        if not self._loaded.born.alive:
            return (
                "this C belongs to a state that was restored away: load it again, or load it "
                "before the snapshot"
            )
        return "this C was unloaded" if self._loaded.gone.value else None

    def unload(self) -> None:
        """Runs its module_exit() functions, the last first, and gives its memory back.  At the
        end of a test that isn't needed: the kernel is restored, code too."""
        if why := self.usable():
            raise UsageError(why)
        instance = cast("Instance", self._kernel.instance)
        with self._kernel.exclusive():
            for address in reversed(self._linked.end):
                instance.call(address, ())
            if self._data:
                at = _room(self._kernel)["test_data_gone"]
                instance.call(at, (self._data.start, len(self._data)))
            instance.loaded.remove(self._loaded)


class _Space(Space):
    """Its memory, and its names at their addresses."""

    def __init__(self, owner: Code, instance: Instance, image: Image, elf: Path) -> None:
        self._owner = owner
        super().__init__(instance, replaced(image, elf), self._called, whole=image)

    def _check(self) -> None:
        if why := self._owner.usable():
            raise UsageError(why)

    def _called(self, address: int, words: list[int]) -> tuple[int, int]:
        self._check()
        return self.instance.call(address, words)

    def read(self, address: int, size: int) -> bytes:
        self._check()
        return super().read(address, size)

    def write(self, address: int, data: bytes) -> None:
        self._check()
        super().write(address, data)

    def address(self, name: str) -> int:
        return super().address(name) - self.instance.image_base


def replaced(image: Image, elf: Path) -> Image:
    """An image whose names and types are those of `elf`."""
    return replace(image, vmlinux=elf)


def load(kernel: Kernel, source: str | Path) -> Code:
    """Compiles C and puts it into `kernel`; see Kernel.c()."""
    text, where = _text(source)
    object_file = code.compiled(kernel.image, text, where)
    with kernel.exclusive():
        linked, loaded, data = _place(kernel, object_file)
        made = Code(kernel, linked, loaded, data)
        instance = cast("Instance", kernel.instance)
        for address in linked.begin:
            result = instance.call(address, ())[0] & 0xFFFFFFFF
            if result:
                raise call_error(result - (result >> 31 << 32), "module_init()")
    return made


def _text(source: str | Path) -> tuple[str, Where | None]:
    """A text, and where it stands."""
    if isinstance(source, str):
        return source, where_is(source)
    try:
        return source.read_text(), Where(str(source.absolute()), 1)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{source} can't be read: {error}") from None


def _place(kernel: Kernel, object_file: Path) -> tuple[Linked, Loaded, range]:
    """Links an object to free memory and writes it there."""
    instance = cast("Instance", kernel.instance)
    needs = code.size(object_file)
    at = _free(kernel, needs)
    data = range(0)
    if needs.data:
        first, _ = instance.call(_room(kernel)["test_data"], (needs.data,))
        if not first:
            raise UsageError(
                f"the C has {needs.data} bytes of data, and the kernel has no memory left for "
                "them (@pytest.mark.kernel(memory=...) gives it more)"
            )
        data = range(first, first + needs.data)
        at = _free(kernel, needs)
    linked = code.linked(kernel.image, object_file, instance.image_base, at, data.start)
    for address, content in linked.parts:
        instance.write_memory(address, content)
    loaded = instance.loaded.add(range(at, at + needs.code), linked.elf, str(object_file))
    return linked, loaded, data


def _free(kernel: Kernel, needs: Size) -> int:
    """Where code can be: where that was which only booting needs.  Raises UsageError."""
    instance = cast("Instance", kernel.instance)
    known = Symbols.of(kernel.image.vmlinux).addresses
    first, end = (instance.image_base + known[name] for name in ("_sinittext", "_einittext"))
    at = max([first, *(one.place.stop for one in instance.loaded.alive)])
    at += -at % code.ALIGNED
    if at + needs.code > end:
        raise UsageError(
            f"the C has {needs.code} bytes of code and constants, and of the {end - first} bytes "
            f"that this kernel has room for {max(end - at, 0)} are left: make it smaller, or "
            "what is large a variable"
        )
    return at


def _room(kernel: Kernel) -> dict[str, int]:
    """The functions of ROOM in the kernel."""
    instance = cast("Instance", kernel.instance)
    object_file = code.compiled(kernel.image, ROOM, None)
    found = [one for one in instance.loaded.alive if one.what == str(object_file)]
    elf = found[0].elf if found else _place(kernel, object_file)[0].elf
    return Symbols.of(elf).addresses
