// SPDX-License-Identifier: GPL-2.0
/* For LD_PRELOAD: from the Nth change below a folder on, its disk is full (or for once only). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long left, once, failures;
static char below[4096];

void fail_at(const char *folder, long number, long just_once);
void fail_at(const char *folder, long number, long just_once)
{
	snprintf(below, sizeof(below), "%s/", folder);
	left = number;
	once = just_once;
	failures = 0;
}

long failed(void);
long failed(void)
{
	return failures;
}

static int full_at(const char *path)
{
	if (!left || !path || strncmp(path, below, strlen(below)))
		return 0;
	if (left > 1) {
		left--;
		return 0;
	}
	if (once)
		left = 0;
	failures++;
	errno = ENOSPC;
	return 1;
}

static int full(int fd)
{
	char link[64], path[4096];
	ssize_t length;

	if (!left)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path) - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	return full_at(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPEN(name) \
	int name(const char *path, int flags, ...) \
	{ \
		va_list list; \
		mode_t mode; \
		va_start(list, flags); \
		mode = flags & O_CREAT ? va_arg(list, mode_t) : 0; \
		va_end(list); \
		if (flags & O_CREAT && full_at(path)) \
			return -1; \
		return REAL(name)(path, flags, mode); \
	}

OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *data, size_t size)
{
	return full(fd) ? -1 : REAL(write)(fd, data, size);
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size);
ssize_t sendfile64(int out, int in, off64_t *offset, size_t size)
{
	return full(out) ? -1 : REAL(sendfile64)(out, in, offset, size);
}

int fsync(int fd)
{
	return full(fd) ? -1 : REAL(fsync)(fd);
}

int mkdir(const char *path, mode_t mode)
{
	return full_at(path) ? -1 : REAL(mkdir)(path, mode);
}

int rename(const char *from, const char *to)
{
	return full_at(to) ? -1 : REAL(rename)(from, to);
}

int symlink(const char *target, const char *path)
{
	return full_at(path) ? -1 : REAL(symlink)(target, path);
}

int link(const char *from, const char *to)
{
	return full_at(to) ? -1 : REAL(link)(from, to);
}
