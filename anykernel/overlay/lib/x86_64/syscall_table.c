// SPDX-License-Identifier: GPL-2.0
/* The host's system calls by number; what this kernel lacks is ENOSYS. */
#include <linux/syscalls.h>
#include <linux/sys.h>
#include <asm/syscall.h>
#include <asm/unistd.h>

/*
 * Declared once more, without their true parameters: an assembler-level name
 * serves.  Weak: the tables of newer trees name calls that a configuration or
 * this architecture doesn't have.  Hidden, so that the linker makes them NULL and
 * not imports; the compiler says so of no renamed symbol.
 */
#define __SYSCALL(nr, name) \
	extern long lib_call_##nr(unsigned long, unsigned long, unsigned long, \
				  unsigned long, unsigned long, unsigned long) \
		__asm__(#name) __weak; \
	__asm__(".hidden " #name);
#include <asm/lib_syscalls.h>
#undef __SYSCALL

#define __SYSCALL(nr, name)	[nr] = lib_call_##nr,
const sys_call_ptr_t sys_call_table[__NR_syscalls] = {
#include <asm/lib_syscalls.h>
};
