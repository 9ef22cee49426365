/* One handle over several sockets and threads: every byte exact, both ways of beginning, one poll, one descriptor, one limit,
 * one close; and what does not go together. */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

#define SHARDS 4
#define CLIENTS 16
#define BYTES (1 << 20)
#define PIECE (1 << 15)

static rtcp_config *config(int shards)
{
    rtcp_config *cfg = rtcp_config_new();
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_SHARDS, shards));
    return cfg;
}

static rtcp_handle receiver_new(int shards, int max_clients)
{
    rtcp_handle h = 0;
    rtcp_config *cfg = config(shards);
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_MAX_CLIENTS, max_clients));
    EXPECT(RTCP_OK, rtcp_receiver_new(&h, "127.0.0.1", 0, cfg));
    rtcp_config_free(cfg);
    return h;
}

static uint16_t port_of(rtcp_handle h)
{
    char text[80];
    CHECK(rtcp_get_addr(h, 0, text, sizeof text) > 0);
    return (uint16_t)atoi(strchr(text, ':') + 1);
}

static rtcp_stats stats_of(rtcp_handle h)
{
    rtcp_stats st;
    EXPECT(RTCP_OK, rtcp_get_stats(h, &st, sizeof st));
    return st;
}

/* What connection `number` carries at `at`. */
static unsigned char byte_at(int number, size_t at)
{
    return (unsigned char)((at * 2654435761u >> 13) + (unsigned)number * 41);
}

static uint16_t server_port;

/* Sends its bytes in pieces, waits for each to come back, and counts in `*arg` those that are right. */
static void *client(void *arg)
{
    static unsigned char pieces[CLIENTS][PIECE];
    int number = *(int *)arg, right = 0;
    unsigned char *piece = pieces[number];
    rtcp_handle h;
    EXPECT(RTCP_OK, rtcp_sender_new(&h, "127.0.0.1", server_port, NULL));
    for (size_t sent = 0; sent < BYTES; sent += PIECE) {
        rtcp_ssize n = 1;
        for (size_t at = 0; at < PIECE; at++) piece[at] = byte_at(number, sent + at);
        EXPECT(PIECE, rtcp_send(h, piece, PIECE));
        for (size_t back = 0; back < PIECE && n > 0; back += (size_t)n) {
            n = rtcp_recv(h, piece + back, PIECE - back);
            for (rtcp_ssize i = 0; i < n; i++) right += piece[back + (size_t)i] == byte_at(number, sent + back + (size_t)i);
        }
    }
    EXPECT(RTCP_OK, rtcp_finish(h));
    EXPECT(0, rtcp_recv(h, piece, PIECE));
    EXPECT(RTCP_OK, rtcp_close(h, 30000));
    *(int *)arg = right;
    return NULL;
}

/* Echoes with rtcp_fd() and rtcp_receiver_poll() until `count` connections are over: how many ended well. What does not fit
 * waits for WRITABLE. */
struct echo { unsigned char bytes[65536]; size_t begin, end; int finished; };

static void echo(rtcp_handle conn, struct echo *e)
{
    for (;;) {
        while (e->begin < e->end) {
            rtcp_ssize n = rtcp_send(conn, e->bytes + e->begin, e->end - e->begin);
            if (n < 0) {
                EXPECT(RTCP_EAGAIN, n);
                EXPECT(RTCP_OK, rtcp_watch(conn, RTCP_EVENT_WRITABLE));
                return;
            }
            e->begin += (size_t)n;
        }
        rtcp_ssize n = rtcp_recv(conn, e->bytes, sizeof e->bytes);
        if (n <= 0) {
            if (n == 0 && !e->finished) {
                EXPECT(RTCP_OK, rtcp_finish(conn));
                e->finished = 1;
            } else if (n < 0)
                EXPECT(RTCP_EAGAIN, n);
            EXPECT(RTCP_OK, rtcp_watch(conn, n == 0 ? 0 : RTCP_EVENT_READABLE));
            return;
        }
        e->begin = 0, e->end = (size_t)n;
    }
}

