/* Memory to memory: how fast one connection is, every byte made by the sender and checked by the receiver.
 *
 * The stream is the payload's length (8 bytes; all ones: whatever comes until the stream ends), then that many bytes of the
 * counters 0, 1, 2, ... (8 bytes each), all little-endian. The receiver checks it to its end and answers with one byte; the
 * sender ends with 0 only after that. Each end prints one JSON line: `secs` is first byte to end of stream at the receiver
 * (`data_secs`: to the last byte), connect to confirmation at the sender; `start` is the moment it counts from, seconds on
 * CLOCK_MONOTONIC, which all processes of a machine share. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli.h"
#include "rtcp.h"

#define BLOCK (128 * 1024)
#define CONFIRMED 'K'
#define UNTIL_END UINT64_MAX /* as a payload's length */

static const char usage[] =
    "rtcp_perf recv --listen ADDR:PORT [options] | rtcp_perf send --to HOST:PORT (--bytes N | --seconds S) [options]\n"
    "  with both, whichever ends first\n"
    "  --log-arrivals FILE  the receiver writes a line for each read: seconds on CLOCK_MONOTONIC, bytes so far\n"
    "  --cc NAME        bbr, cubic or fixed\n"
    "  --window BYTES   fixed window instead of congestion control\n"
    "  --no-gso         no segmentation offload (GSO, GRO)\n"
    "  --no-crc         no CRC-32C\n"
    "  --mtu N          largest UDP payload (1472; 0: discover)\n"
    "  --buffer BYTES   send and receive buffer (what the library takes by itself)\n"
    "  --no-thread      no I/O thread\n"
    "  --in-place       make and check the bytes where the library keeps them: rtcp_reserve(), rtcp_peek()";

static struct {
    const char *words[1], *listen, *to, *arrivals;
    int64_t bytes, seconds, window, mtu, buffer;
    int cc;
    bool no_gso, no_crc, no_thread, in_place;
} opt = { .bytes = -1, .window = -1, .mtu = 1472 };

static rtcp_handle handle, connection; /* what a signal wakes */
static volatile sig_atomic_t signal_seen;
static unsigned char block[BLOCK];

static void on_signal(int sig)
{
    signal_seen = sig;
    rtcp_wake(handle);
    rtcp_wake(connection);
}

/* Called once the handle is there; until then Ctrl-C simply ends the program, also in the middle of a name lookup. */
static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void parse(int argc, char **argv)
{
    for (cli_start(argc, argv, usage); cli_more();) {
        if (cli_flag("--no-gso"))
            opt.no_gso = true;
        else if (cli_flag("--no-crc"))
            opt.no_crc = true;
        else if (cli_flag("--no-thread"))
            opt.no_thread = true;
        else if (cli_flag("--in-place"))
            opt.in_place = true;
        else if (!cli_value("--listen", &opt.listen) && !cli_value("--to", &opt.to) && !cli_cc(&opt.cc)
                 && !cli_value("--log-arrivals", &opt.arrivals) && !cli_number("--seconds", 1, 86400, &opt.seconds)
                 && !cli_number("--bytes", 0, INT64_MAX - 8, &opt.bytes) && !cli_number("--window", 1, INT32_MAX, &opt.window)
                 && !cli_number("--mtu", 0, 65535, &opt.mtu) && !cli_number("--buffer", 1, INT32_MAX, &opt.buffer)
                 && !cli_word(opt.words, 1))
            cli_unknown();
    }
    if (opt.window >= 0 && opt.cc == 0)
        opt.cc = RTCP_CC_FIXED;
}

