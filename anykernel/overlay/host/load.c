// SPDX-License-Identifier: GPL-2.0
/*
 * Loads liblinux.so at a fixed low address, its RAM right behind.  The library
 * imports nothing and has RELATIVE relocations only, in its data: text pages are
 * the file's, shared by all kernels.  Behind its RAM lies the kernel's window of the memory
 * that is shared with Python: user memory, which the kernel can pin like any of its pages.
 *
 * Half of a boot's time is page faults.  All kernels of a host boot alike: what
 * one has written to is made present at once in those that follow.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"

#define FIRST_KERNEL 0x200000000UL
#define STRIDE_ALIGN 0x10000000UL

/* The kernel whose boot is looked at.  That takes as long as ten others save. */
#define EXAMPLE 15
#define MAX_RUNS 1024
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* What a boot writes to: runs of pages, from kernel.low. */
static struct run {
	uint32_t page, count;
} runs[MAX_RUNS];
static uint32_t run_count;
static uint64_t file_offset, file_size;	/* the data's, from kernel.low */

static uint64_t stride(void)
{
	/* Image below 64 MiB (debug flavours are far smaller), RAM and user memory. */
	uint64_t need = options.memory + HK_USER_SIZE + (64UL << 20);

	return (need + STRIDE_ALIGN - 1) & ~(STRIDE_ALIGN - 1);
}

static void *map(void *at, size_t size, int prot, int fd, off_t offset)
{
	int flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_NORESERVE |
		    (fd < 0 ? MAP_ANONYMOUS : 0);
	void *p = mmap(at, size, prot, flags, fd, offset);

	if (p != at)
		die("mmap of the kernel image or its memory");
	return p;
}

static void map_segment(struct kernel *k, const Elf64_Phdr *ph, int fd)
{
	uint64_t skew = ph->p_vaddr & (PAGE - 1);
	uint8_t *start = k->base + ph->p_vaddr - skew;
	uint8_t *file_end = k->base + ph->p_vaddr + ph->p_filesz;
	uint8_t *end = k->base + ph->p_vaddr + ph->p_memsz;
	uint8_t *file_pages = (uint8_t *)(((uintptr_t)file_end + PAGE - 1) & ~(PAGE - 1));
	uint8_t *pages = (uint8_t *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1));
	int prot = PROT_READ | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
		   (ph->p_flags & PF_X ? PROT_EXEC : 0);

	map(start, file_pages - start, prot, fd, ph->p_offset - skew);
	if (ph->p_flags & PF_W) {
		file_offset = ph->p_offset - skew;
		file_size = file_end - start;
		memset(file_end, 0, file_pages - file_end);
		if (pages > file_pages)
			map(file_pages, pages - file_pages, prot, -1, 0);
		k->low = start;
	}
	if (pages > k->high)
		k->high = pages;
}

/* Read-only data lies among the writable: it has relocations.  From the beginning of its
 * section to that of .data; a library that keeps it elsewhere has none of it here. */
static void find_constants(struct kernel *k, const Elf64_Ehdr *eh, int fd)
{
	uint8_t *first = NULL, *end = NULL;
	Elf64_Shdr sh[64], *names;

	k->constant = k->constant_end = k->low;
	if (!eh->e_shnum || eh->e_shnum > 64 || eh->e_shstrndx >= eh->e_shnum)
		return;
	if (pread(fd, sh, eh->e_shnum * sizeof(*sh), eh->e_shoff) !=
	    (ssize_t)(eh->e_shnum * sizeof(*sh)))
		die("liblinux.so is cut off");
	names = &sh[eh->e_shstrndx];
	for (int i = 0; i < eh->e_shnum; i++) {
		uint8_t *at = k->base + sh[i].sh_addr;
		char name[8] = "";

		if (at < k->low || at >= k->high || (uintptr_t)at % PAGE ||
		    pread(fd, name, sizeof(name), names->sh_offset + sh[i].sh_name) < 0)
			continue;
		if (!memcmp(name, ".rodata", 8))
			first = at;
		else if (!memcmp(name, ".data", 6))
			end = at;
	}
	if (first && first < end) {
		k->constant = first;
		k->constant_end = end;
	}
}

static void add_page(uint32_t page)
{
	struct run *last = run_count ? &runs[run_count - 1] : NULL;

	if (last && last->page + last->count == page)
		last->count++;
	else if (run_count < MAX_RUNS)
		runs[run_count++] = (struct run){ page, 1 };
}

bool load_learns(void)
{
	return options.kernels > EXAMPLE;
}

/* Notes what the boot of `k`, which has just ended, has changed. */
void load_learn(struct kernel *k, int fd)
{
	uint8_t loaded[PAGE];

	if (k->index != EXAMPLE)
		return;
	for (uint64_t at = 0; at < (uint64_t)(k->high - k->low); at += PAGE) {
		uint64_t n = at >= file_size ? 0 : file_size - at < PAGE ? file_size - at : PAGE;

		memset(loaded, 0, PAGE);
		if (n && pread(fd, loaded, n, file_offset + at) != (ssize_t)n)
			die("reading liblinux.so");
		if (memcmp(k->low + at, loaded, PAGE))
			add_page(at / PAGE);
	}
}

/* Only a hint: an old kernel refuses it. */
void load_populate(struct kernel *k)
{
	for (uint32_t i = 0; i < run_count; i++)
		madvise(k->low + runs[i].page * PAGE, runs[i].count * PAGE, MADV_POPULATE_WRITE);
}

