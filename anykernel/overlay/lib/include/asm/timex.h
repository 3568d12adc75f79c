/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_TIMEX_H
#define _ASM_LIB_TIMEX_H

#define CLOCK_TICK_RATE	1000000000UL

typedef unsigned long cycles_t;

cycles_t lib_clock_now(void);
unsigned long lib_entropy_tick(void);

static inline cycles_t get_cycles(void)
{
	return lib_clock_now();
}
#define get_cycles get_cycles
/* Must differ between calls; virtual time stands still between events. */
#define random_get_entropy()	lib_entropy_tick()

#endif