static rtcp_config *configure(void)
{
    rtcp_config *cfg = rtcp_config_new();
    /* A setter that fails (also on NULL) is remembered: rtcp_*_new() returns its code. */
    rtcp_config_set_int(cfg, RTCP_OPT_MTU, opt.mtu);
    rtcp_config_set_int(cfg, RTCP_OPT_UDP_BUFFER, 4 << 20);
    rtcp_config_set_int(cfg, RTCP_OPT_IDLE_TIMEOUT_MS, 30000);
    rtcp_config_set_int(cfg, RTCP_OPT_KEEPALIVE_MS, 10000); /* with five probes a second apart: an outage of 10 s is no end */
    rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, !opt.no_thread);
    rtcp_config_set_int(cfg, RTCP_OPT_OFFLOAD, !opt.no_gso);
    rtcp_config_set_int(cfg, RTCP_OPT_INTEGRITY, !opt.no_crc);
    if (opt.cc != 0)
        rtcp_config_set_int(cfg, RTCP_OPT_CONGESTION, opt.cc);
    if (opt.window >= 0)
        rtcp_config_set_int(cfg, RTCP_OPT_WINDOW, opt.window);
    if (opt.buffer > 0) {
        rtcp_config_set_int(cfg, RTCP_OPT_SEND_BUFFER, opt.buffer);
        rtcp_config_set_int(cfg, RTCP_OPT_RECV_BUFFER, opt.buffer);
    }
    return cfg;
}

/* The controller that `--cc` named or the library chose. */
static const char *controller(void)
{
    int64_t cc = opt.cc;
    if (cc == 0)
        rtcp_option_bounds(RTCP_OPT_CONGESTION, NULL, NULL, &cc);
    return cc == RTCP_CC_FIXED ? "fixed" : cc == RTCP_CC_CUBIC ? "cubic" : cc == RTCP_CC_BBR ? "bbr" : "unknown";
}

/* The common part of the line; the caller closes it. */

static void report(const char *role, uint64_t bytes, double start, double secs, const rtcp_stats *st)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    double cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    printf("{\"peer\":\"rtcp\",\"role\":\"%s\",\"bytes\":%" PRIu64 ",\"secs\":%.4f,\"mbps\":%.3f,\"cpu_s\":%.3f", role, bytes,
           secs, (double)bytes * 8 / secs / 1e6, cpu);
    printf(",\"maxrss_kb\":%ld,\"note\":\"gso %s, crc %s\",\"cc\":\"%s\",\"start\":%.6f", ru.ru_maxrss,
           opt.no_gso ? "off" : "on", opt.no_crc ? "off" : "on", controller(), start);
    printf(",\"mtu\":%" PRIu64 ",\"srtt_us\":%" PRIu64 ",\"min_rtt_us\":%" PRIu64, st->mtu, st->srtt_us, st->min_rtt_us);
    printf(",\"packets_sent\":%" PRIu64 ",\"packets_received\":%" PRIu64 ",\"packets_corrupt\":%" PRIu64,
           st->packets_sent, st->packets_received, st->packets_corrupt);
}

static int fail(const char *what, int rc)
{
    char detail[256];
    rtcp_last_error_message(detail, sizeof detail);
    if (signal_seen != 0)
        return 128 + signal_seen;
    fprintf(stderr, "error: %s: %s: %s\n", what, rtcp_strerror(rc), detail);
    return 1;
}

/* ---- payload: word 0 is the length, word i + 1 the counter i ---- */

/* Little-endian words, written out so that compilers make one store or load of them: at 10 Gbit/s a loop over bytes would be
 * what is measured. */
static void put_word(unsigned char *p, uint64_t v)
{
    const unsigned char b[8] = {(unsigned char)v,         (unsigned char)(v >> 8),  (unsigned char)(v >> 16),
                                (unsigned char)(v >> 24), (unsigned char)(v >> 32), (unsigned char)(v >> 40),
                                (unsigned char)(v >> 48), (unsigned char)(v >> 56)};
    memcpy(p, b, sizeof b);
}