static void relocate(struct kernel *k, const Elf64_Dyn *dyn, const char **strings,
		     const Elf64_Sym **symbols, size_t *symbol_count)
{
	const Elf64_Rela *rela = NULL;
	size_t rela_size = 0;
	const uint32_t *gnu_hash = NULL;

	for (; dyn->d_tag != DT_NULL; dyn++) {
		void *at = k->base + dyn->d_un.d_ptr;

		switch (dyn->d_tag) {
		case DT_RELA: rela = at; break;
		case DT_RELASZ: rela_size = dyn->d_un.d_val; break;
		case DT_STRTAB: *strings = at; break;
		case DT_SYMTAB: *symbols = at; break;
		case DT_GNU_HASH: gnu_hash = at; break;
		}
	}
	for (; rela_size; rela++, rela_size -= sizeof(*rela)) {
		if (ELF64_R_TYPE(rela->r_info) != R_X86_64_RELATIVE)
			die("liblinux.so has a relocation that is not RELATIVE");
		*(uint64_t *)(k->base + rela->r_offset) = (uint64_t)k->base + rela->r_addend;
	}
	/* The table's length stands nowhere: the last chain's end tells. */
	if (!gnu_hash)
		die("liblinux.so has no .gnu.hash");
	const uint32_t *buckets = gnu_hash + 4 + gnu_hash[2] * 2;
	const uint32_t *chain = buckets + gnu_hash[0];
	uint32_t last = 0;

	for (uint32_t i = 0; i < gnu_hash[0]; i++)
		if (buckets[i] > last)
			last = buckets[i];
	while (last >= gnu_hash[1] && !(chain[last - gnu_hash[1]] & 1))
		last++;
	*symbol_count = last + 1;
}

static void *find(struct kernel *k, const char *name, const char *strings,
		  const Elf64_Sym *symbols, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (symbols[i].st_shndx && !strcmp(strings + symbols[i].st_name, name))
			return k->base + symbols[i].st_value;
	fprintf(stderr, "anykernel-host: %s lacks %s\n", options.library, name);
	die("liblinux.so is not complete");
}

#define MAX_SEGMENTS 16

static void read_headers(int fd, Elf64_Ehdr *eh, Elf64_Phdr *ph)
{
	if (pread(fd, eh, sizeof(*eh), 0) != sizeof(*eh) ||
	    memcmp(eh->e_ident, ELFMAG, SELFMAG) || eh->e_type != ET_DYN ||
	    eh->e_machine != EM_X86_64 || eh->e_phnum > MAX_SEGMENTS)
		die("not an x86-64 shared library");
	if (pread(fd, ph, eh->e_phnum * sizeof(*ph), eh->e_phoff) !=
	    (ssize_t)(eh->e_phnum * sizeof(*ph)))
		die("liblinux.so is cut off");
}

struct layout load_layout(int fd)
{
	struct layout layout = { .first = FIRST_KERNEL, .stride = stride() };
	Elf64_Ehdr eh;
	Elf64_Phdr ph[MAX_SEGMENTS];

	read_headers(fd, &eh, ph);
	for (int i = 0; i < eh.e_phnum; i++) {
		uint64_t end = (ph[i].p_vaddr + ph[i].p_memsz + PAGE - 1) & ~(PAGE - 1);

		if (ph[i].p_type != PT_LOAD)
			continue;
		if (ph[i].p_flags & PF_W)
			layout.low = ph[i].p_vaddr & ~(PAGE - 1);
		else
			layout.code_offset = ph[i].p_offset & ~(PAGE - 1);
		if (end > layout.high)
			layout.high = end;
	}
	layout.high += options.memory;
	if (layout.low >= layout.high || layout.high + HK_USER_SIZE > layout.stride)
		die("liblinux.so is laid out in an unknown way");
	return layout;
}

/* Behind its RAM, as the header says. */
static void map_window(struct kernel *k)
{
	k->user = mmap(k->high, HK_USER_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED_NOREPLACE, options.shm_fd,
		       (uint8_t *)k->shared - shm + HK_USER_AT);
	if (k->user != k->high)
		die("mmap of a kernel's user memory");
}

void load_kernel(struct kernel *k, int fd)
{
	Elf64_Ehdr eh;
	Elf64_Phdr ph[MAX_SEGMENTS];
	const Elf64_Dyn *dyn = NULL;
	const char *strings = NULL;
	const Elf64_Sym *symbols = NULL;
	size_t count = 0;

	read_headers(fd, &eh, ph);
	k->base = k->high = (uint8_t *)(FIRST_KERNEL + k->index * stride());
	for (int i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD)
			map_segment(k, &ph[i], fd);
		else if (ph[i].p_type == PT_DYNAMIC)
			dyn = (const Elf64_Dyn *)(k->base + ph[i].p_vaddr);
	}
	if (!dyn || !k->low)
		die("liblinux.so lacks a dynamic section or data");
	find_constants(k, &eh, fd);
	k->shared->image_base = (uint64_t)k->base;
	k->shared->image_end = (uint64_t)k->high;
	map(k->high, options.memory, PROT_READ | PROT_WRITE, -1, 0);
	k->high += options.memory;
	map_window(k);
	k->shared->ram_end = (uint64_t)k->high;
	relocate(k, dyn, &strings, &symbols, &count);

#define FIND(field, name) k->field = find(k, name, strings, symbols, count)
	FIND(init, "lib_init");
	FIND(run, "lib_run");
	FIND(tasks, "lib_tasks");
	FIND(post, "lib_post");
	FIND(cancel, "lib_cancel");
	FIND(netdev_irq, "lib_netdev_irq");
	FIND(next_wakeup, "lib_next_wakeup");
	FIND(fixup, "lib_fixup");
	FIND(get_state, "lib_get_state");
#undef FIND
}
