// SPDX-License-Identifier: GPL-2.0
/*
 * ns-3 runs its events in a loop that ends when its scheduler says that there are none.
 * This scheduler is ns-3's own, but says so after each one: then kernels have their turn,
 * outside of ns-3, so that one that crashes leaves no half-done event behind.
 */
#include "clock.hh"

#include "ns3/map-scheduler.h"
#include "ns3/nstime.h"
#include "ns3/object-factory.h"
#include "ns3/simulator.h"

using namespace ns3;

namespace
{

class OneByOne : public MapScheduler
{
  public:
    static TypeId GetTypeId()
    {
        static TypeId tid = TypeId("anykernel::OneByOne")
                                .SetParent<MapScheduler>()
                                .AddConstructor<OneByOne>();
        return tid;
    }

    OneByOne()
    {
        s_only = this;
    }

    bool IsEmpty() const override
    {
        return m_turns == 0 || MapScheduler::IsEmpty() || PeekNext().key.m_ts > m_limit;
    }

    Scheduler::Event RemoveNext() override
    {
        m_turns--;
        return MapScheduler::RemoveNext();
    }

    /* True when an event has run. */
    static bool Turn(uint64_t limit)
    {
        s_only->m_turns = 1;
        s_only->m_limit = limit;
        Simulator::Run();
        bool done = s_only->m_turns == 0;
        s_only->m_turns = 0;
        return done;
    }

  private:
    static OneByOne* s_only;
    uint32_t m_turns{0};
    uint64_t m_limit{0};
};

OneByOne* OneByOne::s_only;

void
Nothing()
{
}

} // namespace

uint64_t
clock_ns()
{
    return Simulator::Now().GetNanoSeconds();
}

bool
clock_step(uint64_t limit)
{
    return OneByOne::Turn(limit);
}

void
clock_jump(uint64_t to)
{
    if (to <= clock_ns())
    {
        return;
    }
    Simulator::Schedule(NanoSeconds(to - clock_ns()), &Nothing);
    clock_step(to);
}

void
clock_prepare(uint64_t begin)
{
    ObjectFactory factory;

    factory.SetTypeId(OneByOne::GetTypeId());
    Simulator::SetScheduler(factory);
    clock_jump(begin);
}
