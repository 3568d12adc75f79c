# SPDX-License-Identifier: GPL-2.0
"""struct tcp_info (include/uapi/linux/tcp.h), by field names."""

from __future__ import annotations

import struct
from typing import Any

TCP_INFO = 11
BYTES = ("state", "ca_state", "retransmits", "probes", "backoff", "options", "wscale", "flags")
WORDS = (
    "rto", "ato", "snd_mss", "rcv_mss", "unacked", "sacked", "lost", "retrans", "fackets",
    "last_data_sent", "last_ack_sent", "last_data_recv", "last_ack_recv", "pmtu", "rcv_ssthresh",
    "rtt", "rttvar", "snd_ssthresh", "snd_cwnd", "advmss", "reordering", "rcv_rtt", "rcv_space",
    "total_retrans",
)  # fmt: skip
LATER = (
    ("pacing_rate", "Q"), ("max_pacing_rate", "Q"), ("bytes_acked", "Q"), ("bytes_received", "Q"),
    ("segs_out", "I"), ("segs_in", "I"), ("notsent_bytes", "I"), ("min_rtt", "I"),
    ("data_segs_in", "I"), ("data_segs_out", "I"), ("delivery_rate", "Q"), ("busy_time", "Q"),
    ("rwnd_limited", "Q"), ("sndbuf_limited", "Q"), ("delivered", "I"), ("delivered_ce", "I"),
    ("bytes_sent", "Q"), ("bytes_retrans", "Q"), ("dsack_dups", "I"), ("reord_seen", "I"),
)  # fmt: skip
NAMES = (*BYTES, *WORDS, *(name for name, _ in LATER))
FORMAT = struct.Struct("<8B24I" + "".join(kind for _, kind in LATER))


def tcp_info(sock: Any) -> dict[str, int]:
    """The connection's TCP_INFO: {"snd_cwnd": segments, "rtt": us, "total_retrans": ...}; what
    an older kernel doesn't say is 0."""
    raw = sock.getsockopt(6, TCP_INFO, FORMAT.size)
    return dict(zip(NAMES, FORMAT.unpack(raw.ljust(FORMAT.size, b"\0")), strict=True))
