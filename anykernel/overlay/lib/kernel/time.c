// SPDX-License-Identifier: GPL-2.0
/* The host owns time: one clocksource, one clockevent, and loops that wait. */
#include <linux/clockchips.h>
#include <linux/clocksource.h>
#include <linux/delay.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/sched/clock.h>
#include <linux/timekeeping.h>
#include <linux/timex.h>
#include <asm/archrandom.h>
#include "lib.h"

/* ns that one round of a polling loop takes. */
#define RELAX_NS	100

u64 lib_deadline;	/* on the host's clock; 0 until there is a clockevent */

cycles_t lib_clock_now(void)
{
	return lib_host.clock_read(lib_host.host);
}
EXPORT_SYMBOL(lib_clock_now);

unsigned long long notrace sched_clock(void)
{
	return lib_clock_now();
}

/* The cost of `times` calls or packets.  A timer that is due by then runs when interrupts do. */
void lib_cost(u32 times)
{
	if (!lib_boot_info.cost_ns)
		return;
	lib_host.clock_spend(lib_host.host, times * lib_boot_info.cost_ns);
	if (lib_deadline && lib_clock_now() >= lib_deadline)
		lib_irq_pending |= LIB_IRQ_TIMER;
}

/*
 * No device but ours tells when it passes a packet on: what all have received since
 * the clock was read last took its time before it is read now.
 */
static u64 lib_clocksource_read(struct clocksource *cs)
{
	static u32 counted;

	if (lib_boot_info.cost_ns) {
		u32 packets = lib_packets(), new = packets - counted;

		counted = packets;
		if (new)
			lib_cost(new);
	}
	return lib_clock_now();
}

static struct clocksource lib_clocksource = {
	.name	= "host",
	.rating	= 400,
	.read	= lib_clocksource_read,
	.mask	= CLOCKSOURCE_MASK(64),
	.flags	= CLOCK_SOURCE_IS_CONTINUOUS,
};

static int lib_set_next_event(unsigned long delta, struct clock_event_device *dev)
{
	lib_deadline = lib_clock_now() + delta;
	return 0;
}

static int lib_shutdown(struct clock_event_device *dev)
{
	lib_deadline = LIB_NEVER;
	return 0;
}

/* mult/shift 1/0: a deadline is exact to the nanosecond. */
static struct clock_event_device lib_clockevent = {
	.name			= "host",
	.rating			= 400,
	.features		= CLOCK_EVT_FEAT_ONESHOT,
	.mult			= 1,
	.shift			= 0,
	.min_delta_ns		= 1,
	.min_delta_ticks	= 1,
	.max_delta_ns		= KTIME_MAX / 4,
	.max_delta_ticks	= KTIME_MAX / 4,
	.set_next_event		= lib_set_next_event,
	.set_state_shutdown	= lib_shutdown,
	.set_state_oneshot_stopped = lib_shutdown,
};

void lib_timer_interrupt(void)
{
	/* Oneshot: the handler programs the next one. */
	lib_deadline = LIB_NEVER;
	lib_clockevent.event_handler(&lib_clockevent);
}

static void spend(u64 ns)
{
	lib_host.clock_spend(lib_host.host, ns);
	if (lib_deadline && lib_clock_now() >= lib_deadline)
		lib_irq_pending |= LIB_IRQ_TIMER;
	if (lib_irq_pending && !lib_irqs_off)
		lib_irq_run();
}

void lib_cpu_relax(void)
{
	barrier();
	spend(RELAX_NS);
}
EXPORT_SYMBOL(lib_cpu_relax);

void __ndelay(unsigned long nsecs)
{
	u64 end = lib_clock_now() + nsecs;

	do {
		u64 now = lib_clock_now();

		spend(now < end ? end - now : 0);
	} while (lib_clock_now() < end);
}
EXPORT_SYMBOL(__ndelay);

void __udelay(unsigned long usecs)
{
	__ndelay(usecs * NSEC_PER_USEC);
}
EXPORT_SYMBOL(__udelay);

void __delay(unsigned long loops)
{
	__ndelay(loops);
}
EXPORT_SYMBOL(__delay);

/* There is nothing to calibrate: a delay reads the clock. */
void calibrate_delay(void)
{
	loops_per_jiffy = NSEC_PER_SEC / HZ;
}

void read_persistent_clock64(struct timespec64 *ts)
{
	*ts = ns_to_timespec64(lib_boot_info.epoch_ns);
}

void __init time_init(void)
{
	lib_clockevent.cpumask = cpumask_of(0);
	lib_deadline = LIB_NEVER;
	clocksource_register_hz(&lib_clocksource, NSEC_PER_SEC);
	clockevents_register_device(&lib_clockevent);
}

/*
 * What random.c and crypto/jitterentropy.c take for a cycle counter: a coarse
 * one, as deterministic as all else. Its steps are irregular, for
 * jent_gen_entropy() waits until their differences differ; and some are 0, by
 * which jent_mod_init() sees at once that a clock that stands still has no
 * jitter to offer. The host seeds the RNG.
 */
unsigned long lib_entropy_tick(void)
{
	static unsigned long calls, ticks;

	calls++;
	ticks += (calls * calls * 0x9e3779b97f4a7c15UL) >> 60;
	return ticks;
}
EXPORT_SYMBOL(lib_entropy_tick);

size_t lib_entropy_longs(unsigned long *v, size_t max_longs)
{
	lib_host.entropy(lib_host.host, v, max_longs * sizeof(*v));
	return max_longs;
}
EXPORT_SYMBOL(lib_entropy_longs);