static int serve(rtcp_handle receiver, int count)
{
    rtcp_event ev[4];
    int over = 0, well = 0;
    while (over < count) {
        struct pollfd p = { .fd = rtcp_fd(receiver), .events = POLLIN };
        if (poll(&p, 1, 30000) != 1) break;
        int n = rtcp_receiver_poll(receiver, ev, 4, 0);
        CHECK(n >= 0);
        for (int i = 0; i < n; i++) {
            if (ev[i].events & RTCP_EVENT_ACCEPTED) {
                ev[i].user_data = calloc(1, sizeof(struct echo));
                EXPECT(RTCP_OK, rtcp_set_user_data(ev[i].conn, ev[i].user_data));
            }
            if (ev[i].events & (RTCP_EVENT_READABLE | RTCP_EVENT_WRITABLE)) echo(ev[i].conn, ev[i].user_data);
            if (ev[i].events & RTCP_EVENT_CLOSED) {
                over++;
                well += ev[i].error == RTCP_OK;
                free(ev[i].user_data);
            }
        }
    }
    return well;
}

static void many_clients(void)
{
    pthread_t threads[CLIENTS];
    int results[CLIENTS];
    rtcp_handle receiver = receiver_new(SHARDS, CLIENTS);
    server_port = port_of(receiver);
    for (int i = 0; i < CLIENTS; i++) {
        results[i] = i;
        pthread_create(&threads[i], NULL, client, &results[i]);
    }
    EXPECT(CLIENTS, serve(receiver, CLIENTS));
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        EXPECT(BYTES, results[i]);
    }
    rtcp_stats st = stats_of(receiver);
    EXPECT((long long)CLIENTS * BYTES, st.bytes_received);
    EXPECT((long long)CLIENTS * BYTES, st.bytes_acked);
    EXPECT(0, st.connections);
    EXPECT(RTCP_OK, rtcp_close(receiver, 30000));
    EXPECT(RTCP_ENOCONN, rtcp_receiver_poll(receiver, &(rtcp_event){ 0 }, 1, 0));
}

/* Waits for the next record with one of `bits`; others are passed over. */
static rtcp_event next(rtcp_handle receiver, uint32_t bits)
{
    rtcp_event ev = { 0 };
    for (int i = 0; i < 1000; i++) {
        EXPECT(1, rtcp_receiver_poll(receiver, &ev, 1, 30000));
        if (ev.events & bits) return ev;
    }
    CHECK(!"the event came");
    return ev;
}

/* Both ends are sharded, each begins half of the connections; all are one each, whoever began. */
static void dialled_both_ways(void)
{
    enum { PEERS = 8 };
    rtcp_handle here = receiver_new(SHARDS, 1000), peers[PEERS], out[PEERS];
    char b[16];
    for (int i = 0; i < PEERS; i++) {
        peers[i] = receiver_new(2, 1000);
        rtcp_handle from = i % 2 ? here : peers[i], to = i % 2 ? peers[i] : here, again, came;
        EXPECT(RTCP_OK, rtcp_receiver_connect(&out[i], from, "127.0.0.1", port_of(to), &peers[i], NULL));
        CHECK(next(from, RTCP_EVENT_CONNECTED).user_data == &peers[i]);
        came = next(to, RTCP_EVENT_ACCEPTED).conn;
        EXPECT(RTCP_OK, rtcp_receiver_connect(&again, to, "127.0.0.1", port_of(from), NULL, NULL));
        CHECK(again == came);
        EXPECT(5, rtcp_send(out[i], "hello", 5));
        EXPECT(RTCP_EVENT_READABLE, rtcp_poll(came, RTCP_EVENT_READABLE, 30000));
        EXPECT(5, rtcp_recv(came, b, sizeof b));
        EXPECT(3, rtcp_send(came, "you", 3));
        EXPECT(RTCP_OK, rtcp_flush(came, 30000));
        EXPECT(3, rtcp_recv(out[i], b, sizeof b));
    }
    EXPECT(PEERS, stats_of(here).connections);
    EXPECT(RTCP_OK, rtcp_close(here, 30000));
    for (int i = 0; i < PEERS; i++) rtcp_abort(peers[i]);
}

static void *read_to_the_end(void *arg)
{
    static char sink[65536];
    rtcp_ssize n;
    long sum = 0;
    while ((n = rtcp_recv(*(rtcp_handle *)arg, sink, sizeof sink)) > 0) sum += (long)n;
    return (void *)(n == 0 ? sum : (long)n);
}

