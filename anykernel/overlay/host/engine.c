// SPDX-License-Identifier: GPL-2.0
/* anykernel's own engine: net.c's queue of events is the clock. */
#include "net.h"

void engine_prepare(void)
{
	net_prepare();
}

bool engine_step(uint64_t limit)
{
	return net_step(limit);
}
