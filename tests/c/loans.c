/* Bytes sent and received in place, several connections' threads at work meanwhile: each arrives once, in order, and what is
 * lent stays as it is. Run under valgrind too. */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include "check.h"

#define TOTAL (3u << 20)

static unsigned char byte_at(size_t i)
{
    return (unsigned char)(i ^ i >> 8 ^ i >> 16);
}

static bool matches(const unsigned char *p, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != byte_at(from + i)) return false;
    return true;
}

/* Loans of all sizes, some not used, and ordinary sends between them. */
static void *sender_thread(void *arg)
{
    rtcp_handle h = *(rtcp_handle *)arg;
    unsigned round = 0;
    for (size_t sent = 0; sent < TOTAL; round++) {
        void *p;
        rtcp_ssize room = rtcp_reserve(h, &p);
        CHECK(room > 0);
        if (room <= 0) break;
        size_t n = (size_t)room;
        if (round % 3 == 1) n = n < 1000 ? n : 1000;
        if (round % 7 == 2) n = 0;
        if (n > TOTAL - sent) n = TOTAL - sent;
        for (size_t i = 0; i < n; i++)
            ((unsigned char *)p)[i] = byte_at(sent + i);
        EXPECT(RTCP_OK, rtcp_commit(h, n));
        sent += n;
        if (round % 5 == 0 && sent < TOTAL) {
            unsigned char one = byte_at(sent);
            EXPECT(1, rtcp_send(h, &one, 1));
            sent++;
        }
    }
    EXPECT(RTCP_OK, rtcp_finish(h));
    void *p;
    EXPECT(RTCP_EPIPE, rtcp_reserve(h, &p));
    return NULL;
}

static void receive_all(rtcp_handle h)
{
    size_t got = 0;
    for (unsigned round = 0;; round++) {
        const void *p;
        const void *again;
        unsigned char one[3];
        rtcp_ssize n = rtcp_peek(h, &p);
        CHECK(n >= 0);
        if (n <= 0) break;
        CHECK(matches(p, (size_t)n, got));
        if (round % 50 == 0) {
            EXPECT(RTCP_ESTATE, rtcp_peek(h, &again));
            EXPECT(RTCP_ESTATE, rtcp_recv(h, one, sizeof one));
            EXPECT(RTCP_EINVAL, rtcp_consume(h, (size_t)n + 1));
            EXPECT(0, rtcp_poll(h, RTCP_EVENT_READABLE, 20)); /* more arrives: what is lent does not change */
            CHECK(matches(p, (size_t)n, got));
        }
        size_t used = round % 4 == 1 ? (size_t)n / 2 : round % 11 == 3 ? 0 : (size_t)n;
        EXPECT(RTCP_OK, rtcp_consume(h, used));
        got += used;
        if (round % 6 == 1 && used < (size_t)n) {
            rtcp_ssize m = rtcp_recv(h, one, sizeof one);
            CHECK(m > 0 && matches(one, (size_t)m, got));
            got += m > 0 ? (size_t)m : 0;
        }
    }
    EXPECT(TOTAL, got);
    const void *p = &got;
    EXPECT(0, rtcp_peek(h, &p));
    CHECK(p == NULL);
    EXPECT(RTCP_ESTATE, rtcp_consume(h, 0));
}

int main(void)
{
    rtcp_handle receiver = 0, sender = 0, member = 0;
    rtcp_event e;
    char text[80];
    pthread_t thread;
    void *p;
    const void *q;
    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, "127.0.0.1", 0, NULL));
    CHECK(rtcp_get_addr(receiver, 0, text, sizeof text) > 0);
    EXPECT(RTCP_ESTATE, rtcp_reserve(receiver, &p));
    EXPECT(RTCP_ESTATE, rtcp_commit(receiver, 0));
    EXPECT(RTCP_ESTATE, rtcp_peek(receiver, &q));
    EXPECT(RTCP_ESTATE, rtcp_consume(receiver, 0));
    EXPECT(RTCP_OK, rtcp_sender_new(&sender, "127.0.0.1", (uint16_t)atoi(strchr(text, ':') + 1), NULL));
    pthread_create(&thread, NULL, sender_thread, &sender);
    while (member == 0 && rtcp_receiver_poll(receiver, &e, 1, 60000) == 1)
        if (e.events & RTCP_EVENT_ACCEPTED) member = e.conn;
    EXPECT(RTCP_OK, rtcp_set_int(member, RTCP_OPT_IO_TIMEOUT_MS, 60000));
    receive_all(member);
    pthread_join(thread, NULL);
    EXPECT(RTCP_OK, rtcp_flush(sender, 60000));
    rtcp_ssize room = rtcp_reserve(member, &p); /* the other way is open; the loan ends with the handle */
    CHECK(room > 0);
    memset(p, 1, (size_t)room);
    rtcp_abort(member);
    EXPECT(RTCP_ENOCONN, rtcp_commit(member, 1));
    rtcp_abort(sender);
    rtcp_abort(receiver);
    return failed != 0;
}