static uint64_t get_word(const unsigned char *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32
           | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

/* Words that a loop takes at once: compilers make vector instructions of a loop whose length they know. */
#define GROUP 8

/* Makes the `len` bytes of the stream from byte `at` on; `length` counts the payload alone. */
static void fill(unsigned char *p, size_t len, uint64_t at, uint64_t length)
{
    while (len > 0) {
        if (at % 8 == 0 && len >= 8 * GROUP && at > 0) {
            uint64_t word = at / 8 - 1;
            size_t whole = len / (8 * GROUP) * (8 * GROUP);
            for (const unsigned char *end = p + whole; p < end; p += 8 * GROUP, word += GROUP)
                for (size_t i = 0; i < GROUP; i++)
                    put_word(p + 8 * i, word + i);
            at += whole;
            len -= whole;
            continue;
        }
        uint64_t word = at < 8 ? length : at / 8 - 1;
        *p++ = (unsigned char)(word >> (8 * (at % 8)));
        at++;
        len--;
    }
}

struct check {
    uint64_t seen, length; /* stream bytes checked; the payload's length once the first 8 are */
    unsigned char part[8]; /* the word under way */
};

static bool check(struct check *c, const unsigned char *p, size_t len)
{
    uint64_t wrong = 0;
    while (len > 0) {
        if (c->seen % 8 == 0 && len >= 8 * GROUP && c->seen > 0) { /* whole words, the fast way */
            uint64_t word = c->seen / 8 - 1, differ[GROUP] = { 0 };
            size_t whole = len / (8 * GROUP) * (8 * GROUP);
            for (const unsigned char *end = p + whole; p < end; p += 8 * GROUP, word += GROUP)
                for (size_t i = 0; i < GROUP; i++)
                    differ[i] |= get_word(p + 8 * i) ^ (word + i);
            for (size_t i = 0; i < GROUP; i++)
                wrong |= differ[i];
            c->seen += whole;
            len -= whole;
            continue;
        }
        size_t at = (size_t)(c->seen % 8);
        uint64_t word = c->seen / 8;
        if (word == 0)
            c->length |= (uint64_t)*p << (8 * at);
        else
            wrong |= *p ^ (unsigned char)((word - 1) >> (8 * at));
        c->seen++;
        p++;
        len--;
    }
    return wrong == 0 && (c->seen < 8 || c->seen - 8 <= c->length);
}

/* ---- the two ends ---- */

/* Sends the next bytes of the stream, at most `most` of them. Returns how many, or an error code. */
static rtcp_ssize send_some(uint64_t at, uint64_t most, uint64_t length)
{
    void *place = block;
    rtcp_ssize rc = opt.in_place ? rtcp_reserve(handle, &place) : BLOCK;
    if (rc < 0)
        return rc;
    size_t len = most < (uint64_t)rc ? (size_t)most : (size_t)rc;
    fill(place, len, at, length);
    rc = opt.in_place ? rtcp_commit(handle, len) : rtcp_send(handle, block, len);
    return rc == RTCP_OK && opt.in_place ? (rtcp_ssize)len : rc;
}

/* Checks the next bytes that arrive. Returns how many there were, 0 at the end of the stream, or an error code. */
static rtcp_ssize check_some(struct check *c, bool *right)
{
    const void *place = block;
    rtcp_ssize rc = opt.in_place ? rtcp_peek(connection, &place) : rtcp_recv(connection, block, sizeof block);
    if (rc <= 0)
        return rc;
    *right = check(c, place, (size_t)rc);
    int done = opt.in_place ? rtcp_consume(connection, (size_t)rc) : RTCP_OK;
    return done == RTCP_OK ? rc : done;
}

static int perf_send(const struct endpoint *to)
{
    rtcp_stats st = { 0 };
    char answer = 0;
    uint64_t sent = 0, end = opt.bytes < 0 ? UINT64_MAX : (uint64_t)opt.bytes + 8;
    rtcp_config *cfg = configure();
    double start = seconds(), until = opt.seconds > 0 ? start + (double)opt.seconds : HUGE_VAL;
    rtcp_ssize rc = rtcp_sender_new(&handle, to->host != NULL ? to->host : "localhost", to->port, cfg);
    rtcp_config_free(cfg);
    catch_signals();
    if (rc >= 0)
        rc = rtcp_poll(handle, RTCP_EVENT_CONNECTED, -1);
    double handshake = seconds() - start;
    while (rc >= 0 && sent < end && (sent == 0 || seconds() < until)) {
        rc = send_some(sent, end - sent, opt.seconds > 0 ? UNTIL_END : (uint64_t)opt.bytes);
        sent += rc > 0 ? (uint64_t)rc : 0; /* if it was cut short, the next call says why */
    }
    if (rc >= 0)
        rc = rtcp_finish(handle);
    if (rc >= 0)
        rc = rtcp_recv(handle, &answer, 1);
    double secs = seconds() - start;
    if (rc != 1 || answer != CONFIRMED)
        return fail("no confirmation", rc < 0 ? (int)rc : RTCP_EPROTO);
    rtcp_get_stats(handle, &st, sizeof st);
    rc = rtcp_close(handle, 1000); /* the confirmation has come; its last ACK matters to the receiver only */
    report("send", sent - 8, start, secs, &st);
    printf(",\"handshake_s\":%.4f,\"bytes_retransmitted\":%" PRIu64 ",\"packets_retransmitted\":%" PRIu64, handshake,
           st.bytes_retransmitted, st.packets_retransmitted);
    printf(",\"packets_lost\":%" PRIu64 ",\"rto_count\":%" PRIu64 ",\"rto_spurious\":%" PRIu64 "}\n", st.packets_lost, st.rto_count,
           st.rto_spurious);
    return 0;
}

static int accept_one(void)
{
    rtcp_event e;
    for (;;) {
        int n = rtcp_receiver_poll(handle, &e, 1, -1);
        if (n < 0)
            return n;
        if (n == 1 && (e.events & RTCP_EVENT_ACCEPTED)) {
            connection = e.conn;
            if (signal_seen != 0)
                return RTCP_EINTR;
            return rtcp_set_int(connection, RTCP_OPT_IO_TIMEOUT_MS, -1); /* only one client: waiting for it is right */
        }
    }
}

static int perf_recv(const struct endpoint *at)
{
    struct check c = { 0 };
    rtcp_stats st = { 0 };
    char where[80];
    double start = 0, last = 0;
    FILE *arrivals = opt.arrivals == NULL ? NULL : fopen(opt.arrivals, "w");
    if (opt.arrivals != NULL && arrivals == NULL) {
        perror(opt.arrivals);
        return 1;
    }
    rtcp_config *cfg = configure();
    rtcp_ssize rc = rtcp_receiver_new(&handle, at->host, at->port, cfg);
    rtcp_config_free(cfg);
    catch_signals();
    if (rc >= 0 && at->port == 0 && rtcp_get_addr(handle, 0, where, sizeof where) > 0) {
        printf("listening %s\n", where);
        fflush(stdout);
    }
    if (rc >= 0)
        rc = accept_one();
    bool right = true;
    while (rc >= 0 && (rc = check_some(&c, &right)) > 0) {
        last = seconds();
        if (start == 0)
            start = last;
        if (!right) {
            fprintf(stderr, "error: payload mismatch before byte %" PRIu64 "\n", c.seen - 8);
            return 1;
        }
        if (arrivals != NULL)
            fprintf(arrivals, "%.6f %" PRIu64 "\n", last, c.seen);
    }
    double secs = seconds() - start;
    if (arrivals != NULL && fclose(arrivals) != 0) {
        perror(opt.arrivals);
        return 1;
    }
    if (rc < 0)
        return fail("receive", (int)rc);
    if (c.seen < 8 || (c.length != UNTIL_END && c.seen != c.length + 8)) {
        fprintf(stderr, "error: short read: %" PRIu64 " of %" PRIu64 " bytes\n", c.seen < 8 ? 0 : c.seen - 8, c.length);
        return 1;
    }
    rc = rtcp_send(connection, &(char){ CONFIRMED }, 1);
    if (rc == 1)
        rc = rtcp_finish(connection);
    if (rc == RTCP_OK)
        rc = rtcp_flush(connection, 5000);
    /* A sender that has the confirmation may be gone before we hear so; what was received and measured stands. */
    if (rc != RTCP_OK && rc != RTCP_ETIMEDOUT)
        return fail("confirm", (int)rc);
    rtcp_get_stats(connection, &st, sizeof st);
    rc = rtcp_close(handle, 1000);
    report("recv", c.seen - 8, start, secs, &st);
    printf(",\"data_secs\":%.4f}\n", last - start);
    return 0;
}

int main(int argc, char **argv)
{
    struct endpoint address;
    parse(argc, argv);
    bool send = opt.words[0] != NULL && strcmp(opt.words[0], "send") == 0;
    bool receive = opt.words[0] != NULL && strcmp(opt.words[0], "recv") == 0;
    bool has_end = opt.bytes >= 0 || opt.seconds > 0;
    if ((send && (opt.to == NULL || !has_end)) || (receive && opt.listen == NULL) || (!send && !receive))
        cli_usage("recv needs --listen, send needs --to and --bytes or --seconds");
    cli_endpoint(send ? opt.to : opt.listen, &address);
    int code = send ? perf_send(&address) : perf_recv(&address);
    rtcp_abort(connection);
    rtcp_abort(handle);
    return code;
}
