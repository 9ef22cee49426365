/* Sends one file to rtcp_recvfile and ends with 0 only when the receiver has confirmed its digest.
 *
 * Exit codes: 0 delivered and confirmed, 1 something else went wrong, 2 usage, 3 the file cannot be read, 4 cannot resolve
 * the address, 5 refused, 6 timed out, 7 reset by the receiver, 8 digest mismatch, 9 the receiver will not have the file,
 * 130 and 143 ended by Ctrl-C and SIGTERM. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "filemsg.h"
#include "rtcp.h"

#define LOOK_MS 200 /* how often a waiting call comes back for the progress bar */
#define EARLY_VERDICT 1

static const char usage[] =
    "rtcp_sendfile [options] FILE HOST:PORT\n"
    "  --bind A:P       local address (the receiver's --ack-to)\n"
    "  --any-source     take ACKs from any address (one-way proxies)\n"
    "  --window BYTES   fixed window instead of congestion control\n"
    "  --cc NAME        bbr, cubic or fixed\n"
    "  --timeout-s N    give up when the receiver is silent for so long (30)\n"
    "  --mtu N          largest UDP payload (0: discover)\n"
    "  --name NAME      name to send instead of FILE's own\n"
    "  --no-thread      no I/O thread: this program's own calls drive the library\n"
    "  --quiet          no progress bar, no summary\n"
    "  --json           one line of figures on stdout";

static struct {
    const char *words[2]; /* FILE, HOST:PORT */
    const char *bind, *name;
    bool any_source, no_thread, quiet, json;
    int cc; /* 0: the library's default */
    int64_t window, timeout_s, mtu;
} opt = { .timeout_s = 30, .window = -1, .mtu = -1 };

static struct {
    int fd;
    uint64_t len;
    const char *name;
    const char *fault; /* why it could not be read to its end */
} file;

static rtcp_handle connection;
static volatile sig_atomic_t signal_seen;

static void on_signal(int sig)
{
    signal_seen = sig;
    rtcp_wake(connection); /* async-signal-safe, and harmless on a handle that is gone */
}

static void parse(int argc, char **argv)
{
    for (cli_start(argc, argv, usage); cli_more();) {
        if (cli_flag("--any-source"))
            opt.any_source = true;
        else if (cli_flag("--no-thread"))
            opt.no_thread = true;
        else if (cli_flag("--quiet"))
            opt.quiet = true;
        else if (cli_flag("--json"))
            opt.json = true;
        else if (!cli_value("--bind", &opt.bind) && !cli_value("--name", &opt.name) && !cli_cc(&opt.cc)
                 && !cli_number("--window", 1, INT32_MAX, &opt.window) && !cli_number("--mtu", 0, 65535, &opt.mtu)
                 && !cli_number("--timeout-s", 1, 86400, &opt.timeout_s) && !cli_word(opt.words, 2))
            cli_unknown();
    }
    if (opt.words[1] == NULL)
        cli_usage("a file and an address are needed");
    if (opt.window >= 0 && opt.cc == 0)
        opt.cc = RTCP_CC_FIXED;
}

/* ---- progress ---- */

static double started;

static void show_progress(bool last)
{
    static double shown_at, rate; /* rate: bytes a second, smoothed */
    static uint64_t shown;
    static const char bar[] = "=============================>";
    rtcp_stats st;
    double now = seconds(), span = now - (shown_at > 0 ? shown_at : started);
    if (opt.quiet || !isatty(STDERR_FILENO) || (!last && span < LOOK_MS / 1000.0))
        return;
    if (rtcp_get_stats(connection, &st, sizeof st) != RTCP_OK)
        return;
    uint64_t head = FILEMSG_HEAD_SIZE + strlen(file.name);
    uint64_t done = st.bytes_acked > head ? st.bytes_acked - head : 0;
    if (done > file.len)
        done = file.len;
    double latest = span > 0 ? (double)(done - shown) / span : 0;
    rate = last ? (double)done / (now - started) : shown_at > 0 ? 0.8 * rate + 0.2 * latest : latest;
    shown_at = now;
    shown = done;

    double part = file.len > 0 ? (double)done / (double)file.len : 1;
    int width = (int)(part * 30);
    fprintf(stderr, "\r%.24s %3d%% [%-30s] %8.1f kB/s", file.name, (int)(part * 100), bar + 30 - width, rate / 1000);
    if (rate > 1 && !last) {
        double left = (double)(file.len - done) / rate;
        long whole = left < 359999 ? (long)left : 359999;
        fprintf(stderr, " %3ld:%02ld left", whole / 60, whole % 60);
    }
    fputs(last ? "             \n" : "  ", stderr);
}

