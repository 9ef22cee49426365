/* Receives files from rtcp_sendfile: many clients at once and one after another, in one thread that never waits for one of
 * them. A file gets its name only when its length and digest are right; until then it is .rtcp-XXXX.part in the same
 * directory, and a transfer that breaks leaves nothing behind.
 *
 * Exit codes: 0 ended as asked (--once: the file is in place), 1 something went wrong (--once: no file), 2 usage, 3 DEST cannot
 * be written, 130 and 143 ended by Ctrl-C and SIGTERM. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "filemsg.h"
#include "rtcp.h"

#define TURN (1024 * 1024) /* bytes taken from one client before the others get their turn */
#define PATH_SIZE 4096

static const char usage[] =
    "rtcp_recvfile [options] LISTEN_ADDR:PORT DEST\n"
    "  DEST             a directory (files get the sender's name) or a file\n"
    "  port 0           any free port; the first line on stdout names it\n"
    "  --once           end after one transfer\n"
    "  --ack-to A:P     send ACKs there instead (one-way proxies)\n"
    "  --timeout-s N    give up on a client that is silent for so long (30)\n"
    "  --max-clients N  how many at once (1000)\n"
    "  --no-thread      no I/O thread: this program's own calls drive the library\n"
    "  --quiet          say nothing about files that arrive\n"
    "  --json           one line of figures for each transfer on stdout";

static struct {
    const char *words[2]; /* LISTEN_ADDR:PORT, DEST */
    const char *ack_to;
    bool once, no_thread, quiet, json;
    bool into_directory;
    int64_t timeout_s, max_clients;
} opt = { .timeout_s = 30, .max_clients = 1000 };

/* One transfer. `need` bytes of `part` are collected for every piece but the body, which goes straight to the file. */
struct client {
    struct client *next, **link; /* all of them, for the end of the program */
    enum piece { HEAD, NAME, BODY, DIGEST, ANSWERED } piece;
    unsigned char part[FILEMSG_NAME_MAX]; /* the longest piece */
    size_t have, need;
    char name[FILEMSG_NAME_MAX + 1];
    uint64_t len, left; /* of the body */
    struct sha256 hash;
    unsigned char digest[SHA256_SIZE];
    int fd; /* -1: no file open */
    char temporary[PATH_SIZE];
    enum verdict verdict;
    char why[PATH_SIZE + 160]; /* of a verdict other than VERDICT_STORED */
    char peer[80];
    double started;
};

static struct client *clients;
static rtcp_handle receiver;
static volatile sig_atomic_t signal_seen;
static bool finished; /* --once: the transfer is over */
static bool stored;

static void on_signal(int sig)
{
    signal_seen = sig;
    rtcp_wake(receiver); /* async-signal-safe */
}

static void parse(int argc, char **argv)
{
    for (cli_start(argc, argv, usage); cli_more();) {
        if (cli_flag("--once"))
            opt.once = true;
        else if (cli_flag("--no-thread"))
            opt.no_thread = true;
        else if (cli_flag("--quiet"))
            opt.quiet = true;
        else if (cli_flag("--json"))
            opt.json = true;
        else if (!cli_value("--ack-to", &opt.ack_to) && !cli_number("--timeout-s", 1, 86400, &opt.timeout_s)
                 && !cli_number("--max-clients", 1, 1000000, &opt.max_clients) && !cli_word(opt.words, 2))
            cli_unknown();
    }
    if (opt.words[1] == NULL)
        cli_usage("an address to listen on and a destination are needed");
}

/* ---- the file ---- */

/* Writes the directory part of DEST, with its last slash, and returns its length; too long a DEST was refused at the start. */
static int directory(char path[PATH_SIZE])
{
    const char *slash = strrchr(opt.words[1], '/');
    if (opt.into_directory)
        return snprintf(path, PATH_SIZE, "%s/", opt.words[1]);
    return snprintf(path, PATH_SIZE, "%.*s", slash != NULL ? (int)(slash - opt.words[1]) + 1 : 0, opt.words[1]);
}

static bool open_temporary(struct client *c)
{
    static unsigned long number;
    int dir = directory(c->temporary);
    do
        snprintf(c->temporary + dir, PATH_SIZE - (size_t)dir, ".rtcp-%lx-%lx.part", (unsigned long)getpid(), number++);
    while ((c->fd = open(c->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666)) < 0 && errno == EEXIST);
    return c->fd >= 0;
}

