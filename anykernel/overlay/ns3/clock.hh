/* SPDX-License-Identifier: GPL-2.0 */
/* ns-3's simulator, one event at a time.  Its time is that of the kernels, ns since their boot. */
#ifndef NS3_CLOCK_HH
#define NS3_CLOCK_HH

#include <cstdint>

/* Sets ns-3 up; its time begins at `begin`. */
void clock_prepare(uint64_t begin);
uint64_t clock_ns();
/* Runs the next of ns-3's events if it is due until `limit`; false: there is none. */
bool clock_step(uint64_t limit);
/* Nothing is due until `to`: it is `to` now. */
void clock_jump(uint64_t to);

#endif
