// SPDX-License-Identifier: GPL-2.0
/*
 * memcpy & co.  Short lengths, the most frequent in a kernel, go in a few
 * overlapping words; the rest with the processor's string instructions.
 */
#include <linux/export.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/compiler.h>
#include <asm/page.h>

#undef memcpy
#undef memmove
#undef memset

struct word { u64 v; } __packed;
struct half { u32 v; } __packed;
struct quarter { u16 v; } __packed;

#define AT(type, p, off)	(((type *)((char *)(p) + (off)))->v)

/* All is read before anything is written, so this serves memmove, too. */
static __always_inline void copy_upto_32(void *to, const void *from, size_t n)
{
	if (n >= 16) {
		u64 a = AT(const struct word, from, 0), b = AT(const struct word, from, 8);
		u64 c = AT(const struct word, from, n - 16), d = AT(const struct word, from, n - 8);

		AT(struct word, to, 0) = a;
		AT(struct word, to, 8) = b;
		AT(struct word, to, n - 16) = c;
		AT(struct word, to, n - 8) = d;
	} else if (n >= 8) {
		u64 a = AT(const struct word, from, 0), b = AT(const struct word, from, n - 8);

		AT(struct word, to, 0) = a;
		AT(struct word, to, n - 8) = b;
	} else if (n >= 4) {
		u32 a = AT(const struct half, from, 0), b = AT(const struct half, from, n - 4);

		AT(struct half, to, 0) = a;
		AT(struct half, to, n - 4) = b;
	} else if (n >= 2) {
		u16 a = AT(const struct quarter, from, 0), b = AT(const struct quarter, from, n - 2);

		AT(struct quarter, to, 0) = a;
		AT(struct quarter, to, n - 2) = b;
	} else if (n) {
		*(u8 *)to = *(const u8 *)from;
	}
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *start = to;

	if (n <= 32)
		copy_upto_32(to, from, n);
	else
		asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (n) : : "memory");
	return start;
}
EXPORT_SYMBOL(memcpy);

void *memmove(void *to, const void *from, size_t n)
{
	void *start = to;

	if (n <= 32) {
		copy_upto_32(to, from, n);
	} else if ((unsigned long)to - (unsigned long)from >= n) {
		asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (n) : : "memory");
	} else {
		/* Overlaps and goes up: eight bytes at a time from the end. */
		while (n >= 8) {
			n -= 8;
			AT(struct word, to, n) = AT(const struct word, from, n);
		}
		while (n--)
			((u8 *)to)[n] = ((const u8 *)from)[n];
	}
	return start;
}
EXPORT_SYMBOL(memmove);

void *memset(void *to, int c, size_t n)
{
	void *start = to;
	u64 v = (u8)c * 0x0101010101010101ULL;

	if (n <= 64) {
		size_t i;

		if (n >= 8) {
			for (i = 0; i + 8 <= n; i += 8)
				AT(struct word, to, i) = v;
			AT(struct word, to, n - 8) = v;
		} else {
			for (i = 0; i < n; i++)
				((u8 *)to)[i] = c;
		}
	} else {
		asm volatile("rep stosb" : "+D" (to), "+c" (n) : "a" (c) : "memory");
	}
	return start;
}
EXPORT_SYMBOL(memset);

/*
 * Memory from the host begins as zeroes. A page that is zero still is only
 * read, so that it costs no memory until somebody writes to it, and is not
 * among what a snapshot's restore has to compare and copy.
 */
void clear_page(void *page)
{
	const u64 *word = page, *end = page + PAGE_SIZE;

	for (; word < end; word += 8)
		if (word[0] | word[1] | word[2] | word[3] | word[4] | word[5] | word[6] | word[7]) {
			memset(page, 0, PAGE_SIZE);
			return;
		}
}
EXPORT_SYMBOL(clear_page);