/* ---- the transfer: every function returns RTCP_OK, EARLY_VERDICT or what went wrong ---- */

static int send_all(const void *data, size_t len)
{
    const unsigned char *p = data;
    while (len > 0) {
        int ready = rtcp_poll(connection, RTCP_EVENT_READABLE, 0);
        if (ready != 0)
            return ready < 0 ? ready : EARLY_VERDICT; /* bytes are still to be sent: it can only be a refusal */
        rtcp_ssize n = rtcp_send(connection, p, len);
        if (n < 0 && n != RTCP_ETIMEDOUT)
            return (int)n;
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
        show_progress(false);
    }
    return RTCP_OK;
}

static int send_file(unsigned char digest[SHA256_SIZE])
{
    static unsigned char block[64 * 1024];
    unsigned char head[FILEMSG_HEAD_SIZE];
    struct sha256 hash;
    sha256_init(&hash);
    filemsg_put_head(head, strlen(file.name), file.len);
    int rc = send_all(head, sizeof head);
    if (rc == RTCP_OK)
        rc = send_all(file.name, strlen(file.name));
    for (uint64_t left = file.len; rc == RTCP_OK && left > 0;) {
        ssize_t n = read(file.fd, block, left < sizeof block ? (size_t)left : sizeof block);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            file.fault = n < 0 ? strerror(errno) : "the file became shorter while it was sent";
            return RTCP_EIO;
        }
        sha256_add(&hash, block, (size_t)n);
        left -= (uint64_t)n;
        rc = send_all(block, (size_t)n);
    }
    sha256_end(&hash, digest);
    if (rc == RTCP_OK)
        rc = send_all(digest, SHA256_SIZE);
    return rc == RTCP_OK ? rtcp_finish(connection) : rc;
}

static int read_verdict(unsigned char out[FILEMSG_VERDICT_SIZE])
{
    for (size_t have = 0; have < FILEMSG_VERDICT_SIZE;) {
        rtcp_ssize n = rtcp_recv(connection, out + have, FILEMSG_VERDICT_SIZE - have);
        if (n == 0)
            return RTCP_EPROTO;
        if (n < 0 && n != RTCP_ETIMEDOUT)
            return (int)n;
        if (n > 0)
            have += (size_t)n;
        show_progress(false);
    }
    return RTCP_OK;
}

/* Sends the file and waits for the verdict. */
static int transfer(enum verdict *verdict, unsigned char digest[SHA256_SIZE])
{
    unsigned char record[FILEMSG_VERDICT_SIZE], theirs[SHA256_SIZE];
    int sent = send_file(digest);
    if (sent == RTCP_EINTR || file.fault != NULL)
        return sent;
    int rc = read_verdict(record); /* also after a failed send: the receiver may have said why before it hung up */
    if (rc != RTCP_OK)
        return sent < 0 ? sent : rc;
    *verdict = filemsg_get_verdict(record, theirs);
    if (*verdict == VERDICT_STORED && (sent != RTCP_OK || memcmp(theirs, digest, sizeof theirs) != 0))
        *verdict = VERDICT_MISMATCH;
    return *verdict == VERDICT_NONE ? RTCP_EPROTO : RTCP_OK;
}

/* ---- around it ---- */

static int exit_code(int rc, enum verdict verdict)
{
    if (file.fault != NULL)
        return 3;
    switch (rc) {
    case RTCP_OK:
        return verdict == VERDICT_STORED ? 0 : verdict == VERDICT_MISMATCH ? 8 : 9;
    case RTCP_EADDR:
        return 4;
    case RTCP_ECONNREFUSED:
        return 5;
    case RTCP_EPEERTIMEOUT:
        return 6;
    case RTCP_ECONNRESET:
    case RTCP_EPIPE:
        return 7;
    case RTCP_EINTR:
        return 128 + signal_seen;
    default:
        return 1;
    }
}

static void print_json(int code, const char *result, double secs, const rtcp_stats *st)
{
    printf("{\"ok\":%s,\"exit\":%d,\"result\":", code == 0 ? "true" : "false", code);
    print_json_string(result);
    printf(",\"file\":");
    print_json_string(file.name);
    printf(",\"bytes\":%" PRIu64 ",\"secs\":%.4f,\"goodput_mbps\":%.4f", file.len, secs,
           code == 0 ? (double)file.len * 8 / secs / 1e6 : 0.0);
    printf(",\"packets_sent\":%" PRIu64 ",\"retransmitted\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"corrupt\":%" PRIu64,
           st->packets_sent, st->packets_retransmitted, st->packets_lost, st->packets_corrupt);
    printf(",\"srtt_ms\":%.3f,\"min_rtt_ms\":%.3f,\"rto_count\":%" PRIu64 ",\"mtu\":%" PRIu64 "}\n",
           (double)st->srtt_us / 1000, (double)st->min_rtt_us / 1000, st->rto_count, st->mtu);
}