static void drop_temporary(struct client *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    unlink(c->temporary);
    c->fd = -1;
}

static bool write_body(struct client *c, const unsigned char *data, size_t len)
{
    sha256_add(&c->hash, data, len);
    c->left -= len;
    while (len > 0) {
        ssize_t n = write(c->fd, data, len);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* Gives the complete file its name. */
static bool publish(struct client *c)
{
    char path[PATH_SIZE];
    int dir = directory(path);
    snprintf(path + dir, PATH_SIZE - (size_t)dir, "%s", c->name);
    int closed = close(c->fd); /* some file systems report a full disk only here */
    c->fd = -1;
    if (closed == 0 && rename(c->temporary, path) == 0)
        return true;
    int error = errno;
    unlink(c->temporary);
    errno = error;
    return false;
}

/* ---- the message ---- */

/* Decides a transfer, tells the sender and ends our stream. The answer is the only thing ever sent on this connection and far
 * smaller than its send buffer, so it is taken whole or the connection is dead. */
static void decide(struct client *c, rtcp_handle conn, enum verdict verdict, const char *why)
{
    unsigned char record[FILEMSG_VERDICT_SIZE];
    c->verdict = verdict;
    c->piece = ANSWERED;
    snprintf(c->why, sizeof c->why, "%s: %s", filemsg_verdict_text(verdict), why);
    drop_temporary(c);
    filemsg_put_verdict(record, verdict, c->digest);
    if (rtcp_send(conn, record, sizeof record) != sizeof record)
        rtcp_abort(conn);
    else if (verdict == VERDICT_STORED) {
        rtcp_finish(conn);
        rtcp_set_int(conn, RTCP_OPT_USER_TIMEOUT_MS, 5000); /* the sender may leave as soon as it has the verdict */
    }
    else if (rtcp_close(conn, 5000) != RTCP_OK) /* unread bytes are dropped; the sender learns it after the verdict */
        rtcp_abort(conn);
}

static void expect(struct client *c, enum piece piece, size_t bytes)
{
    c->piece = piece;
    c->have = 0;
    c->need = bytes;
}

static void take_head(struct client *c, rtcp_handle conn)
{
    size_t name_len;
    bool ours = filemsg_get_head(c->part, &name_len, &c->len);
    c->left = c->len;
    if (!ours)
        decide(c, conn, VERDICT_MESSAGE, "the first bytes are something else");
    else if (name_len == 0 || name_len > FILEMSG_NAME_MAX)
        decide(c, conn, VERDICT_NAME, name_len == 0 ? "it is empty" : "it is longer than 255 bytes");
    else
        expect(c, NAME, name_len);
}

static void take_name(struct client *c, rtcp_handle conn)
{
    const char *name = (const char *)c->part, *slash = strrchr(opt.words[1], '/');
    const char *fault = opt.into_directory ? filemsg_name_fault(name, c->have) : NULL;
    if (fault != NULL) {
        decide(c, conn, VERDICT_NAME, fault);
        return;
    }
    if (opt.into_directory)
        snprintf(c->name, sizeof c->name, "%.*s", (int)c->have, name);
    else
        snprintf(c->name, sizeof c->name, "%s", slash != NULL ? slash + 1 : opt.words[1]);
    if (!open_temporary(c)) {
        decide(c, conn, VERDICT_FILE, strerror(errno));
        return;
    }
    sha256_init(&c->hash);
    expect(c, c->len > 0 ? BODY : DIGEST, SHA256_SIZE);
}

static void take_digest(struct client *c, rtcp_handle conn)
{
    sha256_end(&c->hash, c->digest);
    if (memcmp(c->digest, c->part, SHA256_SIZE) != 0)
        decide(c, conn, VERDICT_MISMATCH, "the bytes differ from what was sent");
    else if (!publish(c))
        decide(c, conn, VERDICT_FILE, strerror(errno));
    else
        decide(c, conn, VERDICT_STORED, c->name);
}

static void take_piece(struct client *c, rtcp_handle conn)
{
    switch (c->piece) {
    case HEAD: take_head(c, conn); break;
    case NAME: take_name(c, conn); break;
    case BODY: expect(c, DIGEST, SHA256_SIZE); break;
    case DIGEST: take_digest(c, conn); break;
    case ANSWERED: break;
    }
}

/* Takes the next bytes of the stream, however they are cut. */
static void feed(struct client *c, rtcp_handle conn, const unsigned char *data, size_t len)
{
    while (len > 0 && c->piece != ANSWERED) {
        uint64_t wanted = c->piece == BODY ? c->left : c->need - c->have;
        size_t n = len < wanted ? len : (size_t)wanted;
        if (c->piece == BODY) {
            if (!write_body(c, data, n)) {
                decide(c, conn, VERDICT_FILE, strerror(errno));
                return;
            }
        } else {
            memcpy(c->part + c->have, data, n);
            c->have += n;
        }
        if (n == wanted)
            take_piece(c, conn);
        data += n;
        len -= n;
    }
    if (len > 0 && c->verdict == VERDICT_STORED)
        rtcp_abort(conn); /* bytes after the end of the message: not our sender */
}

/* ---- the clients ---- */

static struct client *accept_client(rtcp_handle conn)
{
    struct client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return NULL;
    c->next = clients;
    c->link = &clients;
    if (clients != NULL)
        clients->link = &c->next;
    clients = c;
    c->fd = -1;
    c->verdict = VERDICT_NONE;
    c->started = seconds();
    expect(c, HEAD, FILEMSG_HEAD_SIZE);
    if (rtcp_get_addr(conn, 1, c->peer, sizeof c->peer) < 0)
        c->peer[0] = '\0';
    rtcp_set_user_data(conn, c);
    return c;
}

static void read_from(struct client *c, rtcp_handle conn)
{
    static unsigned char block[128 * 1024];
    for (size_t taken = 0; taken < TURN && (c->piece != ANSWERED || c->verdict == VERDICT_STORED);) {
        rtcp_ssize n = rtcp_recv(conn, block, sizeof block);
        if (n == 0)
            rtcp_finish(conn); /* a stream that ends early is reported when the connection is over */
        if (n <= 0)
            return; /* nothing more for now; a failure comes back as RTCP_EVENT_CLOSED */
        feed(c, conn, block, (size_t)n);
        taken += (size_t)n;
    }
}

static void print_json(const struct client *c, const rtcp_stats *st, double secs)
{
    bool ok = c->verdict == VERDICT_STORED;
    printf("{\"ok\":%s,\"result\":", ok ? "true" : "false");
    print_json_string(ok ? filemsg_verdict_text(c->verdict) : c->why);
    printf(",\"file\":");
    print_json_string(c->name);
    printf(",\"from\":");
    print_json_string(c->peer);
    printf(",\"bytes\":%" PRIu64 ",\"secs\":%.4f,\"goodput_mbps\":%.4f", c->len - c->left, secs,
           ok ? (double)c->len * 8 / secs / 1e6 : 0.0);
    printf(",\"packets_received\":%" PRIu64 ",\"packets_corrupt\":%" PRIu64 ",\"packets_dropped\":%" PRIu64 "}\n",
           st->packets_received, st->packets_corrupt, st->packets_dropped);
}

/* The connection is over: says how it went and frees everything. */
static void end_client(struct client *c, const rtcp_stats *st, const char *reason)
{
    double secs = seconds() - c->started;
    if (c->verdict == VERDICT_NONE)
        snprintf(c->why, sizeof c->why, "broken after %" PRIu64 " of %" PRIu64 " bytes: %s", c->len - c->left, c->len, reason);
    drop_temporary(c);
    if (c->verdict != VERDICT_STORED)
        fprintf(stderr, "rtcp_recvfile: %s from %s: %s; nothing kept\n", c->name[0] ? c->name : "a file", c->peer, c->why);
    else if (!opt.quiet && !opt.json)
        printf("%s: %" PRIu64 " bytes from %s in %.2f s (%.3f Mbit/s), %" PRIu64 " corrupt packets caught\n", c->name, c->len,
               c->peer, secs, (double)c->len * 8 / secs / 1e6, st->packets_corrupt);
    if (opt.json)
        print_json(c, st, secs);
    fflush(stdout);
    stored = stored || c->verdict == VERDICT_STORED;
    finished = opt.once;
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    free(c);
}

static void handle(const rtcp_event *e)
{
    struct client *c = e->user_data;
    if (e->events & RTCP_EVENT_ACCEPTED)
        c = accept_client(e->conn);
    if (c == NULL) {
        rtcp_abort(e->conn); /* out of memory; its RTCP_EVENT_CLOSED ends up here too and finds nothing to do */
        return;
    }
    if (e->events & RTCP_EVENT_READABLE)
        read_from(c, e->conn);
    if (e->events & RTCP_EVENT_CLOSED) {
        rtcp_stats st = { 0 };
        rtcp_get_stats(e->conn, &st, sizeof st);
        end_client(c, &st, e->error == RTCP_OK ? "the sender ended early" : rtcp_strerror(e->error));
    }
}

/* ---- around it ---- */

static bool check_destination(void)
{
    char path[PATH_SIZE];
    struct stat st;
    const char *slash = strrchr(opt.words[1], '/');
    size_t name_len = strlen(slash != NULL ? slash + 1 : opt.words[1]);
    if (strlen(opt.words[1]) + FILEMSG_NAME_MAX + 2 > PATH_SIZE || name_len > FILEMSG_NAME_MAX) {
        fprintf(stderr, "rtcp_recvfile: DEST is too long\n");
        return false;
    }
    opt.into_directory = stat(opt.words[1], &st) == 0 && S_ISDIR(st.st_mode);
    if (!opt.into_directory && name_len == 0) {
        fprintf(stderr, "rtcp_recvfile: %s: no such directory\n", opt.words[1]);
        return false;
    }
    if (directory(path) == 0)
        strcpy(path, ".");
    if (access(path, W_OK | X_OK) != 0) {
        fprintf(stderr, "rtcp_recvfile: %s: %s\n", path, strerror(errno));
        return false;
    }
    return true;
}

static int begin(const struct endpoint *at)
{
    rtcp_config *cfg = rtcp_config_new();
    if (cfg == NULL)
        return RTCP_ENOMEM;
    /* A setter that fails is remembered: rtcp_receiver_new() returns its code. */
    rtcp_config_set_int(cfg, RTCP_OPT_IDLE_TIMEOUT_MS, opt.timeout_s * 1000); /* how clients that vanish are noticed */
    rtcp_config_set_int(cfg, RTCP_OPT_USER_TIMEOUT_MS, opt.timeout_s * 1000);
    rtcp_config_set_int(cfg, RTCP_OPT_KEEPALIVE_MS, opt.timeout_s * 1000 / 2);
    rtcp_config_set_int(cfg, RTCP_OPT_MAX_CLIENTS, opt.max_clients);
    if (opt.no_thread)
        rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0);
    if (opt.ack_to != NULL)
        rtcp_config_set_str(cfg, RTCP_OPT_ACK_TO, opt.ack_to);
    int rc = rtcp_receiver_new(&receiver, at->host, at->port, cfg);
    rtcp_config_free(cfg);
    return rc;
}

static int serve(void)
{
    static rtcp_event events[64];
    while (!finished && signal_seen == 0) {
        int n = rtcp_receiver_poll(receiver, events, 64, -1);
        if (n < 0 && n != RTCP_EINTR)
            return n;
        for (int i = 0; i < n; i++)
            handle(&events[i]);
    }
    return RTCP_OK;
}

/* Ends what is still under way, so that no partial file stays behind. */
static void shut_down(void)
{
    const rtcp_stats none = { 0 };
    if (signal_seen != 0)
        rtcp_abort(receiver);
    else if (rtcp_close(receiver, 1000) != RTCP_OK)
        rtcp_abort(receiver); /* others were under way when --once had its file */
    while (clients != NULL)
        end_client(clients, &none, "the receiver was ended");
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    struct endpoint at;
    char text[300];
    parse(argc, argv);
    cli_endpoint(opt.words[0], &at);
    if (!check_destination())
        return 3;
    int rc = begin(&at);
    if (rc == RTCP_OK)
        rc = rtcp_get_addr(receiver, 0, text, sizeof text);
    if (rc >= 0) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        printf("listening %s\n", text); /* scripts wait for this line and read the port from it */
        fflush(stdout);
        rc = serve();
    }
    if (rc != RTCP_OK) {
        rtcp_last_error_message(text, sizeof text);
        fprintf(stderr, "rtcp_recvfile: %s: %s: %s\n", opt.words[0], rtcp_strerror(rc), text);
    }
    bool good = rc == RTCP_OK && (!opt.once || stored);
    shut_down();
    return signal_seen != 0 ? 128 + signal_seen : good ? 0 : 1;
}
