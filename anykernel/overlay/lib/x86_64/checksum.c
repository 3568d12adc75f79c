// SPDX-License-Identifier: GPL-2.0
/*
 * The Internet checksum, 32 bytes at a time.  Without offloading, each byte of
 * each packet passes here, on every hop that looks at it.
 */
#include <linux/types.h>
#include <asm/checksum.h>

static u64 add(u64 a, u64 b)
{
	asm("addq %1, %0\n\tadcq $0, %0" : "+r" (a) : "r" (b));
	return a;
}

/* The sum of 16-bit words, folded to 16 bits.  An odd last byte counts as the
 * low byte of a word; where `buff` lies doesn't matter. */
unsigned int do_csum(const unsigned char *buff, int len)
{
	u64 sum = 0, last = 0;

	for (; len >= 32; buff += 32, len -= 32)
		asm("addq 0*8(%[p]), %[sum]\n\t"
		    "adcq 1*8(%[p]), %[sum]\n\t"
		    "adcq 2*8(%[p]), %[sum]\n\t"
		    "adcq 3*8(%[p]), %[sum]\n\t"
		    "adcq $0, %[sum]"
		    : [sum] "+r" (sum)
		    : [p] "r" (buff), "m" (*(const unsigned char (*)[32])buff));
	for (; len >= 8; buff += 8, len -= 8)
		sum = add(sum, *(const u64 *)buff);
	for (int i = 0; i < len; i++)
		last |= (u64)buff[i] << (8 * i);
	sum = add(sum, last);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}
