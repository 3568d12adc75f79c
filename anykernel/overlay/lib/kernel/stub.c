// SPDX-License-Identifier: GPL-2.0
/* Where the stubs of absent components report that they were reached. */
#include <linux/kernel.h>
#include "lib.h"

void lib_stub_reached(u32 number, const char *name, u32 granted, u32 count, const u64 *args)
{
	if (lib_host.stub)
		lib_host.stub(lib_host.host, number, name, granted, count, args);
	else if (!granted)
		panic("stub reached: %s", name);
}
