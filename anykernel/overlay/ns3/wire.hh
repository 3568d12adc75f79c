/* SPDX-License-Identifier: GPL-2.0 */
/* What wire.cc and plugs.cc share: ports, as ns-3 sees them. */
#ifndef NS3_WIRE_HH
#define NS3_WIRE_HH

#include "host.hh"

#include <vector>

#include "device.hh"

/* What a port is, on ns-3's side. */
struct Side
{
    ns3::Ptr<KernelDevice> device;
    uint32_t leaving; // frames sent that ns-3 hasn't got yet
    hk_pipe_stats out, in;
};

extern std::vector<Side> g_sides; // by the port's number

/* A frame out of ns-3, inside one of its events. */
void Arrived(struct port* port, std::vector<uint8_t> frame);
/* The port of a kernel's netdev, or null. */
struct port* PortOf(const struct kernel* k, uint32_t dev);

#endif
