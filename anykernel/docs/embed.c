// SPDX-License-Identifier: GPL-2.0
/* Embeds liblinux.so: boots it, gives it eth0 with an address, answers to ARP, is pinged.
 * cc -I anykernel/overlay/include embed.c -o embed && ./embed liblinux.so */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <liblinux.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static uint64_t now = 1000000000;
static const uint8_t *frame;		/* the one that is on its way to the kernel */
static int32_t frame_length = -1;

static uint64_t clock_read(void *h) { return now; }
static void clock_spend(void *h, uint64_t ns) { now += ns; }
static void console(void *h, const char *text, uint32_t n) { fwrite(text, 1, n, stderr); }
static void entropy(void *h, void *buf, uint32_t n) { memset(buf, 42, n); }
static int32_t next(void *h, uint32_t dev) { return frame_length; }
static void pull(void *h, uint32_t dev, void *to, uint32_t n)
{
	if (to)
		memcpy(to, frame, n);
	frame_length = -1;
}
static void xmit(void *h, uint32_t dev, const void *sent, uint32_t n)
{
	const uint8_t *p = sent;

	if (n >= 42 && p[12] == 8 && p[13] == 0 && p[23] == 1 && p[34] == 0)
		printf("echo reply from %u.%u.%u.%u\n", p[26], p[27], p[28], p[29]);
}
static void guard(void *h, void *low) {}
static void caught(void *h, uint32_t task, int32_t signo, uint64_t handler, const void *i) {}
static void crash(void *h, uint32_t kind, const char *what) { puts(what); exit(1); }

static void (*run)(struct lib_event *);
static int (*post)(uint32_t);
static struct lib_task *init;

static long call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c)
{
	struct lib_event event;

	init->nr = nr;
	memcpy(init->args, (uint64_t[6]){ a, b, c }, sizeof(init->args));
	post(0);
	for (run(&event); init->state != LIB_TASK_USER; run(&event))
		if (event.kind == LIB_EVENT_IDLE)
			now = event.deadline;	/* virtual time */
	return init->ret;
}

static void receive(void (*irq)(uint32_t), const void *data, int32_t n)
{
	struct lib_event event;

	frame = data;
	frame_length = n;
	irq(0);
	do
		run(&event);
	while (event.kind != LIB_EVENT_IDLE);
}

int main(int argc, char **argv)
{
	static uint8_t arp[42] = "\xff\xff\xff\xff\xff\xff\2\0\0\0\0\2\x8\x6\0\1\x8\0\6\4\0\1"
				 "\2\0\0\0\0\2\xa\0\0\2\0\0\0\0\0\0\xa\0\0\1";
	static uint8_t ping[42] = "\2\0\0\0\0\1\2\0\0\0\0\2\x8\0\x45\0\0\x1c\0\1\0\0\x40\1\x66\xde"
				  "\xa\0\0\2\xa\0\0\1\x8\0\xf7\xfd\0\1\0\1";
	void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
	void *ram = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct lib_host_ops ops = { LIB_ABI_VERSION, sizeof(ops), NULL, clock_read, clock_spend,
				    console, entropy, next, pull, xmit, guard, caught, crash };
	struct lib_boot boot = { LIB_ABI_VERSION, sizeof(boot), ram, 64 << 20, 0, "quiet", NULL, NULL };
	struct lib_netdev_config eth0 = { LIB_ABI_VERSION, sizeof(eth0), 0, 1500, "eth0",
					  { 2, 0, 0, 0, 0, 1 }, 1, 0 };
	struct ifreq ifr = { .ifr_name = "eth0" };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;
	long fd;

	if (!library || ((int (*)())dlsym(library, "lib_init"))(&ops, &boot))
		return 1;
	run = dlsym(library, "lib_run");
	post = dlsym(library, "lib_post");
	init = ((struct lib_task *(*)(void))dlsym(library, "lib_tasks"))();
	call(LIB_SYS_NETDEV_ADD, (uint64_t)&eth0, 0, 0);
	fd = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = inet_addr("10.0.0.1");
	call(SYS_ioctl, fd, SIOCSIFADDR, (uint64_t)&ifr);
	ifr.ifr_flags = IFF_UP;
	call(SYS_ioctl, fd, SIOCSIFFLAGS, (uint64_t)&ifr);
	receive(dlsym(library, "lib_netdev_irq"), arp, 42);
	receive(dlsym(library, "lib_netdev_irq"), ping, 42);
	return 0;
}
