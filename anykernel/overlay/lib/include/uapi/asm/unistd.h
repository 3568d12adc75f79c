/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* Numbers from arch/x86/entry/syscalls/syscall_64.tbl. */
#ifndef _UAPI_ASM_LIB_UNISTD_H
#define _UAPI_ASM_LIB_UNISTD_H
#include <asm/lib_unistd.h>
#endif
