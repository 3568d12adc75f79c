/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_LIB_DELAY_H
#define _ASM_LIB_DELAY_H

/* Delays end in the host's time: see clock_spend in liblinux.h. */
extern void __udelay(unsigned long usecs);
extern void __ndelay(unsigned long nsecs);
extern void __delay(unsigned long loops);

#define udelay(n)	__udelay(n)
#define ndelay(n)	__ndelay(n)

#endif
