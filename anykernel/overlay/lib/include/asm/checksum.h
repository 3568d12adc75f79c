/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_CHECKSUM_H
#define _ASM_LIB_CHECKSUM_H

#include <linux/types.h>

/* x86_64/checksum.c: what lib/checksum.c builds its functions on. */
#define do_csum do_csum
unsigned int do_csum(const unsigned char *buff, int len);

#include <asm-generic/checksum.h>

#endif
