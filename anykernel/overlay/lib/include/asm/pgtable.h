/* SPDX-License-Identifier: GPL-2.0 */
/* No page tables: the names that core code mentions all the same. */
#ifndef _ASM_LIB_PGTABLE_H
#define _ASM_LIB_PGTABLE_H

#include <asm-generic/pgtable-nopmd.h>
#include <asm/page.h>

#ifndef __ASSEMBLY__

#define PAGE_NONE		__pgprot(0)
#define PAGE_SHARED		__pgprot(0)
#define PAGE_COPY		__pgprot(0)
#define PAGE_READONLY		__pgprot(0)
#define PAGE_KERNEL		__pgprot(0)

#define swapper_pg_dir	((pgd_t *)0)

#define __swp_type(x)		(0)
#define __swp_offset(x)		(0)
#define __swp_entry(typ, off)	((swp_entry_t) { ((typ) | ((off) << 7)) })
#define __pte_to_swp_entry(pte)	((swp_entry_t) { pte_val(pte) })
#define __swp_entry_to_pte(x)	((pte_t) { (x).val })

#ifndef LIB_CORE_OWNS_ZERO_PAGE
extern void *lib_zero_page;
#define ZERO_PAGE(vaddr)	virt_to_page(lib_zero_page)
#endif

#define VMALLOC_START	0
#define VMALLOC_END	(~0UL)

#endif
#endif
