# SPDX-License-Identifier: GPL-2.0
"""A kernel source that configures and builds in a moment: it looks like Linux to our pipeline,
and compiles two C files."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "Makefile": """\
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 999
EXTRAVERSION =
NAME = Tiny
KERNELVERSION = $(VERSION).$(PATCHLEVEL).$(SUBLEVEL)$(EXTRAVERSION)

OBJECTS := $(patsubst net/%.c,$(O)/%.o,$(wildcard net/*.c))

library: olddefconfig $(O)/liblinux-$(KERNELVERSION).so

# Like the real one, it forgets what it doesn't know or can't have (before a build as well: the
# real one's is called syncconfig).
olddefconfig:
	@grep -vwFf refused $(O)/.config > $(O)/.config.new
	@mv $(O)/.config.new $(O)/.config

$(O)/%.o: net/%.c
	@echo "  CC      net/$*.o"
	@cd $(O) && $(CC) -fPIC -Wall -c -o $*.o ../$<

$(O)/vmlinux: $(OBJECTS)
	@echo "  LD      vmlinux"
	@echo built >> builds
	@sh -c "$$(cat slowly)"
	@gcc -shared -o $@ $^

$(O)/liblinux-$(KERNELVERSION).so: $(O)/vmlinux
	@echo "  LIB     $@"
	@strip -o $@ $<
""",
    "Kbuild": "",
    "Kconfig": "config TINY\n\tbool\n\nconfig NET_FORBIDDEN\n\tbool\n\tdepends on BROKEN\n",
    "arch/x86/entry/syscalls/syscall_64.tbl": "0\tcommon\tread\tsys_read\n",
    "net/core.c": "int net_core(void) { return 1; }\n",
    "net/echo.c": "int net_echo(int x)\n{\n\treturn x;\n}\n",
    "refused": "CONFIG_NO_SUCH_SYMBOL\nCONFIG_NET_FORBIDEN\nCONFIG_NET_FORBIDDEN\n",
    "slowly": ":",
}


def write(folder: Path, release: tuple[int, int, int] = (6, 1, 999)) -> Path:
    """Writes the source into `folder`."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    version, patchlevel, sublevel = release
    makefile = folder / "Makefile"
    head, found, rest = makefile.read_text().partition("NAME")
    assert found
    head = (
        f"VERSION = {version}\nPATCHLEVEL = {patchlevel}\nSUBLEVEL = {sublevel}\nEXTRAVERSION =\n"
    )
    makefile.write_text(head + found + rest)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All of a folder that a build could have changed: (modification time, content) by name."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
