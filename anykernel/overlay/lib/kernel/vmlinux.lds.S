/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A shared library: text R-X, all that needs relocation R-W (read-only data
 * too, which avoids text relocations), linked at 0.
 */
#define LOAD_OFFSET 0
#define RUNTIME_DISCARD_EXIT
#define RO_EXCEPTION_TABLE_ALIGN 16

#include <asm-generic/vmlinux.lds.h>
#include <asm/cache.h>
#include <asm/page.h>
#include <asm/thread_info.h>

OUTPUT_FORMAT("elf64-x86-64")
OUTPUT_ARCH(i386:x86-64)
ENTRY(lib_init)

jiffies = jiffies_64;

VERSION { { global: lib_init; lib_run; lib_tasks; lib_post; lib_cancel; lib_netdev_irq;
	    lib_fixup; lib_get_state; lib_next_wakeup; lib_version; local: *; }; }

PHDRS {
	text PT_LOAD FILEHDR PHDRS FLAGS(5);
	data PT_LOAD FLAGS(6);
	dynamic PT_DYNAMIC FLAGS(6);
	stack PT_GNU_STACK FLAGS(6);
}

SECTIONS
{
	. = SIZEOF_HEADERS;
	.hash : { *(.hash) } :text
	.gnu.hash : { *(.gnu.hash) }
	.dynsym : { *(.dynsym) }
	.dynstr : { *(.dynstr) }
	.gnu.version : { *(.gnu.version) }
	.gnu.version_d : { *(.gnu.version_d) }
	.gnu.version_r : { *(.gnu.version_r) }
	.rela.dyn : { *(.rela .rela.*) }
	. = ALIGN(PAGE_SIZE);
	.text : {
		_text = .;
		_stext = .;
		HEAD_TEXT
		TEXT_TEXT
		SCHED_TEXT
#ifdef CPUIDLE_TEXT
		CPUIDLE_TEXT
#endif
		LOCK_TEXT
		KPROBES_TEXT
		IRQENTRY_TEXT
		SOFTIRQENTRY_TEXT
		ENTRY_TEXT
		*(.fixup)
		*(.gnu.warning)
		_etext = .;
	} :text = 0xcccccccc
	_sinittext = .;
	.init.text : {
		*(.init.text .init.text.*)
		*(.text.startup)
		_einittext = .;
	} :text
	.exit.text : { *(.exit.text .text.exit .memexit.text) } :text

	. = ALIGN(PAGE_SIZE);
	_sdata = .;
	.data.rel : { *(.data.rel .data.rel.*) } :data
	RO_DATA(PAGE_SIZE)
	RW_DATA(L1_CACHE_BYTES, PAGE_SIZE, THREAD_SIZE)
	.dynamic : { *(.dynamic) } :data :dynamic
	.got : { *(.got .got.plt) } :data
	. = ALIGN(PAGE_SIZE);
	__init_begin = .;
	INIT_DATA_SECTION(16)
	.exit.data : { EXIT_DATA }
	PERCPU_SECTION(L1_CACHE_BYTES)
	. = ALIGN(PAGE_SIZE);
	__init_end = .;
	_edata = .;
	BSS_SECTION(0, PAGE_SIZE, PAGE_SIZE)
	_end = .;

	STABS_DEBUG
	DWARF_DEBUG
	ELF_DETAILS
#ifdef MODINFO
	MODINFO
#endif
	DISCARDS
}
