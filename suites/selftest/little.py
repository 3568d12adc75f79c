# SPDX-License-Identifier: GPL-2.0
"""A kernel source of a few files that Linux's own Kbuild and Kconfig build, in a second or two:
objects with noted dependencies, an archive, a link script, as the real one has them."""

from __future__ import annotations

import shutil
from pathlib import Path

from anykernel.build import kconfig

BORROWED = (
    "scripts/Kbuild.include",
    "scripts/Makefile.build",
    "scripts/Makefile.compiler",
    "scripts/Makefile.host",
    "scripts/Makefile.lib",
    "scripts/basic",
    "scripts/check-local-export",
    "scripts/kconfig",
)
"""Of a real tree."""
MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 999
EXTRAVERSION =
NAME = Little
KERNELVERSION = 6.1.999

ifeq ($(sub_make_done),)
export sub_make_done := 1
PHONY := $(MAKECMDGOALS) sub-make
$(MAKECMDGOALS): sub-make ;
sub-make:
	@$(MAKE) -rR --no-print-directory -C $(O) -f ../Makefile $(MAKECMDGOALS)
else
srctree := ..
objtree := .
VPATH := ..
SRCARCH := lib
Q := @
quiet := quiet_
KBUILD_VERBOSE := 0
KBUILD_BUILTIN := 1
CONFIG_SHELL := sh
HOSTCC := $(if $(filter ccache,$(CC)),env -u CCACHE_DISABLE) $(CC)
LD := ld
AR := ar
NM := nm
OBJCOPY := objcopy
AWK := awk
LEX := flex
YACC := bison
KBUILD_HOSTCFLAGS := -O1
KCONFIG_CONFIG := .config
LINUXINCLUDE := -I../include -I./include -include ../include/linux/kconfig.h
KBUILD_CFLAGS := -O2 -Wall -D__KERNEL__
KBUILD_AFLAGS := -D__ASSEMBLY__
KBUILD_CPPFLAGS := -fmacro-prefix-map=../=
KBUILD_LDFLAGS := -z noexecstack
export srctree objtree VPATH SRCARCH ARCH Q quiet KBUILD_VERBOSE KBUILD_BUILTIN CONFIG_SHELL
export CC HOSTCC LD AR NM OBJCOPY AWK LEX YACC KBUILD_HOSTCFLAGS KCONFIG_CONFIG LINUXINCLUDE
export KBUILD_CFLAGS KBUILD_AFLAGS KBUILD_CPPFLAGS KBUILD_LDFLAGS KERNELVERSION

include $(srctree)/scripts/Kbuild.include
include $(srctree)/arch/lib/Makefile

scripts_basic:
	$(Q)$(MAKE) $(build)=scripts/basic
olddefconfig syncconfig: scripts_basic FORCE
	$(Q)$(MAKE) $(build)=scripts/kconfig $@

ifneq ($(filter library,$(MAKECMDGOALS)),)
-include include/config/auto.conf.cmd
include/config/auto.conf: .config
	$(Q)$(MAKE) -f ../Makefile syncconfig
include include/config/auto.conf
endif

DIRS := init net
net/built-in.a init/built-in.a: $(DIRS) ;
$(DIRS): scripts_basic
	$(Q)$(MAKE) $(build)=$@ need-builtin=1

quiet_cmd_ar = AR      $@
      cmd_ar = rm -f $@; $(AR) cDPrST $@ $(filter %/built-in.a,$^)
vmlinux.a: $(addsuffix /built-in.a,$(DIRS)) FORCE
	$(call if_changed,ar)
targets += vmlinux.a

quiet_cmd_link = LD      $@
      cmd_link = $< "$(LD)" "$(KBUILD_LDFLAGS)" "$(LDFLAGS_vmlinux)"; true
vmlinux: scripts/link-vmlinux.sh vmlinux.a FORCE
	+$(call if_changed,link)
targets += vmlinux
existing-targets := $(wildcard $(sort $(targets)))
-include $(foreach f,$(existing-targets),$(dir $(f)).$(notdir $(f)).cmd)

PHONY += FORCE scripts_basic $(DIRS)
FORCE:
.PHONY: $(PHONY)
endif
"""
FILES = {
    "Makefile": MAKEFILE,
    "Kbuild": "",
    "arch/x86/entry/syscalls/syscall_64.tbl": "0\tcommon\tread\tsys_read\n",
    "include/linux/hidden.h": "",
    "include/linux/compiler_types.h": "",
    "include/linux/kconfig.h": "#include <generated/autoconf.h>\n",
    "include/linux/little.h": "#define LITTLE 1\n",
    "include/linux/other.h": "#define OTHER 1\n",
    "init/Makefile": "obj-y := main.o entry.o version.o\n",
    "init/main.c": (
        "#include <linux/little.h>\n"
        "const char *init_name(void)\n{\n\treturn __FILE__;\n}\n"
        "int init_main(void)\n{\n\treturn LITTLE;\n}\n"
    ),
    "init/entry.S": "\t.text\n\t.globl init_entry\ninit_entry:\n\tret\n",
    "init/version.c": "const char init_version[] = LITTLE_VERSION;\n",
    "kernel/sched/idle.c": "void __weak arch_cpu_idle(void)\n{\n}\n",
    "mm/mm_init.c": "",
    "net/Makefile": "obj-y := core.o\nobj-$(CONFIG_ECHO) += echo.o\nobj-$(CONFIG_LATE) += late.o\n",
    "net/Kconfig": (
        'config ECHO\n\tbool "echo"\n\tdefault y\n\n'
        'config SPEED\n\tint "speed"\n\tdefault 3\n\n'
        'config LATE\n\tbool "late"\n\tdepends on ECHO\n\n'
    ),
    "net/core.c": (
        '#include <linux/little.h>\n#include "linux/other.h"\n'
        "int net_core(void)\n{\n#ifdef CONFIG_LATE\n\treturn OTHER + CONFIG_SPEED;\n"
        "#else\n\treturn OTHER;\n#endif\n}\n"
    ),
    "net/echo.c": (
        '#include "part.c"\nint net_echo(int x)\n{\n\treturn part(x) + CONFIG_SPEED;\n}\n'
    ),
    "net/late.c": "#include <linux/other.h>\nint net_late(int x)\n{\n\treturn x * OTHER;\n}\n",
    "net/part.c": "static int part(int x)\n{\n\treturn x;\n}\n",
    "scripts/link-vmlinux.sh": (
        "#!/bin/sh\nset -e\necho linked >> ../links\n"
        "$1 $2 $3 -o vmlinux --whole-archive vmlinux.a --no-whole-archive\n"
    ),
}
VERSION = "CFLAGS_version.o := -DLITTLE_VERSION='\"one\"'\n"


def write(folder: Path, real: Path) -> Path:
    """Writes the source into `folder`, with the build's own parts from the source tree `real`."""
    for name in BORROWED:
        copy = shutil.copytree if (real / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(real / name, folder / name)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "init/Makefile").write_text(FILES["init/Makefile"] + VERSION)
    (folder / "scripts/link-vmlinux.sh").chmod(0o755)
    (folder / "Kconfig").write_text(_kconfig() + 'source "net/Kconfig"\n')
    return folder


def _kconfig() -> str:
    """All symbols that the default flavour asks for."""
    text = 'mainmenu "Little"\n\n'
    for request in kconfig.requests("default"):
        kind = "bool" if request.value in ("y", "n") else "int"
        kind = "string" if request.value.startswith('"') else kind
        text += f'config {request.symbol}\n\t{kind} "{request.symbol.lower()}"\n\n'
    return text
