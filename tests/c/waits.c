/* Threads that call at random on a few handles while others wake and close them: waits [--no-thread] SECONDS.
 * No call may last longer than its limit, and none without a limit longer than until the next wakes or the close. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include "check.h"

enum { HANDLES = 4, CALLERS = 8, STALL_MS = 30000 };   /* a machine that does much else may be slow, not that slow */

static rtcp_config *cfg;
static rtcp_handle receiver;
static _Atomic rtcp_handle handles[HANDLES];
static uint16_t port;
static atomic_int over;

/* What each thread is in, for whoever looks for one that hangs. */
static struct { _Atomic long long until_ms; const char *_Atomic call; } doing[CALLERS + 2];

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void nap_us(long us)
{
    struct timespec t = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&t, NULL);
}

static uint32_t random_of(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void begin(int self, const char *call, int limit_ms)
{
    doing[self].call = call;
    doing[self].until_ms = now_ms() + (limit_ms > 0 ? limit_ms : 0) + STALL_MS;
}

static void dial(int place)
{
    rtcp_handle h;
    EXPECT(RTCP_OK, rtcp_sender_new(&h, "127.0.0.1", port, cfg));
    CHECK(rtcp_fd(h) >= 0 || place % 2);    /* half of them are watched */
    handles[place] = h;
}

/* Any code that such a call may have: which one, chance decides. Anything else is a bug. */
static int is_expected(long n)
{
    return n >= 0 || n == RTCP_EAGAIN || n == RTCP_ETIMEDOUT || n == RTCP_EINTR || n == RTCP_ENOCONN
        || n == RTCP_EPIPE || n == RTCP_ECONNRESET || n == RTCP_ECONNREFUSED || n == RTCP_ESTATE;
}

static long call_once(int self, uint32_t *seed)
{
    static char in[CALLERS][20000], out[200000];
    static const int limits[] = { -1, 0, 0, 1, 3, 20, 200 };
    rtcp_handle h = handles[random_of(seed) % HANDLES];
    int limit = limits[random_of(seed) % 7], events = (int)(random_of(seed) % 8);
    const void *bytes;
    long n;
    switch (random_of(seed) % 12) {
    case 0: case 1: begin(self, "rtcp_poll", limit); return rtcp_poll(h, events, limit);
    case 2: case 3: begin(self, "rtcp_send", 0); return rtcp_send(h, out, random_of(seed) % sizeof out + 1);
    case 4: case 5: begin(self, "rtcp_recv", 0); return rtcp_recv(h, in[self], random_of(seed) % sizeof in[0] + 1);
    case 6: begin(self, "rtcp_flush", limit); return rtcp_flush(h, limit);
    case 7: begin(self, "rtcp_watch", 0); return rtcp_watch(h, events);
    case 8: begin(self, "rtcp_peek", 0);
        n = rtcp_peek(h, &bytes);
        begin(self, "rtcp_consume", 0);
        return n <= 0 ? n : rtcp_consume(h, (size_t)n);
    case 9: begin(self, "rtcp_set_int", 0);
        return rtcp_set_int(h, RTCP_OPT_IO_TIMEOUT_MS, limits[random_of(seed) % 7]);
    case 10: begin(self, "rtcp_timeout_ms", 0); n = rtcp_timeout_ms(h); return n < -1 ? n : 0;
    default: nap_us(random_of(seed) % 3000); return 0;
    }
}

static void *calls(void *arg)
{
    int self = (int)(intptr_t)arg;
    uint32_t seed = 2463534242u + (uint32_t)self * 7919;
    while (!over) {
        long n = call_once(self, &seed);
        CHECK(is_expected(n));
        if (!is_expected(n)) { printf("%s: %ld\n", doing[self].call, n); break; }
    }
    doing[self].until_ms = 0;
    return NULL;
}

/* Wakes each handle now and then, and closes one now and then; some are finished first. */
static void *disturbs(void *arg)
{
    int self = (int)(intptr_t)arg;
    uint32_t seed = 88172645u;
    for (int round = 1; !over; round++) {
        int place = (int)(random_of(&seed) % HANDLES);
        rtcp_handle h = handles[place];
        nap_us(random_of(&seed) % 2000);
        begin(self, "rtcp_wake", 0);
        EXPECT(RTCP_OK, rtcp_wake(h));
        if (round % 16 == 0) rtcp_finish(h);
        if (round % 32) continue;
        int limit = (int)(random_of(&seed) % 50), rc = RTCP_OK;
        begin(self, "rtcp_close", limit);
        if (round % 64) rc = rtcp_close(h, limit);
        else rtcp_abort(h);
        CHECK(is_expected(rc) && rc != RTCP_ENOCONN);
        begin(self, "rtcp_sender_new", 0);
        dial(place);
    }
    doing[self].until_ms = 0;
    return NULL;
}

/* Echoes a little, and drops the rest. */
static void *serves(void *arg)
{
    int self = (int)(intptr_t)arg;
    static char buf[60000];
    rtcp_event ev[8];
    for (int round = 0; !over; round++) {
        begin(self, "rtcp_receiver_poll", round % 3 ? 20 : 0);
        int n = rtcp_receiver_poll(receiver, ev, 8, round % 3 ? 20 : 0);
        CHECK(n >= 0 || n == RTCP_EINTR);
        for (int i = 0; i < n; i++) {
            if (!(ev[i].events & RTCP_EVENT_READABLE)) continue;
            rtcp_ssize got = rtcp_recv(ev[i].conn, buf, sizeof buf);
            if (got > 0) got = rtcp_send(ev[i].conn, buf, (size_t)got / 4 + 1);
            if (got == 0) rtcp_finish(ev[i].conn), rtcp_watch(ev[i].conn, 0);
            CHECK(is_expected(got));
        }
    }
    doing[self].until_ms = 0;
    return NULL;
}

/* False: a call lasts too long. */
static int nobody_hangs(void)
{
    for (int i = 0; i < CALLERS + 2; i++) {
        long long until = doing[i].until_ms;
        if (!until || now_ms() < until) continue;
        printf("thread %d hangs in %s\n", i, doing[i].call);
        return 0;
    }
    return 1;
}

static void call_at_random(int seconds)
{
    pthread_t threads[CALLERS + 2];
    long long end = now_ms() + seconds * 1000LL;
    over = 0;
    for (int i = 0; i < HANDLES; i++) dial(i);
    for (int i = 0; i < CALLERS + 2; i++) {
        begin(i, "nothing yet", 0);
        pthread_create(&threads[i], NULL, i < CALLERS ? calls : i == CALLERS ? disturbs : serves, (void *)(intptr_t)i);
    }
    while (now_ms() < end && !failed && nobody_hangs()) nap_us(50000);
    over = 1;
    pthread_join(threads[CALLERS], NULL);
    for (int i = 0; i < HANDLES; i++) rtcp_abort(handles[i]);
    int busy = 1;
    while (busy && !failed) {
        CHECK(nobody_hangs());
        busy = 0;
        for (int i = 0; i < CALLERS + 2; i++) busy |= doing[i].until_ms != 0;
        nap_us(1000);
    }
    for (int i = 0; !failed && i < CALLERS + 2; i++) if (i != CALLERS) pthread_join(threads[i], NULL);
}

/* While the kernel refuses to poll, nothing moves; after that the I/O threads go on. */
static void survive_a_kernel_without_memory(void)
{
    struct rlimit before, none;
    rtcp_handle h;
    EXPECT(RTCP_OK, rtcp_sender_new(&h, "127.0.0.1", port, cfg));
    EXPECT(RTCP_EVENT_CONNECTED, rtcp_poll(h, RTCP_EVENT_CONNECTED, 30000));
    nap_us(50000);      /* the I/O threads have the seats */
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 2;  /* poll() of more descriptors is EINVAL */
    EXPECT(0, setrlimit(RLIMIT_NOFILE, &none));
    EXPECT(1, rtcp_send(h, "x", 1));
    nap_us(50000);
    EXPECT(0, setrlimit(RLIMIT_NOFILE, &before));
    EXPECT(1, rtcp_send(h, "y", 1));
    EXPECT(RTCP_OK, rtcp_flush(h, 30000));
    rtcp_abort(h);
}

int main(int argc, char **argv)
{
    int has_thread = strcmp(argv[1], "--no-thread") != 0;
    char text[80];
    cfg = rtcp_config_new();
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, has_thread));
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_TIMEOUT_MS, 0));
    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, "127.0.0.1", 0, cfg));
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_TIMEOUT_MS, -1));
    CHECK(rtcp_get_addr(receiver, 0, text, sizeof text) > 0);
    port = (uint16_t)atoi(strchr(text, ':') + 1);
    call_at_random(atoi(argv[argc - 1]));
    if (has_thread && !failed) survive_a_kernel_without_memory();
    rtcp_abort(receiver);
    rtcp_config_free(cfg);
    return failed != 0;
}
