// SPDX-License-Identifier: GPL-2.0
/*
 * The rival of ci/bench dce: TCP over a chain of nodes, all of it ns-3's own models.
 *
 * usage: chain NODES BYTES [SEGMENT [RATE DELAY]]
 *
 * NODES >= 2; SEGMENT: bytes of data in a TCP segment, 1448 (ns-3's own default is 536, which
 * makes 2.7 times the packets); links are point to point, RATE and DELAY as ns-3 writes them
 * (1Gbps, 100us).  One sender at the first node sends BYTES to the last, over static routes.
 * Prints one JSON object: simulated_s, wall_s (of the simulation alone), received_bytes,
 * events.
 */
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "ns3/applications-module.h"
#include "ns3/core-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"

using namespace ns3;

namespace
{

// Several times rate x round trip, as Linux's own tuning of buffers makes it.
constexpr uint32_t BUFFER = 4 << 20;
constexpr uint32_t SEGMENT = 1448; // a full frame with timestamps

uint64_t g_wanted;
uint64_t g_received;

void
Received(Ptr<const Packet> packet, const Address&)
{
    g_received += packet->GetSize();
    if (g_received >= g_wanted)
    {
        Simulator::Stop();
    }
}

// One subnet for each link, and a route each way at every node: no routing protocol runs.
Ipv4Address
Join(const NodeContainer& nodes, PointToPointHelper& link)
{
    uint32_t last = nodes.GetN() - 1;
    Ipv4AddressHelper addresses("10.0.0.0", "255.255.255.252");
    Ipv4StaticRoutingHelper routing;
    std::vector<Ipv4InterfaceContainer> ports;

    for (uint32_t i = 0; i < last; i++)
    {
        ports.push_back(addresses.Assign(link.Install(nodes.Get(i), nodes.Get(i + 1))));
        addresses.NewNetwork();
    }
    for (uint32_t i = 0; i <= last; i++)
    {
        Ptr<Ipv4StaticRouting> table = routing.GetStaticRouting(nodes.Get(i)->GetObject<Ipv4>());
        // Interface 0 is the loopback; the one to the left comes first where there is one.
        uint32_t left = 1;
        uint32_t right = i ? 2 : 1;
        if (i < last)
        {
            table->AddNetworkRouteTo(ports[last - 1].GetAddress(0).CombineMask("255.255.255.252"),
                                     "255.255.255.252",
                                     ports[i].GetAddress(1),
                                     right);
        }
        if (i > 0)
        {
            table->AddNetworkRouteTo("10.0.0.0",
                                     "255.255.255.252",
                                     ports[i - 1].GetAddress(0),
                                     left);
        }
    }
    return ports[last - 1].GetAddress(1);
}

} // namespace

int
main(int argc, char** argv)
{
    if (argc < 3 || argc > 6 || argc == 5)
    {
        std::fprintf(stderr, "usage: chain NODES BYTES [SEGMENT [RATE DELAY]]\n");
        return 2;
    }
    uint32_t count = std::strtoul(argv[1], nullptr, 10);
    g_wanted = std::strtoull(argv[2], nullptr, 10);
    uint32_t segment = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : SEGMENT;
    if (count < 2 || !g_wanted || !segment)
    {
        std::fprintf(stderr, "chain: 2 nodes, 1 byte and segments of 1 byte at least\n");
        return 2;
    }
    Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(segment));
    Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(BUFFER));
    Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(BUFFER));

    NodeContainer nodes(count);
    PointToPointHelper link;
    link.SetDeviceAttribute("DataRate", StringValue(argc == 6 ? argv[4] : "1Gbps"));
    link.SetChannelAttribute("Delay", StringValue(argc == 6 ? argv[5] : "100us"));
    InternetStackHelper().Install(nodes);
    Ipv4Address target = Join(nodes, link);

    PacketSinkHelper sink("ns3::TcpSocketFactory", InetSocketAddress(target, 5001));
    ApplicationContainer sinks = sink.Install(nodes.Get(count - 1));
    sinks.Get(0)->TraceConnectWithoutContext("Rx", MakeCallback(&Received));
    BulkSendHelper sender("ns3::TcpSocketFactory", InetSocketAddress(target, 5001));
    sender.SetAttribute("MaxBytes", UintegerValue(g_wanted));
    sender.SetAttribute("SendSize", UintegerValue(64 << 10));
    sender.Install(nodes.Get(0));

    auto start = std::chrono::steady_clock::now();
    Simulator::Run();
    std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    std::printf("{\"simulated_s\": %.9f, \"wall_s\": %.6f, \"received_bytes\": %llu, "
                "\"events\": %llu}\n",
                Simulator::Now().GetSeconds(),
                wall.count(),
                static_cast<unsigned long long>(g_received),
                static_cast<unsigned long long>(Simulator::GetEventCount()));
    Simulator::Destroy();
    return 0;
}
