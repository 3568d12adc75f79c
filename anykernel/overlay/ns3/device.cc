// SPDX-License-Identifier: GPL-2.0
#include "device.hh"

#include <cstring>

#include "ns3/channel.h"
#include "ns3/mac48-address.h"

using namespace ns3;

namespace
{

constexpr uint32_t HEADER = 14;
constexpr uint16_t FIRST_TYPE = 1536; // below: a length, as in 802.3

} // namespace

TypeId
KernelDevice::GetTypeId()
{
    static TypeId tid =
        TypeId("anykernel::KernelDevice").SetParent<NetDevice>().AddConstructor<KernelDevice>();
    return tid;
}

void
KernelDevice::Plug(Ptr<NetDevice> under, bool hears, Waiting waiting, Arrived arrived)
{
    m_under = under;
    m_hears = hears;
    m_waiting = waiting;
    m_arrived = arrived;
    under->SetPromiscReceiveCallback(MakeCallback(&KernelDevice::Receive, this));
}

bool
KernelDevice::Transmit(const uint8_t* frame, uint32_t length)
{
    Mac48Address from;
    Mac48Address to;

    if (!m_up || length <= HEADER)
    {
        return false;
    }
    to.CopyFrom(frame);
    from.CopyFrom(frame + 6);
    uint16_t type = frame[12] << 8 | frame[13];
    if (type < FIRST_TYPE || length - HEADER > m_under->GetMtu())
    {
        return false;
    }
    Ptr<Packet> packet = Create<Packet>(frame + HEADER, length - HEADER);
    return SendFrom(packet, from, to, type);
}

uint32_t
KernelDevice::GetWaiting() const
{
    return m_waiting();
}

void
KernelDevice::SetUp(bool up)
{
    m_up = up;
}

bool
KernelDevice::Receive(Ptr<NetDevice> device,
                      Ptr<const Packet> packet,
                      uint16_t protocol,
                      const Address& from,
                      const Address& to,
                      PacketType type)
{
    if (!m_up || (type == PACKET_OTHERHOST && !m_hears))
    {
        return true;
    }
    std::vector<uint8_t> frame(HEADER + packet->GetSize());
    Mac48Address::ConvertFrom(to).CopyTo(frame.data());
    Mac48Address::ConvertFrom(from).CopyTo(frame.data() + 6);
    frame[12] = protocol >> 8;
    frame[13] = protocol;
    packet->CopyData(frame.data() + HEADER, packet->GetSize());
    m_arrived(frame);
    (void)device;
    return true;
}

void
KernelDevice::DoDispose()
{
    m_under = nullptr;
    m_node = nullptr;
    NetDevice::DoDispose();
}

bool
KernelDevice::SendFrom(Ptr<Packet> packet, const Address& from, const Address& to, uint16_t type)
{
    /* Some devices (ad-hoc Wi-Fi) send under their own address only. */
    if (m_under->SupportsSendFrom())
    {
        return m_under->SendFrom(packet, from, to, type);
    }
    return from == m_under->GetAddress() && m_under->Send(packet, to, type);
}

bool
KernelDevice::Send(Ptr<Packet> packet, const Address& to, uint16_t type)
{
    return m_under->Send(packet, to, type);
}

void
KernelDevice::SetIfIndex(const uint32_t index)
{
    m_index = index;
}

uint32_t
KernelDevice::GetIfIndex() const
{
    return m_index;
}

Ptr<Channel>
KernelDevice::GetChannel() const
{
    return m_under->GetChannel();
}

void
KernelDevice::SetAddress(Address address)
{
    m_under->SetAddress(address);
}

Address
KernelDevice::GetAddress() const
{
    return m_under->GetAddress();
}

bool
KernelDevice::SetMtu(const uint16_t mtu)
{
    return m_under->SetMtu(mtu);
}

uint16_t
KernelDevice::GetMtu() const
{
    return m_under->GetMtu();
}

bool
KernelDevice::IsLinkUp() const
{
    return m_up && m_under->IsLinkUp();
}

void
KernelDevice::AddLinkChangeCallback(Callback<void> callback)
{
    m_under->AddLinkChangeCallback(callback);
}

bool
KernelDevice::IsBroadcast() const
{
    return m_under->IsBroadcast();
}

Address
KernelDevice::GetBroadcast() const
{
    return m_under->GetBroadcast();
}

bool
KernelDevice::IsMulticast() const
{
    return m_under->IsMulticast();
}

Address
KernelDevice::GetMulticast(Ipv4Address group) const
{
    return m_under->GetMulticast(group);
}

Address
KernelDevice::GetMulticast(Ipv6Address group) const
{
    return m_under->GetMulticast(group);
}

bool
KernelDevice::IsBridge() const
{
    return false;
}

bool
KernelDevice::IsPointToPoint() const
{
    return m_under->IsPointToPoint();
}

Ptr<Node>
KernelDevice::GetNode() const
{
    return m_node;
}

void
KernelDevice::SetNode(Ptr<Node> node)
{
    m_node = node;
}

bool
KernelDevice::NeedsArp() const
{
    return m_under->NeedsArp();
}

/* What arrives is the kernel's: nobody else on the node hears of it. */
void
KernelDevice::SetReceiveCallback(ReceiveCallback)
{
}

void
KernelDevice::SetPromiscReceiveCallback(PromiscReceiveCallback)
{
}

bool
KernelDevice::SupportsSendFrom() const
{
    return m_under->SupportsSendFrom();
}
