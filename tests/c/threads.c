/* Calls that meet in one handle: closing ends waits, one poller at a time, wakes are kept, callbacks are fenced. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include "check.h"

static void nap_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&t, NULL);
}

static void *recv_for_ever(void *arg)
{
    char b[8];
    return (void *)(intptr_t)rtcp_recv(*(rtcp_handle *)arg, b, sizeof b);
}

static void *poll_for_ever(void *arg)
{
    rtcp_event ev[4];
    int n;
    do n = rtcp_receiver_poll(*(rtcp_handle *)arg, ev, 4, -1); while (n >= 0 || n == RTCP_ESTATE);
    return (void *)(intptr_t)n;
}

static void *close_for_ever(void *arg)
{
    return (void *)(intptr_t)rtcp_close(*(rtcp_handle *)arg, -1);
}

static long join(pthread_t thread)
{
    void *result;
    pthread_join(thread, &result);
    return (long)(intptr_t)result;
}

static uint16_t port_of(rtcp_handle h)
{
    char text[80];
    CHECK(rtcp_get_addr(h, 0, text, sizeof text) > 0);
    return (uint16_t)atoi(strchr(text, ':') + 1);
}

static rtcp_handle signalled;
static int woken;
static void on_signal(int sig) { (void)sig; woken = rtcp_wake(signalled); }

static int calls, refused;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void log_line(void *user, int level, const char *target, const char *message)
{
    rtcp_config *cfg = rtcp_config_new();
    pthread_mutex_lock(&lock);
    calls++;
    refused += !cfg && rtcp_finish(1) == RTCP_ESTATE && rtcp_strerror(RTCP_ESTATE) != NULL;
    pthread_mutex_unlock(&lock);
    CHECK(user == &calls && level >= RTCP_LOG_ERROR && level <= RTCP_LOG_DEBUG && *target && message);
}

int main(void)
{
    rtcp_handle receiver, sender;
    rtcp_event ev[4];
    pthread_t a, b;
    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, "127.0.0.1", 0, NULL));
    EXPECT(RTCP_OK, rtcp_sender_new(&sender, "127.0.0.1", port_of(receiver), NULL));

    /* a wake ends a wait, also one that comes first, and from a signal handler */
    EXPECT(RTCP_OK, rtcp_wake(receiver));
    int n;
    while ((n = rtcp_receiver_poll(receiver, ev, 4, 30000)) > 0) ;
    EXPECT(RTCP_EINTR, n);
    signalled = sender;
    signal(SIGUSR1, on_signal);
    pthread_create(&a, NULL, recv_for_ever, &sender);
    nap_ms(50);
    pthread_kill(a, SIGUSR1);
    EXPECT(RTCP_EINTR, join(a));
    EXPECT(RTCP_OK, woken);

    /* a second poller is told so */
    pthread_create(&a, NULL, poll_for_ever, &receiver);
    int tries = 30000;      /* of a millisecond, until the other polls */
    while (--tries && (n = rtcp_receiver_poll(receiver, ev, 4, 0)) != RTCP_ESTATE) nap_ms(1);
    CHECK(tries > 0);
    EXPECT_SAYS(RTCP_ESTATE, n, "another thread");

    /* closing ends the waits of others */
    pthread_create(&b, NULL, recv_for_ever, &sender);
    nap_ms(50);
    int rc = rtcp_close(sender, 30000);
    CHECK(rc == RTCP_OK);
    EXPECT(RTCP_ENOCONN, join(b));
    rc = rtcp_close(receiver, 0);
    (void)rc;
    EXPECT(RTCP_ENOCONN, join(a));

    /* a wake cuts a close that waits for a peer which does not answer */
    rtcp_handle silent;
    rtcp_config *nobody = rtcp_config_new();
    EXPECT(RTCP_OK, rtcp_config_set_str(nobody, RTCP_OPT_ACK_TO, "127.0.0.1:9"));    /* its answers go astray */
    EXPECT(RTCP_OK, rtcp_receiver_new(&silent, "127.0.0.1", 0, nobody));
    EXPECT(RTCP_OK, rtcp_sender_new(&sender, "127.0.0.1", port_of(silent), NULL));
    EXPECT(1, rtcp_send(sender, "x", 1));
    pthread_create(&a, NULL, close_for_ever, &sender);
    nap_ms(100);
    EXPECT(RTCP_OK, rtcp_wake(sender));
    EXPECT(RTCP_EINTR, join(a));
    EXPECT(RTCP_ENOCONN, rtcp_wake(sender));
    rtcp_abort(silent);
    rtcp_config_free(nobody);

    /* callbacks: called, fenced, gone after they were taken out */
    EXPECT(RTCP_OK, rtcp_log_set_callback(log_line, &calls, RTCP_LOG_DEBUG));
    EXPECT(RTCP_ENOCONN, rtcp_finish(1));
    EXPECT(RTCP_OK, rtcp_log_set_callback(NULL, NULL, RTCP_LOG_DEBUG));
    int before = calls;
    CHECK(before > 0 && refused == before);
    EXPECT(RTCP_ENOCONN, rtcp_finish(1));
    nap_ms(20);
    CHECK(calls == before);
    EXPECT(RTCP_OK, rtcp_log_init_env());
    EXPECT(RTCP_OK, rtcp_log_init_env());
    return failed != 0;
}
