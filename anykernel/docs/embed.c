// SPDX-License-Identifier: GPL-2.0
// Boots the kernel and pings it: cc -I anykernel/overlay/include embed.c liblinux-VERSION.so
#include <arpa/inet.h>
#include <liblinux.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
static uint8_t ram[64 << 20] __attribute__((aligned(4096)));
static uint64_t now = 1000000000;	// virtual time: only we let it pass
static const uint8_t *frame;		// on its way to the kernel
static uint64_t clock_read(void *h) { return now; }
static void clock_spend(void *h, uint64_t ns) { now += ns; }
static void console(void *h, const char *text, uint32_t n) { fwrite(text, 1, n, stderr); }
static void entropy(void *h, void *buf, uint32_t n) { memset(buf, 42, n); }
static int32_t next(void *h, uint32_t dev) { return frame ? 42 : -1; }
static void pull(void *h, uint32_t dev, void *to, uint32_t n) { if (to) memcpy(to, frame, n); frame = NULL; }
static void xmit(void *h, uint32_t dev, const void *sent, uint32_t n)
{
	if (n == 42 && !memcmp((char *)sent + 12, "\x8\0\x45", 3))	// the others are ARP and IPv6
		printf("echo reply from %s\n", inet_ntoa(*(struct in_addr *)((char *)sent + 26)));
}
static void guard(void *h, void *low) {}
static void caught(void *h, uint32_t task, int32_t signo, uint64_t handler, const void *info) {}
static void crash(void *h, uint32_t kind, const char *what) { puts(what); exit(1); }
static long call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c)
{
	struct lib_task *init = lib_tasks();	// slot 0: the first process
	init->nr = nr, init->args[0] = a, init->args[1] = b, init->args[2] = c;
	lib_post(0);
	for (struct lib_event event = { .deadline = now }; init->state != LIB_TASK_USER; lib_run(&event))
		now = event.deadline;
	return init->ret;
}
static void receive(const void *data)
{
	frame = data, lib_netdev_irq(0);
	for (struct lib_event event = { 0 }; event.kind != LIB_EVENT_IDLE; lib_run(&event)) {}
}
int main(void)
{
	struct lib_host_ops ops = { LIB_ABI_VERSION, sizeof(ops), NULL, clock_read, clock_spend, console,
		entropy, next, pull, xmit, guard, caught, crash };
	struct lib_boot boot = { LIB_ABI_VERSION, sizeof(boot), ram, sizeof(ram), .cmdline = "quiet" };
	struct lib_netdev_config eth0 = { LIB_ABI_VERSION, sizeof(eth0), 0, 1500, "eth0", { 2, 0, 0, 0, 0, 1 }, 1 };
	struct ifreq request = { .ifr_name = "eth0" };
	if (lib_init(&ops, &boot) || call(LIB_SYS_NETDEV_ADD, (uint64_t)&eth0, 0, 0) < 0)
		return 1;
	long fd = call(SYS_socket, AF_INET, SOCK_DGRAM, 0);
	*(struct sockaddr_in *)&request.ifr_addr = (struct sockaddr_in){ AF_INET, 0, { inet_addr("10.0.0.1") } };
	call(SYS_ioctl, fd, SIOCSIFADDR, (uint64_t)&request);
	request.ifr_flags = IFF_UP;
	call(SYS_ioctl, fd, SIOCSIFFLAGS, (uint64_t)&request);
	receive("\xff\xff\xff\xff\xff\xff\2\0\0\0\0\2\x8\6\0\1\x8\0\6\4\0\1"	// ARP: who has 10.0.0.1?
		"\2\0\0\0\0\2\xa\0\0\2\0\0\0\0\0\0\xa\0\0\1");
	receive("\2\0\0\0\0\1\2\0\0\0\0\2\x8\0\x45\0\0\x1c\0\1\0\0\x40\1\x66\xde"	// echo request
		"\xa\0\0\2\xa\0\0\1\x8\0\xf7\xfd\0\1\0\1");
}
