/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_PGALLOC_H
#define _ASM_LIB_PGALLOC_H

#include <linux/mm.h>

#endif
