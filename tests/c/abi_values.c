/* Every number and layout that compiled programs depend on. A line here may be added, never changed. */
#include "rtcp.h"

#define IS(name, value) _Static_assert((int)(name) == (value), #name " changed")

IS(RTCP_OK, 0);
IS(RTCP_EAGAIN, -1);
IS(RTCP_ETIMEDOUT, -2);
IS(RTCP_EINTR, -3);
IS(RTCP_EINVAL, -4);
IS(RTCP_ENOMEM, -5);
IS(RTCP_EADDR, -6);
IS(RTCP_EIO, -7);
IS(RTCP_ECONNREFUSED, -8);
IS(RTCP_ECONNRESET, -9);
IS(RTCP_EPEERTIMEOUT, -10);
IS(RTCP_EPIPE, -11);
IS(RTCP_ESTATE, -12);
IS(RTCP_ENOCONN, -13);
IS(RTCP_EPROTO, -14);
IS(RTCP_EAUTH, -15);
IS(RTCP_ENOTSUP, -16);
IS(RTCP_EFORKED, -17);
IS(RTCP_EPANIC, -18);
IS(RTCP_ECONNABORTED, -19);

IS(RTCP_OPT_MTU, 1);
IS(RTCP_OPT_SEND_BUFFER, 2);
IS(RTCP_OPT_RECV_BUFFER, 3);
IS(RTCP_OPT_CONNECT_TIMEOUT_MS, 4);
IS(RTCP_OPT_IDLE_TIMEOUT_MS, 5);
IS(RTCP_OPT_KEEPALIVE_MS, 6);
IS(RTCP_OPT_IO_TIMEOUT_MS, 8);
IS(RTCP_OPT_IO_THREAD, 10);
IS(RTCP_OPT_CONGESTION, 11);
IS(RTCP_OPT_MAX_CLIENTS, 12);
IS(RTCP_OPT_UDP_BUFFER, 13);
IS(RTCP_OPT_OFFLOAD, 14);
IS(RTCP_OPT_BIND, 15);
IS(RTCP_OPT_PSK, 16);
IS(RTCP_OPT_WINDOW, 17);
IS(RTCP_OPT_ACK_TO, 18);
IS(RTCP_OPT_ANY_SOURCE, 19);
IS(RTCP_OPT_LOCAL_TCP_PORT, 20);
IS(RTCP_OPT_REMOTE_TCP_PORT, 21);
IS(RTCP_OPT_INTEGRITY, 22);
IS(RTCP_OPT_USER_TIMEOUT_MS, 23);
IS(RTCP_OPT_SOCKET, 24);
IS(RTCP_OPT_NODELAY, 25);
IS(RTCP_OPT_TRACE, 27);
IS(RTCP_OPT_SHARDS, 28);
IS(RTCP_OPT_ECN, 26);

IS(RTCP_EVENT_READABLE, 1);
IS(RTCP_EVENT_WRITABLE, 2);
IS(RTCP_EVENT_ACKED, 4);
IS(RTCP_EVENT_CONNECTED, 8);
IS(RTCP_EVENT_ACCEPTED, 16);
IS(RTCP_EVENT_CLOSED, 32);

IS(RTCP_STATE_LISTENING, 1);
IS(RTCP_STATE_CONNECTING, 2);
IS(RTCP_STATE_ESTABLISHED, 3);
IS(RTCP_STATE_FINISHING, 4);
IS(RTCP_STATE_CLOSED, 5);

IS(RTCP_LOG_OFF, 0);
IS(RTCP_LOG_ERROR, 1);
IS(RTCP_LOG_WARN, 2);
IS(RTCP_LOG_INFO, 3);
IS(RTCP_LOG_DEBUG, 4);
IS(RTCP_LOG_TRACE, 5);

IS(RTCP_CC_BBR, 1);
IS(RTCP_CC_CUBIC, 2);
IS(RTCP_CC_FIXED, 3);

IS(RTCP_PHASE_NONE, 0);
IS(RTCP_PHASE_SLOW_START, 1);
IS(RTCP_PHASE_CSS, 2);
IS(RTCP_PHASE_AVOIDANCE, 3);
IS(RTCP_PHASE_STARTUP, 4);
IS(RTCP_PHASE_DRAIN, 5);
IS(RTCP_PHASE_PROBE_BW_DOWN, 6);
IS(RTCP_PHASE_PROBE_BW_CRUISE, 7);
IS(RTCP_PHASE_PROBE_BW_REFILL, 8);
IS(RTCP_PHASE_PROBE_BW_UP, 9);
IS(RTCP_PHASE_PROBE_RTT, 10);

IS(RTCP_IO_SINGLE, 1);
IS(RTCP_IO_BATCH, 2);
IS(RTCP_IO_OFFLOAD, 3);

IS(sizeof(rtcp_handle), 8);
IS(sizeof(rtcp_ssize), sizeof(void *));

#define AT(type, field, offset) IS(offsetof(type, field), (int)(offset))

AT(rtcp_event, conn, 0);
AT(rtcp_event, user_data, 8);
AT(rtcp_event, events, 8 + sizeof(void *));
AT(rtcp_event, error, 12 + sizeof(void *));
AT(rtcp_event, reserved, 16 + sizeof(void *));
IS(sizeof(rtcp_event), 56 + (int)sizeof(void *));

AT(rtcp_stats, bytes_sent, 0);
AT(rtcp_stats, bytes_acked, 8);
AT(rtcp_stats, bytes_received, 16);
AT(rtcp_stats, packets_sent, 24);
AT(rtcp_stats, packets_received, 32);
AT(rtcp_stats, packets_retransmitted, 40);
AT(rtcp_stats, packets_lost, 48);
AT(rtcp_stats, packets_corrupt, 56);
AT(rtcp_stats, packets_dropped, 64);
AT(rtcp_stats, srtt_us, 72);
AT(rtcp_stats, min_rtt_us, 80);
AT(rtcp_stats, rttvar_us, 88);
AT(rtcp_stats, cwnd, 96);
AT(rtcp_stats, ssthresh, 104);
AT(rtcp_stats, bytes_in_flight, 112);
AT(rtcp_stats, peer_window, 120);
AT(rtcp_stats, mtu, 128);
AT(rtcp_stats, rto_count, 136);
AT(rtcp_stats, connections, 144);
AT(rtcp_stats, probe_count, 152);
AT(rtcp_stats, undo_count, 160);
AT(rtcp_stats, bytes_delivered, 168);
AT(rtcp_stats, latest_rtt_us, 176);
AT(rtcp_stats, pacing_rate, 184);
AT(rtcp_stats, bandwidth, 192);
AT(rtcp_stats, loss_permille, 200);
AT(rtcp_stats, loss_floor_permille, 208);
AT(rtcp_stats, cc, 216);
AT(rtcp_stats, cc_phase, 224);
AT(rtcp_stats, ecn, 232);
AT(rtcp_stats, packets_ce, 240);
AT(rtcp_stats, bytes_ce, 248);
AT(rtcp_stats, rto_spurious, 256);
AT(rtcp_stats, bytes_retransmitted, 264);
AT(rtcp_stats, io, 272);
/* sizeof(rtcp_stats) may grow: it is passed to rtcp_get_stats(). */
_Static_assert(sizeof(rtcp_stats) >= 280, "rtcp_stats lost a field");

_Static_assert(RTCP_VERSION_NUMBER ==
                   ((RTCP_VERSION_MAJOR << 16) | (RTCP_VERSION_MINOR << 8) | RTCP_VERSION_PATCH),
               "the packed version");