static void report(int code, int rc, enum verdict verdict)
{
    char detail[256] = "";
    const char *result = signal_seen != 0 && rc != RTCP_OK ? "interrupted"
                         : file.fault != NULL ? file.fault
                         : rc == RTCP_OK ? filemsg_verdict_text(verdict)
                         : rtcp_strerror(rc);
    double secs = seconds() - started;
    rtcp_stats st;
    if (rc != RTCP_OK && file.fault == NULL && signal_seen == 0)
        rtcp_last_error_message(detail, sizeof detail);
    if (rtcp_get_stats(connection, &st, sizeof st) != RTCP_OK)
        memset(&st, 0, sizeof st);
    show_progress(true);
    if (code != 0)
        fprintf(stderr, "rtcp_sendfile: %s to %s: %s%s%s\n", opt.words[0], opt.words[1], result, detail[0] ? ": " : "", detail);
    else if (!opt.quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "%s: %" PRIu64 " bytes in %.2f s (%.3f Mbit/s), %" PRIu64 " packets, %" PRIu64 " sent again; %s\n",
                file.name, file.len, secs, (double)file.len * 8 / secs / 1e6, st.packets_sent, st.packets_retransmitted, result);
    if (opt.json)
        print_json(code, result, secs, &st);
}

static bool open_file(void)
{
    struct stat st;
    file.fd = open(opt.words[0], O_RDONLY);
    if (file.fd < 0 || fstat(file.fd, &st) != 0) {
        fprintf(stderr, "rtcp_sendfile: %s: %s\n", opt.words[0], strerror(errno));
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        fprintf(stderr, "rtcp_sendfile: %s: not a regular file\n", opt.words[0]);
        return false;
    }
    const char *slash = strrchr(opt.words[0], '/');
    file.name = opt.name != NULL ? opt.name : slash != NULL ? slash + 1 : opt.words[0];
    file.len = (uint64_t)st.st_size;
    return true;
}

static int begin(const struct endpoint *to)
{
    int64_t timeout_ms = opt.timeout_s * 1000;
    rtcp_config *cfg = rtcp_config_new();
    if (cfg == NULL)
        return RTCP_ENOMEM;
    /* A setter that fails is remembered: rtcp_sender_new() returns its code. */
    rtcp_config_set_int(cfg, RTCP_OPT_CONNECT_TIMEOUT_MS, timeout_ms);
    rtcp_config_set_int(cfg, RTCP_OPT_USER_TIMEOUT_MS, timeout_ms);
    rtcp_config_set_int(cfg, RTCP_OPT_IDLE_TIMEOUT_MS, timeout_ms); /* waiting for the verdict is silent: so probe, and give up */
    rtcp_config_set_int(cfg, RTCP_OPT_KEEPALIVE_MS, timeout_ms / 2);
    rtcp_config_set_int(cfg, RTCP_OPT_IO_TIMEOUT_MS, LOOK_MS);
    if (opt.no_thread)
        rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0);
    if (opt.any_source)
        rtcp_config_set_int(cfg, RTCP_OPT_ANY_SOURCE, 1);
    if (opt.bind != NULL)
        rtcp_config_set_str(cfg, RTCP_OPT_BIND, opt.bind);
    if (opt.cc != 0)
        rtcp_config_set_int(cfg, RTCP_OPT_CONGESTION, opt.cc);
    if (opt.window >= 0)
        rtcp_config_set_int(cfg, RTCP_OPT_WINDOW, opt.window);
    if (opt.mtu >= 0)
        rtcp_config_set_int(cfg, RTCP_OPT_MTU, opt.mtu);
    int rc = rtcp_sender_new(&connection, to->host != NULL ? to->host : "localhost", to->port, cfg);
    rtcp_config_free(cfg);
    return rc;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    unsigned char digest[SHA256_SIZE];
    enum verdict verdict = VERDICT_NONE;
    struct endpoint to;
    parse(argc, argv);
    cli_endpoint(opt.words[1], &to);
    if (!open_file())
        return 3;
    started = seconds();
    int rc = begin(&to);
    if (rc == RTCP_OK) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        rc = transfer(&verdict, digest);
    }
    int code = exit_code(rc, verdict);
    report(code, rc, verdict);
    if (code == 0)
        rc = rtcp_close(connection, 1000); /* not RTCP_OK: the receiver's last ACK got lost, but its verdict came */
    else
        rtcp_abort(connection);
    close(file.fd);
    return code;
}
