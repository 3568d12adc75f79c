// SPDX-License-Identifier: GPL-2.0
/* Calls of any function of the kernel, for tests. */
#include <linux/uaccess.h>
#include "lib.h"

/* A function leaves alone what it has no parameter for, and returns in one or two
 * registers. */
typedef unsigned __int128 (*lib_function)(u64, u64, u64, u64, u64, u64,
					  u64, u64, u64, u64, u64, u64);

/* The result goes to memory: as a system call's, -512 would have a meaning. */
long lib_call(unsigned long address, u64 __user *user)
{
	unsigned __int128 result;
	u64 a[LIB_CALL_ARGS];

	if (copy_from_user(a, user, sizeof(a)))
		return -EFAULT;
	result = ((lib_function)address)(a[0], a[1], a[2], a[3], a[4], a[5],
					 a[6], a[7], a[8], a[9], a[10], a[11]);
	if (copy_to_user(user + LIB_CALL_ARGS, &result, sizeof(result)))
		return -EFAULT;
	return 0;
}
