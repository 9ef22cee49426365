/* An echo server on epoll without any thread: rtcp_fd() tells when the library has something to do, also when a timer is due,
 * and rtcp_receiver_poll() with timeout 0 does it. Descriptors of your own go into the same epoll set. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cli.h"
#include "rtcp.h"

struct client {
    size_t off, len; /* what of `buf` is still to be sent */
    char buf[16 * 1024];
};

static rtcp_handle receiver;
static volatile sig_atomic_t signal_seen;

static void on_signal(int sig)
{
    signal_seen = sig;
    rtcp_wake(receiver); /* makes rtcp_fd() readable */
}

/* Sends what is buffered, then reads more, until one of the two would have to wait. */
static void pump(rtcp_handle conn, struct client *c)
{
    for (;;) {
        while (c->off < c->len) {
            rtcp_ssize n = rtcp_send(conn, c->buf + c->off, c->len - c->off);
            if (n < 0) {
                rtcp_watch(conn, RTCP_EVENT_WRITABLE); /* no reading until there is room: the peer is held back */
                return;
            }
            c->off += (size_t)n;
        }
        rtcp_ssize n = rtcp_recv(conn, c->buf, sizeof c->buf);
        if (n == 0)
            rtcp_finish(conn); /* the peer has ended its stream: end ours */
        if (n <= 0) {
            rtcp_watch(conn, RTCP_EVENT_READABLE);
            return;
        }
        c->off = 0;
        c->len = (size_t)n;
    }
}

static void handle(const rtcp_event *e)
{
    struct client *c = e->user_data;
    if (e->events & RTCP_EVENT_ACCEPTED) {
        c = calloc(1, sizeof *c);
        rtcp_set_user_data(e->conn, c);
        if (c == NULL)
            rtcp_abort(e->conn); /* its RTCP_EVENT_CLOSED still comes */
    }
    if (c != NULL && (e->events & (RTCP_EVENT_READABLE | RTCP_EVENT_WRITABLE)))
        pump(e->conn, c);
    if (e->events & RTCP_EVENT_CLOSED)
        free(c); /* the last record of this connection, however it ended */
}

static int serve(void)
{
    static rtcp_event events[64];
    struct epoll_event interest = { .events = EPOLLIN }, ready;
    int set = epoll_create1(EPOLL_CLOEXEC), n = 0;
    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, rtcp_fd(receiver), &interest) != 0) {
        perror("epoll");
        return 1;
    }
    while (signal_seen == 0) {
        if (epoll_wait(set, &ready, 1, -1) < 0)
            continue; /* a signal: look at signal_seen */
        while ((n = rtcp_receiver_poll(receiver, events, 64, 0)) > 0)
            for (int i = 0; i < n; i++)
                handle(&events[i]);
        if (n < 0 && n != RTCP_EINTR)
            break;
    }
    close(set);
    if (n < 0 && n != RTCP_EINTR)
        fprintf(stderr, "epoll_server: %s\n", rtcp_strerror(n));
    return signal_seen != 0 ? 128 + signal_seen : 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    const char *words[1] = { NULL };
    struct endpoint at;
    char where[80];
    for (cli_start(argc, argv, "epoll_server LISTEN_ADDR:PORT"); cli_more();)
        if (!cli_word(words, 1))
            cli_unknown();
    if (words[0] == NULL)
        cli_usage("an address to listen on is needed");
    cli_endpoint(words[0], &at);

    rtcp_config *cfg = rtcp_config_new();
    rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0);
    rtcp_config_set_int(cfg, RTCP_OPT_IDLE_TIMEOUT_MS, 60000);
    rtcp_config_set_int(cfg, RTCP_OPT_KEEPALIVE_MS, 10000);
    int rc = rtcp_receiver_new(&receiver, at.host, at.port, cfg);
    rtcp_config_free(cfg);
    if (rc == RTCP_OK)
        rc = rtcp_get_addr(receiver, 0, where, sizeof where);
    if (rc < 0) {
        fprintf(stderr, "epoll_server: %s: %s\n", words[0], rtcp_strerror(rc));
        return 1;
    }
    printf("listening %s\n", where);
    fflush(stdout);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    rc = serve();
    rtcp_abort(receiver);
    return rc;
}
