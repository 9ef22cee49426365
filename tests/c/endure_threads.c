/* Threads and signals that meet in one handle, over and over: endure_threads [--no-thread] PORT (of an endure_server). */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include "check.h"

enum { ROUNDS = 40, MEGABYTES = 8 };

static rtcp_config *cfg;
static uint16_t port;

static rtcp_handle dial(void)
{
    rtcp_handle h;
    EXPECT(RTCP_OK, rtcp_sender_new(&h, "127.0.0.1", port, cfg));
    return h;
}

static void nap_us(long us)
{
    struct timespec t = { 0, us * 1000 };
    nanosleep(&t, NULL);
}

/* Each calls until its handle is gone, and answers the code that said so. */
static void *sends(void *h)
{
    static const char buf[100000];
    rtcp_ssize n;
    while ((n = rtcp_send(*(rtcp_handle *)h, buf, sizeof buf)) > 0) ;
    return (void *)(intptr_t)n;
}

static void *receives(void *h)
{
    char buf[5000];
    rtcp_ssize n;
    while ((n = rtcp_recv(*(rtcp_handle *)h, buf, sizeof buf)) > 0) ;
    return (void *)(intptr_t)n;
}

static void *polls(void *h)
{
    int n;
    while ((n = rtcp_poll(*(rtcp_handle *)h, RTCP_EVENT_ACKED, -1)) >= 0) ;
    return (void *)(intptr_t)n;
}

static void *connects(void *h)
{
    int n = rtcp_poll(*(rtcp_handle *)h, RTCP_EVENT_CONNECTED, -1);
    while (n >= 0) n = rtcp_flush(*(rtcp_handle *)h, -1);
    return (void *)(intptr_t)n;
}

static void *serves(void *h)
{
    rtcp_event ev[4];
    int n;
    while ((n = rtcp_receiver_poll(*(rtcp_handle *)h, ev, 4, -1)) >= 0) ;
    return (void *)(intptr_t)n;
}

static intptr_t join(pthread_t thread)
{
    void *result;
    pthread_join(thread, &result);
    return (intptr_t)result;
}

/* Whatever they are in the middle of, a close or an abort sends them home. */
static void close_under_their_feet(int round)
{
    void *(*work[4])(void *) = { sends, receives, polls, connects };
    pthread_t threads[4];
    rtcp_handle h = dial();
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work[i], &h);
    nap_us(round * 131 % 5000);
    if (round % 3) {
        int rc = rtcp_close(h, round % 3 - 1);
        CHECK(rc == RTCP_OK || rc == RTCP_ETIMEDOUT || rc == RTCP_ECONNRESET);
    } else {
        rtcp_abort(h);
    }
    for (int i = 0; i < 4; i++) EXPECT(RTCP_ENOCONN, join(threads[i]));
}

static void close_under_the_pollers_feet(int round)
{
    pthread_t poller;
    rtcp_handle r;
    EXPECT(RTCP_OK, rtcp_receiver_new(&r, "127.0.0.1", 0, cfg));
    pthread_create(&poller, NULL, serves, &r);
    nap_us(round * 97 % 3000);
    EXPECT(RTCP_OK, rtcp_close(r, 60000));
    EXPECT(RTCP_ENOCONN, join(poller));
}

static rtcp_handle woken;
static void on_alarm(int sig) { (void)sig; rtcp_wake(woken); }

static void *sends_all(void *arg)
{
    static char buf[1 << 20];
    size_t sent = 0;
    (void)arg;
    while (sent < (size_t)MEGABYTES << 20) {
        size_t at = sent % sizeof buf;
        for (size_t i = 0; at == 0 && i < sizeof buf; i++) buf[i] = (char)((sent + i) / 251);
        rtcp_ssize n = rtcp_send(woken, buf + at, sizeof buf - at);
        CHECK(n > 0 || n == RTCP_EINTR);
        if (n <= 0 && n != RTCP_EINTR) return NULL;
        if (n > 0) sent += (size_t)n;
    }
    EXPECT(RTCP_OK, rtcp_finish(woken));
    return NULL;
}

/* Signals twice per millisecond: every byte comes back all the same, and wakes are seen. */
static void wake_under_load(void)
{
    static char buf[70000];
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
    size_t received = 0;
    long interrupted = 0;
    pthread_t sender;
    woken = dial();
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_create(&sender, NULL, sends_all, NULL);
    for (;;) {
        rtcp_ssize n = rtcp_recv(woken, buf, sizeof buf);
        if (n == RTCP_EINTR) { interrupted++; continue; }
        CHECK(n >= 0);
        if (n <= 0) break;
        for (rtcp_ssize i = 0; i < n; i++, received++)
            if (buf[i] != (char)(received / 251)) { CHECK(!"other bytes"); i = n; }
    }
    setitimer(ITIMER_REAL, &never, NULL);
    pthread_join(sender, NULL);
    EXPECT((long long)MEGABYTES << 20, received);
    CHECK(interrupted > 0);
    int rc;
    do rc = rtcp_poll(woken, RTCP_EVENT_ACKED, 60000); while (rc == RTCP_EINTR);
    EXPECT(RTCP_EVENT_ACKED, rc);
    EXPECT(RTCP_OK, rtcp_close(woken, 60000));
}

int main(int argc, char **argv)
{
    cfg = rtcp_config_new();
    if (!strcmp(argv[1], "--no-thread")) EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0));
    port = (uint16_t)atoi(argv[argc - 1]);
    for (int round = 0; round < ROUNDS && !failed; round++) {
        close_under_their_feet(round);
        close_under_the_pollers_feet(round);
    }
    wake_under_load();
    rtcp_config_free(cfg);
    return failed != 0;
}
