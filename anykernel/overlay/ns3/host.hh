/* SPDX-License-Identifier: GPL-2.0 */
/* The headers of the C host, for C++. */
#ifndef NS3_HOST_HH
#define NS3_HOST_HH

#include <csetjmp>
#include <cstddef>
#include <cstdint>

#define _Static_assert static_assert
#define _Noreturn [[noreturn]]
extern "C"
{
#include "net.h"
}
#undef _Static_assert
#undef _Noreturn

#endif
