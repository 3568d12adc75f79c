// SPDX-License-Identifier: GPL-2.0
/* The host's one block of memory becomes the kernel's RAM. */
#include <linux/anon_inodes.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/memblock.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
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
static unsigned long map_end;	/* of the memory map: of RAM, or of the user memory behind it */

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
	/* User memory that follows has a struct page for each page, too, and can be pinned. */
	map_end = (unsigned long)lib_boot_info.user_low == ram_end ?
		  (unsigned long)lib_boot_info.user_high & PAGE_MASK : ram_end;
	memblock_add(0, map_end - lib_page_offset);
	if (map_end > ram_end)
		memblock_reserve(ram_end - lib_page_offset, map_end - ram_end);
	if (lib_page_offset == image_start)
		memblock_reserve(0, image_end - image_start);
	else
		memblock_reserve(0, PAGE_SIZE);	/* 0 means "no memory" to memblock */

	min_low_pfn = 0;
	max_low_pfn = max_pfn = PFN_DOWN(map_end - lib_page_offset);
	high_memory = (void *)map_end;

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

static unsigned long user_address(struct file *file, unsigned long addr, unsigned long len,
				  unsigned long pgoff, unsigned long flags)
{
	return ram_end;
}

static unsigned int user_capabilities(struct file *file)
{
	return NOMMU_MAP_DIRECT | NOMMU_MAP_READ | NOMMU_MAP_WRITE;
}

static int user_mmap(struct file *file, struct vm_area_struct *vma)
{
	return 0;
}

static const struct file_operations user_file = {
	.mmap			= user_mmap,
	.get_unmapped_area	= user_address,
	.mmap_capabilities	= user_capabilities,
};

/*
 * Unpinning a page takes FOLL_PIN's 1024 references, of which nommu's pinning has added
 * one (mm/gup.c).  A page that lives as long as the kernel has some to lose.
 */
#define USER_PAGE_REFS	(1 << 30)

/* A device's memory may not be all that a process's own may: io_uring registers no file's. */
static int disown_file(unsigned long addr)
{
	struct vm_area_struct *vma;
	struct file *file = NULL;

	mmap_write_lock(current->mm);
	vma = find_vma(current->mm, addr);
	if (vma)
		swap(vma->vm_file, file);
	mmap_write_unlock(current->mm);
	if (!file)
		return -EFAULT;
	fput(file);
	return 0;
}

/* The current process, whose memory all others share, maps the host's user memory as it
 * would map a device's: now there is a VMA where get_user_pages() looks for one. */
int lib_user_memory_map(void)
{
	unsigned long addr;
	struct file *file;

	if (map_end == ram_end)
		return 0;
	for (addr = ram_end; addr < map_end; addr += PAGE_SIZE)
		page_ref_add(virt_to_page((void *)addr), USER_PAGE_REFS);
	file = anon_inode_getfile("[user]", &user_file, NULL, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	addr = vm_mmap(file, 0, map_end - ram_end, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	fput(file);
	return IS_ERR_VALUE(addr) ? (int)addr : disown_file(addr);
}

/* All of it is one mapping's, which lies in RAM here. */
static bool is_mapped(unsigned long addr, unsigned long end)
{
	struct vm_area_struct *vma;
	bool whole;

	if (addr < ram_start || end > ram_end || !current->mm)
		return false;
	rcu_read_lock();
	vma = mtree_load(&current->mm->mm_mt, addr);
	whole = vma && end <= vma->vm_end;
	rcu_read_unlock();
	return whole;
}

/* User memory is what the host declared and what mmap gave; else the kernel's own never is. */
bool lib_access_ok(unsigned long addr, unsigned long size)
{
	unsigned long low = (unsigned long)lib_boot_info.user_low;
	unsigned long high = (unsigned long)lib_boot_info.user_high;
	unsigned long end = addr + size;

	if (end < addr)
		return false;
	if (high)
		return likely(addr >= low && end <= high) || is_mapped(addr, end);
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
