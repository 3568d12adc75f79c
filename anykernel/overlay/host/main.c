// SPDX-License-Identifier: GPL-2.0
/*
 * anykernel-host: runs library kernels for a Python process.
 *
 * usage: anykernel-host LIBRARY SHM_FD PARENT KERNELS MEMORY SEED EPOCH_NS
 *                       virtual|real|network boot|lazy[-nokeys] COST_NS CMDLINE
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine.h"
#include "visit.h"

/* The host's own stack lies at a fixed address, whatever the environment is:
 * kernels store pointers to it, and their memory is compared bit by bit. */
#define STACK_AT 0x1f0000000UL
#define STACK_SIZE 0x100000UL

struct options options;
struct kernel *kernels;
struct kernel *running, *last_run;
uint8_t *shm;

void die(const char *what)
{
	fprintf(stderr, "anykernel-host: %s%s%s\n", what, errno ? ": " : "",
		errno ? strerror(errno) : "");
	end_host(3);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (*end || !*text)
		die("bad number in the arguments");
	return n;
}

bool in_host(uint64_t sp)
{
	return (sp >= STACK_AT && sp < STACK_AT + STACK_SIZE) ||
	       (sp >= DOOR_AT && sp < DOOR_AT + DOOR_SIZE);
}

uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000UL + ts.tv_nsec;
}

struct hk_header *header(void)
{
	return (struct hk_header *)shm;
}

static int image_fd;

/* What only booting and preparing run need not stay mapped; the rest comes back when used. */
void drop_code(struct kernel *k)
{
	/* What was changed doesn't. */
	if (k->patched || k->saved_fixed)
		return;
	madvise(k->base, k->low - k->base, MADV_DONTNEED);
}

static void map_kernel(struct kernel *k)
{
	uint64_t start = wall_ns();

	load_kernel(k, image_fd);
	snapshot_prepare(k);
	keys_assign(k);
	k->shared->boot_ns = wall_ns() - start;
}

static void start_kernel(struct kernel *k)
{
	uint64_t start = wall_ns();

	load_populate(k);
	kernel_start(k);
	load_learn(k, image_fd);
	if (!snapshot_protect_constants(k))
		die("protecting the kernel's read-only data");
	drop_code(k);
	k->booted = true;
	k->shared->boot_ns += wall_ns() - start;
	k->shared->now = k->state.now;
	show_warnings(k);
}

void boot_kernel(struct kernel *k)
{
	map_kernel(k);
	start_kernel(k);
}

/* Maps what boots at once, and closes the sandbox before a kernel's first instruction. */
static void prepare(void)
{
	struct layout layout = load_layout(image_fd);

	engine_prepare();
	header()->user_first = layout.first + layout.high;
	header()->user_stride = layout.stride;
	for (uint32_t i = 0; !options.lazy && i < options.kernels; i++)
		map_kernel(&kernels[i]);
	if (!options.lazy)
		close(options.shm_fd);
	if (!options.lazy && !load_learns()) {
		close(image_fd);
		image_fd = -1;
	}
	sandbox_close(&layout, image_fd);
}

static void run(void)
{
	image_fd = open(options.library, O_RDONLY | O_CLOEXEC);
	if (image_fd < 0)
		die(options.library);
	prepare();
	if (_setjmp(crash_exit)) {
		struct hk_kernel *s = running->shared;

		fprintf(stderr, "anykernel-host: the kernel crashed while booting: %s\n", s->what);
		end_host(4);
	}
	for (volatile uint32_t i = 0; !options.lazy && i < options.kernels; i++)
		start_kernel(&kernels[i]);
	serve();
}

static enum hk_clock clock_named(const char *name)
{
	static const char *const names[] = { "virtual", "real", "network" };

	for (int i = 0; i < 3; i++)
		if (!strcmp(name, names[i]))
			return HK_VIRTUAL + i;
	die("the clock is virtual, real or network");
}

int main(int argc, char **argv)
{
	static ucontext_t context;
	struct hk_header *h;
	size_t size;

	if (argc != 12) {
		fprintf(stderr, "anykernel-host is started by anykernel; see main.c\n");
		return 2;
	}
	options = (struct options){
		.library = argv[1], .shm_fd = number(argv[2]),
		.kernels = number(argv[4]), .memory = number(argv[5]), .seed = number(argv[6]),
		.epoch_ns = number(argv[7]), .clock = clock_named(argv[8]),
		.lazy = !strncmp(argv[9], "lazy", 4), .keys = !strstr(argv[9], "-nokeys"),
		.cost_ns = number(argv[10]), .cmdline = argv[11],
	};
	/* Negative: it is a thread of the parent that waits for us. */
	options.parent = number(argv[3]);
	options.thread = options.parent < 0;
	if (options.thread)
		options.parent = -options.parent;
	sandbox_early(argv);
	size = HK_KERNELS_AT + (size_t)options.kernels * HK_KERNEL_SIZE;
	shm = mmap((void *)HK_BASE, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_FIXED_NOREPLACE, options.shm_fd, 0);
	if (shm != (void *)HK_BASE)
		die("mmap of the shared memory");
	h = (struct hk_header *)shm;
	if (h->magic != HK_MAGIC || h->version != HK_VERSION)
		die("protocol mismatch");
	h->pid = getpid();
	/* Fixed addresses for what a kernel may store. */
	kernels = mmap((void *)0x1e0000000UL, options.kernels * sizeof(*kernels),
		       PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (kernels == MAP_FAILED)
		die("mmap");
	for (uint32_t i = 0; i < options.kernels; i++) {
		uint8_t *part = shm + HK_KERNELS_AT + (size_t)i * HK_KERNEL_SIZE;

		kernels[i].index = i;
		kernels[i].shared = (struct hk_kernel *)part;
		kernels[i].console = part + HK_CONSOLE_AT;
		kernels[i].capture = part + HK_CAPTURE_AT;
	}
	processor_prepare();
	keys_prepare(options.keys);
	faults_install();
	getcontext(&context);
	context.uc_stack.ss_sp = mmap((void *)STACK_AT, STACK_SIZE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (context.uc_stack.ss_sp != (void *)STACK_AT)
		die("mmap of the host's stack");
	context.uc_stack.ss_size = STACK_SIZE;
	makecontext(&context, run, 0);
	setcontext(&context);
	die("setcontext");
}
