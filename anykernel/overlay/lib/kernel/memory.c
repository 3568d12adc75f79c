// SPDX-License-Identifier: GPL-2.0
/* The host's one block of memory becomes the kernel's RAM. */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/memblock.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <asm/sections.h>
#include "lib.h"

unsigned long lib_page_offset;
EXPORT_SYMBOL(lib_page_offset);

#ifndef LIB_CORE_OWNS_ZERO_PAGE
void *lib_zero_page;
EXPORT_SYMBOL(lib_zero_page);
#endif

static unsigned long image_start, image_end, ram_start, ram_end;

#ifdef LIB_HAS_ZONE_LIMITS_INIT
void __init arch_zone_limits_init(unsigned long *max_zone_pfns)
{
	max_zone_pfns[ZONE_NORMAL] = max_low_pfn;
}
#endif

void __init lib_memory_init(void)
{
	image_start = (unsigned long)_text & PAGE_MASK;
	image_end = PAGE_ALIGN((unsigned long)_end);
	ram_start = (unsigned long)lib_boot_info.memory;
	ram_end = ram_start + lib_boot_info.memory_size;

	/*
	 * Memory that follows the image makes the image part of the memory
	 * map, as on a real machine (virt_to_page() of a static object works).
	 * A host that can't arrange that gets a kernel all the same.
	 */
	lib_page_offset = ram_start == image_end ? image_start : ram_start;
	memblock_add(0, ram_end - lib_page_offset);
	if (lib_page_offset == image_start)
		memblock_reserve(0, image_end - image_start);
	else
		memblock_reserve(0, PAGE_SIZE);	/* 0 means "no memory" to memblock */

	min_low_pfn = 0;
	max_low_pfn = max_pfn = PFN_DOWN(ram_end - lib_page_offset);
	high_memory = (void *)ram_end;

#ifndef LIB_CORE_OWNS_ZERO_PAGE
	lib_zero_page = memblock_alloc(PAGE_SIZE, PAGE_SIZE);
	if (!lib_zero_page)
		panic("no memory for the zero page");
#endif
#ifndef LIB_HAS_ZONE_LIMITS_INIT
	{
		unsigned long max_zone_pfns[MAX_NR_ZONES] = { [ZONE_NORMAL] = max_low_pfn };

		free_area_init(max_zone_pfns);
	}
#endif
}

#ifndef LIB_CORE_FREES_MEMBLOCK
void __init mem_init(void)
{
	memblock_free_all();
}
#endif

/* The image belongs to the host's loader. */
void free_initmem(void)
{
}

/* User memory is what the host declared; the kernel's own never is. */
bool lib_access_ok(unsigned long addr, unsigned long size)
{
	unsigned long low = (unsigned long)lib_boot_info.user_low;
	unsigned long high = (unsigned long)lib_boot_info.user_high;
	unsigned long end = addr + size;

	if (end < addr)
		return false;
	if (high)
		return addr >= low && end <= high;
	return (end <= image_start || addr >= image_end) && (end <= ram_start || addr >= ram_end);
}
EXPORT_SYMBOL(lib_access_ok);

SYSCALL_DEFINE6(mmap, unsigned long, addr, unsigned long, len, unsigned long, prot,
		unsigned long, flags, unsigned long, fd, unsigned long, off)
{
	if (offset_in_page(off))
		return -EINVAL;
	return ksys_mmap_pgoff(addr, len, prot, flags, fd, off >> PAGE_SHIFT);
}