/* A close delivers what all shards still have. */
static void closed_with_data_pending(void)
{
    static char data[300000];
    rtcp_handle receiver = receiver_new(3, 100), h[CLIENTS];
    pthread_t threads[CLIENTS];
    long sent[CLIENTS], expected = 0, got = 0;
    for (int i = 0; i < CLIENTS; i++) EXPECT(RTCP_OK, rtcp_sender_new(&h[i], "127.0.0.1", port_of(receiver), NULL));
    for (int i = 0; i < CLIENTS; i++) {
        sent[i] = (long)rtcp_send(next(receiver, RTCP_EVENT_ACCEPTED).conn, data, sizeof data);
        CHECK(sent[i] > 0);
        expected += sent[i];
    }
    for (int i = 0; i < CLIENTS; i++) pthread_create(&threads[i], NULL, read_to_the_end, &h[i]);
    EXPECT(RTCP_OK, rtcp_close(receiver, 30000));
    for (int i = 0; i < CLIENTS; i++) {
        void *sum;
        pthread_join(threads[i], &sum);
        CHECK((long)sum > 0);
        got += (long)sum;
        EXPECT(RTCP_OK, rtcp_close(h[i], 30000));
    }
    EXPECT(expected, got);
}

/* After a fork the parent's shards are the parent's. */
static void forked(rtcp_handle receiver)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        failed = 0;
        EXPECT(RTCP_EFORKED, rtcp_receiver_poll(receiver, &(rtcp_event){ 0 }, 1, -1));
        EXPECT(RTCP_EFORKED, rtcp_fd(receiver));
        rtcp_abort(receiver);
        EXPECT(RTCP_ENOCONN, rtcp_fd(receiver));
        _exit(failed != 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void misused(int may_fork)
{
    rtcp_handle h = 7;
    rtcp_config *cfg = config(2);
    int64_t min, max, def;
    EXPECT(RTCP_OK, rtcp_option_bounds(RTCP_OPT_SHARDS, &min, &max, &def));
    CHECK(min == 1 && max == 64 && def == 1);
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0));
    EXPECT_SAYS(RTCP_EINVAL, rtcp_receiver_new(&h, NULL, 0, cfg), "I/O thread");
    CHECK(h == 0);
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 1));
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_ANY_SOURCE, 1));
    EXPECT_SAYS(RTCP_EINVAL, rtcp_receiver_new(&h, NULL, 0, cfg), "any source");
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_ANY_SOURCE, 0));
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_SOCKET, 0));
    EXPECT_SAYS(RTCP_EINVAL, rtcp_receiver_new(&h, NULL, 0, cfg), "socket");
    rtcp_config_free(cfg);

    /* a sender has one socket, whatever the configuration says */
    cfg = config(64);
    rtcp_handle receiver, sender;
    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, NULL, 0, cfg));
    char text[80];
    CHECK(rtcp_get_addr(receiver, 0, text, sizeof text) > 0);
    uint16_t port = (uint16_t)atoi(strrchr(text, ':') + 1);
    EXPECT(RTCP_OK, rtcp_sender_new(&sender, "127.0.0.1", port, cfg));
    EXPECT(RTCP_EVENT_CONNECTED, rtcp_poll(sender, RTCP_EVENT_CONNECTED, 30000));
    /* a port that is shared is not shared with others */
    EXPECT_SAYS(RTCP_EIO, rtcp_receiver_new(&h, NULL, port, cfg), "cannot bind");
    EXPECT(RTCP_ENOTSUP, rtcp_set_int(receiver, RTCP_OPT_SHARDS, 1));
    next(receiver, RTCP_EVENT_ACCEPTED);
    EXPECT(-1, rtcp_timeout_ms(receiver));

    if (may_fork) forked(receiver);
    EXPECT(1, rtcp_send(sender, "x", 1));
    EXPECT(RTCP_OK, rtcp_flush(sender, 30000));
    rtcp_abort(receiver);
    char b[1];
    EXPECT(RTCP_ECONNRESET, rtcp_recv(sender, b, 1));
    rtcp_abort(sender);
    rtcp_config_free(cfg);
}

int main(int argc, char **argv)
{
    int quick = argc > 1 && !strcmp(argv[1], "--quick"); /* for valgrind, to which a child's lost threads are leaks */
    if (!quick) many_clients();
    dialled_both_ways();
    closed_with_data_pending();
    misused(!quick);
    return failed != 0;
}
