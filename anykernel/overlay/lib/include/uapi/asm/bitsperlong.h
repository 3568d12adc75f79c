/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* The host's ABI. */
#include "../../../../x86/include/uapi/asm/bitsperlong.h"
