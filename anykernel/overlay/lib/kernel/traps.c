// SPDX-License-Identifier: GPL-2.0
/* Faults: the host catches them and asks where to go on. */
#include <linux/cpu.h>
#include <linux/extable.h>
#include <linux/kernel.h>
#include <linux/uaccess.h>
#include "lib.h"

uint64_t lib_fixup(uint64_t ip)
{
	const struct exception_table_entry *entry = search_exception_tables(ip);

	return entry ? entry->fixup : 0;
}

void __init trap_init(void)
{
}
