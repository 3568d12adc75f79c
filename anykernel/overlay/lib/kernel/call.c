// SPDX-License-Identifier: GPL-2.0
/* Calls of any function of the kernel, for tests. */
#include <linux/uaccess.h>
#include "lib.h"

typedef u64 (*lib_function)(u64, u64, u64, u64, u64, u64);

/* The result goes to memory: as a system call's, -512 would have a meaning. */
long lib_call(unsigned long address, u64 __user *user)
{
	u64 a[6], result;

	if (copy_from_user(a, user, sizeof(a)))
		return -EFAULT;
	result = ((lib_function)address)(a[0], a[1], a[2], a[3], a[4], a[5]);
	return put_user(result, user + 6);
}
