/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_PAGE_H
#define _ASM_LIB_PAGE_H

#include <linux/const.h>
#if __has_include(<vdso/page.h>)
#include <vdso/page.h>
#else
#define PAGE_SHIFT	12
#define PAGE_SIZE	(_AC(1, UL) << PAGE_SHIFT)
#define PAGE_MASK	(~(PAGE_SIZE - 1))
#endif

#ifndef __ASSEMBLY__

typedef struct { unsigned long pte; } pte_t;
typedef struct { unsigned long pgd; } pgd_t;
typedef struct { unsigned long pgprot; } pgprot_t;
typedef struct page *pgtable_t;

#define pte_val(x)	((x).pte)
#define pgd_val(x)	((x).pgd)
#define pgprot_val(x)	((x).pgprot)
#define __pte(x)	((pte_t) { (x) })
#define __pgd(x)	((pgd_t) { (x) })
#define __pgprot(x)	((pgprot_t) { (x) })

void clear_page(void *page);
#define copy_page(to, from)	memcpy((to), (from), PAGE_SIZE)
#define clear_user_page(page, vaddr, pg)	clear_page(page)
#define copy_user_page(to, from, vaddr, pg)	copy_page(to, from)

/*
 * Physical addresses begin at 0 wherever the host put the memory, so that many
 * kernels can live in one process and mm's walks from pfn 0 stay short.
 */
extern unsigned long lib_page_offset;
#define PAGE_OFFSET	lib_page_offset
#define ARCH_PFN_OFFSET	0UL

#define __pa(x)		((unsigned long)(x) - PAGE_OFFSET)
#define __va(x)		((void *)((unsigned long)(x) + PAGE_OFFSET))

#define virt_to_pfn(v)	(__pa(v) >> PAGE_SHIFT)
#define pfn_to_virt(p)	__va((unsigned long)(p) << PAGE_SHIFT)
#define virt_to_page(v)	pfn_to_page(virt_to_pfn(v))
#define page_to_virt(p)	pfn_to_virt(page_to_pfn(p))
#define virt_addr_valid(v)	pfn_valid(virt_to_pfn(v))

extern unsigned long max_low_pfn;
#define pfn_valid(pfn)	((pfn) < max_low_pfn)

#include <asm-generic/memory_model.h>

#ifndef page_to_phys
#define page_to_phys(page)	((phys_addr_t)page_to_pfn(page) << PAGE_SHIFT)
#endif

#endif /* __ASSEMBLY__ */

#include <asm-generic/getorder.h>

#endif
