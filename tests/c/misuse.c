/* Every function, used wrongly: each wrong use has its code, and none a crash. Run under valgrind too. */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>
#include "check.h"

static char buf[256];
static rtcp_event ev[4];

/* Every call that takes a handle, on one that is not live. */
static void dead_handle(rtcp_handle h)
{
    rtcp_handle out = 7;
    rtcp_stats stats;
    void *p;
    const void *q;
    EXPECT(RTCP_ENOCONN, rtcp_receiver_connect(&out, h, "127.0.0.1", 9, NULL, NULL));
    CHECK(out == 0);
    EXPECT(RTCP_ENOCONN, rtcp_send(h, "x", 1));
    EXPECT(RTCP_ENOCONN, rtcp_send(h, NULL, 0));
    EXPECT(RTCP_ENOCONN, rtcp_recv(h, buf, sizeof buf));
    EXPECT(RTCP_ENOCONN, rtcp_finish(h));
    EXPECT(RTCP_ENOCONN, rtcp_flush(h, 0));
    EXPECT(RTCP_ENOCONN, rtcp_close(h, 0));
    rtcp_abort(h);
    EXPECT(RTCP_ENOCONN, rtcp_poll(h, RTCP_EVENT_READABLE, 0));
    EXPECT(RTCP_ENOCONN, rtcp_receiver_poll(h, ev, 4, 0));
    EXPECT(RTCP_ENOCONN, rtcp_watch(h, 0));
    EXPECT(RTCP_ENOCONN, rtcp_fd(h));
    EXPECT(RTCP_ENOCONN, rtcp_timeout_ms(h));
    EXPECT(RTCP_ENOCONN, rtcp_wake(h));
    EXPECT(RTCP_ENOCONN, rtcp_get_state(h));
    EXPECT(RTCP_ENOCONN, rtcp_get_stats(h, &stats, sizeof stats));
    EXPECT(RTCP_ENOCONN, rtcp_get_addr(h, 0, buf, sizeof buf));
    EXPECT(RTCP_ENOCONN, rtcp_set_int(h, RTCP_OPT_NODELAY, 1));
    EXPECT(RTCP_ENOCONN, rtcp_set_user_data(h, NULL));
    EXPECT(RTCP_ENOCONN, rtcp_reserve(h, &p));
    EXPECT(RTCP_ENOCONN, rtcp_commit(h, 0));
    EXPECT(RTCP_ENOCONN, rtcp_peek(h, &q));
    EXPECT(RTCP_ENOCONN, rtcp_consume(h, 0));
}

static void options(void)
{
    rtcp_config *cfg = rtcp_config_new();
    rtcp_handle h = 7;
    int64_t min = 0, max = 0, def = 0, value = 0;
    CHECK(cfg);
    for (int option = -1; option < 40; option++) {
        int rc = rtcp_option_bounds(option, &min, &max, &def);
        if (rc) {
            EXPECT(RTCP_EINVAL, rc);
            EXPECT(RTCP_EINVAL, rtcp_config_set_int(cfg, option, 0));
            EXPECT(RTCP_EINVAL, rtcp_config_get_int(cfg, option, &value));
            continue;
        }
        EXPECT(RTCP_OK, rtcp_option_bounds(option, NULL, NULL, NULL));
        CHECK(min <= def && def <= max);
        EXPECT(RTCP_OK, rtcp_config_get_int(cfg, option, &value));
        CHECK(value == def);
        EXPECT(RTCP_EINVAL, rtcp_config_set_int(cfg, option, min - 1));
        EXPECT(RTCP_EINVAL, rtcp_config_set_int(cfg, option, max + 1));
        EXPECT(RTCP_OK, rtcp_config_set_int(cfg, option, max));
        EXPECT(RTCP_OK, rtcp_config_get_int(cfg, option, &value));
        CHECK(value == max);
        EXPECT(RTCP_EINVAL, rtcp_config_get_int(cfg, option, NULL));
        EXPECT(RTCP_EINVAL, rtcp_config_set_int(NULL, option, def));
        EXPECT(RTCP_EINVAL, rtcp_config_get_int(NULL, option, &value));
        EXPECT(RTCP_EINVAL, rtcp_config_set_str(cfg, option, "1"));
        EXPECT(RTCP_EINVAL, rtcp_config_set_bytes(cfg, option, "1", 1));
    }
    EXPECT_SAYS(RTCP_EINVAL, rtcp_sender_new(&h, "127.0.0.1", 9, cfg), "option -1");
    CHECK(h == 0);
    rtcp_config_free(cfg);

    cfg = rtcp_config_new();
    EXPECT_SAYS(RTCP_EINVAL, rtcp_config_set_str(cfg, RTCP_OPT_BIND, "localhost"), "localhost");
    EXPECT(RTCP_EINVAL, rtcp_config_set_str(cfg, RTCP_OPT_BIND, NULL));
    EXPECT(RTCP_EINVAL, rtcp_config_set_str(cfg, RTCP_OPT_BIND, "\xff"));
    EXPECT(RTCP_EINVAL, rtcp_config_set_str(cfg, RTCP_OPT_ACK_TO, "127.0.0.1"));
    EXPECT(RTCP_EINVAL, rtcp_config_set_str(NULL, RTCP_OPT_BIND, "127.0.0.1"));
    EXPECT(RTCP_EINVAL, rtcp_config_set_int(cfg, RTCP_OPT_MTU, 547));
    EXPECT(RTCP_EINVAL, rtcp_config_set_bytes(cfg, RTCP_OPT_PSK, NULL, 32));
    EXPECT(RTCP_ENOTSUP, rtcp_config_set_bytes(cfg, RTCP_OPT_PSK, "0123456789abcdef0123456789abcdef", 32));
    EXPECT(RTCP_EINVAL, rtcp_config_set_bytes(NULL, RTCP_OPT_PSK, "x", 1));
    h = 7;
    EXPECT_SAYS(RTCP_EINVAL, rtcp_receiver_new(&h, "127.0.0.1", 0, cfg), "localhost");
    CHECK(h == 0);
    rtcp_config_free(cfg);
    rtcp_config_free(NULL);

    cfg = rtcp_config_new();
    EXPECT(RTCP_ENOTSUP, rtcp_config_set_bytes(cfg, RTCP_OPT_PSK, "0123456789abcdef0123456789abcdef", 32));
    EXPECT(RTCP_ENOTSUP, rtcp_sender_new(&h, "127.0.0.1", 9, cfg));
    rtcp_config_free(cfg);
}

static void constructors(void)
{
    static char longest[2048];
    rtcp_handle h = 7, second = 7;
    rtcp_config *cfg = rtcp_config_new();
    memset(longest, 'a', sizeof longest - 1);
    EXPECT(RTCP_EINVAL, rtcp_sender_new(NULL, "127.0.0.1", 9, NULL));
    EXPECT_SAYS(RTCP_EINVAL, rtcp_sender_new(&h, NULL, 9, NULL), "host is NULL");
    CHECK(h == 0);
    EXPECT(RTCP_EINVAL, rtcp_sender_new(&h, "", 9, NULL));
    EXPECT(RTCP_EINVAL, rtcp_sender_new(&h, "127.0.0.1", 0, NULL));
    EXPECT(RTCP_EINVAL, rtcp_sender_new(&h, "\xff\xfe", 9, NULL));
    EXPECT(RTCP_EINVAL, rtcp_sender_new(&h, longest, 9, NULL));
    EXPECT_SAYS(RTCP_EADDR, rtcp_sender_new(&h, "no-such-host.invalid", 9, NULL), "no-such-host.invalid");
    CHECK(h == 0);
    EXPECT(RTCP_EINVAL, rtcp_receiver_new(NULL, NULL, 0, NULL));
    EXPECT(RTCP_EINVAL, rtcp_receiver_new(&h, longest, 0, NULL));
    EXPECT_SAYS(RTCP_EIO, rtcp_receiver_new(&h, "192.0.2.1", 0, NULL), "192.0.2.1");
    CHECK(h == 0 && rtcp_last_os_error() != 0);

    EXPECT(RTCP_OK, rtcp_receiver_new(&h, "127.0.0.1", 0, NULL));
    CHECK(rtcp_get_addr(h, 0, buf, sizeof buf) > 10);
    uint16_t port = (uint16_t)atoi(strchr(buf, ':') + 1);
    EXPECT_SAYS(RTCP_EIO, rtcp_receiver_new(&second, "127.0.0.1", port, NULL), "127.0.0.1");
    EXPECT(RTCP_OK, rtcp_close(h, 0));

    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_SOCKET, 0x7fffffff));
    EXPECT(RTCP_EINVAL, rtcp_receiver_new(&h, "127.0.0.1", 0, cfg));
    EXPECT(RTCP_EINVAL, rtcp_receiver_new(&h, NULL, 9, cfg));
    CHECK(rtcp_receiver_new(&h, NULL, 0, cfg) < 0 && h == 0);      /* no such descriptor */
    rtcp_config_free(cfg);
}

/* A socket of the program's own serves on after the program has closed its descriptor. */
static void own_socket(void)
{
    rtcp_config *cfg = rtcp_config_new();
    rtcp_handle h;
    struct sockaddr_in addr = { .sin_family = AF_INET };
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof addr));
    CHECK(!getsockname(fd, (struct sockaddr *)&addr, &len));
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_SOCKET, fd));
    EXPECT(RTCP_OK, rtcp_receiver_new(&h, NULL, 0, cfg));
    close(fd);
    CHECK(rtcp_get_addr(h, 0, buf, sizeof buf) > 0);
    CHECK(atoi(strchr(buf, ':') + 1) == ntohs(addr.sin_port));
    EXPECT(RTCP_OK, rtcp_close(h, 0));
    rtcp_config_free(cfg);
}

/* Loans in the wrong order; nothing has arrived, and calls do not wait. */
static void loans(rtcp_handle h)
{
    void *p = buf;
    const void *q = buf;
    EXPECT(RTCP_EINVAL, rtcp_reserve(h, NULL));
    EXPECT(RTCP_EINVAL, rtcp_peek(h, NULL));
    EXPECT_SAYS(RTCP_ESTATE, rtcp_commit(h, 0), "nothing is lent");
    EXPECT(RTCP_ESTATE, rtcp_consume(h, 0));
    EXPECT(RTCP_EAGAIN, rtcp_peek(h, &q));
    CHECK(q == NULL);
    rtcp_ssize room = rtcp_reserve(h, &p);
    CHECK(room > 0 && p != NULL);
    memset(p, 7, (size_t)room);
    EXPECT(RTCP_ESTATE, rtcp_reserve(h, &p));
    CHECK(p == NULL);
    EXPECT_SAYS(RTCP_ESTATE, rtcp_send(h, "x", 1), "rtcp_commit");
    EXPECT(RTCP_EINVAL, rtcp_commit(h, (size_t)room + 1));
    EXPECT(RTCP_OK, rtcp_commit(h, 0));
    EXPECT(RTCP_ESTATE, rtcp_commit(h, 0));
    CHECK(rtcp_reserve(h, &p) > 0); /* still out when the handle ends */
}

static void wrong_kind(rtcp_handle receiver, rtcp_handle sender)
{
    rtcp_handle out = 7;
    rtcp_stats stats;
    EXPECT(RTCP_ESTATE, rtcp_receiver_connect(&out, sender, "127.0.0.1", 9, NULL, NULL));
    CHECK(out == 0);
    EXPECT(RTCP_ESTATE, rtcp_receiver_poll(sender, ev, 4, 0));
    EXPECT_SAYS(RTCP_ESTATE, rtcp_send(receiver, "x", 1), "receiver");
    EXPECT(RTCP_ESTATE, rtcp_recv(receiver, buf, sizeof buf));
    EXPECT(RTCP_ESTATE, rtcp_finish(receiver));
    EXPECT(RTCP_ESTATE, rtcp_flush(receiver, 0));
    EXPECT(RTCP_ESTATE, rtcp_poll(receiver, RTCP_EVENT_READABLE, 0));
    EXPECT(RTCP_ESTATE, rtcp_watch(receiver, 0));
    EXPECT(RTCP_ESTATE, rtcp_get_addr(receiver, 1, buf, sizeof buf));
    EXPECT(RTCP_ESTATE, rtcp_set_user_data(receiver, NULL));
    EXPECT(RTCP_ENOTSUP, rtcp_set_int(receiver, RTCP_OPT_NODELAY, 1));
    EXPECT(RTCP_ENOTSUP, rtcp_set_int(sender, RTCP_OPT_MAX_CLIENTS, 1));
    EXPECT(RTCP_OK, rtcp_set_int(receiver, RTCP_OPT_MAX_CLIENTS, 10));
    EXPECT(RTCP_OK, rtcp_set_int(receiver, RTCP_OPT_IO_TIMEOUT_MS, 0));
    EXPECT(RTCP_STATE_LISTENING, rtcp_get_state(receiver));
    EXPECT(RTCP_OK, rtcp_get_stats(receiver, &stats, sizeof stats));
}

static void bad_arguments(rtcp_handle receiver, rtcp_handle sender)
{
    rtcp_handle out = 7;
    rtcp_stats stats;
    EXPECT(RTCP_EINVAL, rtcp_receiver_connect(NULL, receiver, "127.0.0.1", 9, NULL, NULL));
    EXPECT(RTCP_EINVAL, rtcp_receiver_connect(&out, receiver, NULL, 9, NULL, NULL));
    EXPECT(RTCP_EINVAL, rtcp_receiver_connect(&out, receiver, "127.0.0.1", 0, NULL, NULL));
    EXPECT(RTCP_EINVAL, rtcp_receiver_poll(receiver, NULL, 4, 0));
    EXPECT(RTCP_EINVAL, rtcp_receiver_poll(receiver, ev, 0, 0));
    EXPECT(RTCP_EINVAL, rtcp_receiver_poll(receiver, ev, -1, 0));
    EXPECT(RTCP_EINVAL, rtcp_receiver_poll(receiver, ev, 4, -2));
    EXPECT_SAYS(RTCP_EINVAL, rtcp_send(sender, NULL, 1), "buf is NULL");
    EXPECT(RTCP_EINVAL, rtcp_send(sender, "x", SIZE_MAX));
    EXPECT(0, rtcp_send(sender, NULL, 0));
    EXPECT(0, rtcp_send(sender, "x", 0));
    EXPECT(RTCP_EINVAL, rtcp_recv(sender, NULL, 1));
    EXPECT(RTCP_EINVAL, rtcp_recv(sender, buf, 0));
    EXPECT(RTCP_EINVAL, rtcp_recv(sender, NULL, 0));
    EXPECT(RTCP_EINVAL, rtcp_recv(sender, buf, SIZE_MAX));
    EXPECT(RTCP_EINVAL, rtcp_flush(sender, -2));
    EXPECT(RTCP_EINVAL, rtcp_poll(sender, 64, 0));
    EXPECT(RTCP_EINVAL, rtcp_poll(sender, -1, 0));
    EXPECT(RTCP_EINVAL, rtcp_poll(sender, RTCP_EVENT_READABLE, -7));
    EXPECT(RTCP_EINVAL, rtcp_watch(sender, RTCP_EVENT_CLOSED));
    EXPECT(RTCP_EINVAL, rtcp_watch(sender, -1));
    EXPECT(RTCP_EINVAL, rtcp_get_stats(sender, NULL, sizeof stats));
    EXPECT(RTCP_EINVAL, rtcp_get_stats(sender, &stats, 0));
    EXPECT(RTCP_EINVAL, rtcp_get_stats(sender, &stats, SIZE_MAX));
    EXPECT(RTCP_OK, rtcp_get_stats(sender, &stats, 8));
    EXPECT(RTCP_EINVAL, rtcp_get_addr(sender, 2, buf, sizeof buf));
    EXPECT(RTCP_EINVAL, rtcp_get_addr(sender, 0, NULL, 1));
    CHECK(rtcp_get_addr(sender, 0, NULL, 0) > 0);
    CHECK(rtcp_get_addr(sender, 1, buf, 4) > 4 && strlen(buf) == 3);
    EXPECT(RTCP_EINVAL, rtcp_set_int(sender, 99, 1));
    EXPECT(RTCP_EINVAL, rtcp_set_int(sender, RTCP_OPT_NODELAY, 2));
    EXPECT(RTCP_EINVAL, rtcp_set_int(sender, RTCP_OPT_BIND, 2));
    EXPECT(RTCP_ENOTSUP, rtcp_set_int(sender, RTCP_OPT_MTU, 1200));
    EXPECT(RTCP_OK, rtcp_set_int(sender, RTCP_OPT_NODELAY, 0));
    EXPECT(RTCP_OK, rtcp_set_int(sender, RTCP_OPT_KEEPALIVE_MS, 5000));
    EXPECT(RTCP_OK, rtcp_set_int(sender, RTCP_OPT_IDLE_TIMEOUT_MS, 60000));
    EXPECT(RTCP_OK, rtcp_set_int(sender, RTCP_OPT_USER_TIMEOUT_MS, 60000));
    EXPECT(RTCP_OK, rtcp_set_int(sender, RTCP_OPT_IO_TIMEOUT_MS, 0));
    EXPECT(RTCP_EAGAIN, rtcp_recv(sender, buf, sizeof buf));
    loans(sender);
    EXPECT(RTCP_OK, rtcp_set_int(sender, RTCP_OPT_IO_TIMEOUT_MS, 20));
    EXPECT(RTCP_ETIMEDOUT, rtcp_recv(sender, buf, sizeof buf));
    EXPECT(RTCP_OK, rtcp_wake(sender));
    EXPECT(RTCP_EINTR, rtcp_recv(sender, buf, sizeof buf));
}

/* A connection of a receiver, whoever polls: no descriptor of its own. */
static void member(rtcp_handle receiver, uint16_t port)
{
    rtcp_handle h = 0, same = 0;
    EXPECT(RTCP_OK, rtcp_receiver_connect(&h, receiver, "127.0.0.1", port, NULL, NULL));
    EXPECT(RTCP_OK, rtcp_receiver_connect(&same, receiver, "127.0.0.1", port, &h, NULL));
    CHECK(h == same);
    EXPECT(RTCP_ENOTSUP, rtcp_fd(h));
    EXPECT(RTCP_ENOTSUP, rtcp_timeout_ms(h));
    EXPECT(RTCP_EAGAIN, rtcp_recv(h, buf, sizeof buf));
    rtcp_abort(h);
    dead_handle(h);
    for (int closed = 0, polls = 0; !closed && polls < 300; polls++) {
        int n = rtcp_receiver_poll(receiver, ev, 4, 100);
        CHECK(n >= 0);
        for (int i = 0; i < n; i++)
            if (ev[i].conn == h && (ev[i].events & RTCP_EVENT_CLOSED)) {
                EXPECT(RTCP_ECONNABORTED, ev[i].error);
                closed = 1;
            }
        CHECK(closed || polls < 299);
    }
}

static void forked(rtcp_handle receiver, rtcp_handle sender)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        rtcp_handle own = 0, out = 7;
        rtcp_stats stats;
        rtcp_config *cfg = rtcp_config_new();
        failed = 0;                                           /* the parent's are the parent's */
        EXPECT(RTCP_EFORKED, rtcp_send(sender, "x", 1));
        EXPECT(RTCP_EFORKED, rtcp_recv(sender, buf, sizeof buf));
        EXPECT(RTCP_EFORKED, rtcp_finish(sender));
        EXPECT(RTCP_EFORKED, rtcp_flush(sender, -1));
        EXPECT(RTCP_EFORKED, rtcp_poll(sender, RTCP_EVENT_READABLE, -1));
        EXPECT(RTCP_EFORKED, rtcp_watch(sender, 0));
        EXPECT(RTCP_EFORKED, rtcp_fd(sender));
        EXPECT(RTCP_EFORKED, rtcp_timeout_ms(sender));
        EXPECT(RTCP_EFORKED, rtcp_wake(sender));
        EXPECT(RTCP_EFORKED, rtcp_get_state(sender));
        EXPECT(RTCP_EFORKED, rtcp_get_stats(sender, &stats, sizeof stats));
        EXPECT(RTCP_EFORKED, rtcp_get_addr(sender, 0, buf, sizeof buf));
        EXPECT(RTCP_EFORKED, rtcp_set_int(sender, RTCP_OPT_NODELAY, 1));
        EXPECT(RTCP_EFORKED, rtcp_set_user_data(sender, NULL));
        EXPECT(RTCP_EFORKED, rtcp_commit(sender, 0));
        EXPECT(RTCP_EFORKED, rtcp_receiver_poll(receiver, ev, 4, -1));
        EXPECT(RTCP_EFORKED, rtcp_receiver_connect(&out, receiver, "127.0.0.1", 9, NULL, NULL));
        EXPECT(RTCP_EFORKED, rtcp_close(receiver, -1));
        EXPECT(RTCP_ENOCONN, rtcp_close(receiver, -1));
        rtcp_abort(sender);
        EXPECT(RTCP_ENOCONN, rtcp_send(sender, "x", 1));
        EXPECT(RTCP_OK, rtcp_receiver_new(&own, "127.0.0.1", 0, cfg));   /* the child may have its own */
        EXPECT(RTCP_OK, rtcp_close(own, 0));
        rtcp_config_free(cfg);
        _exit(failed ? 1 : 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(rtcp_get_state(sender) > 0);                        /* the parent's live on */
    EXPECT(RTCP_STATE_LISTENING, rtcp_get_state(receiver));
}

static void texts(void)
{
    CHECK(rtcp_version_number() == RTCP_VERSION_NUMBER);
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", RTCP_VERSION_MAJOR, RTCP_VERSION_MINOR, RTCP_VERSION_PATCH);
    CHECK(!strncmp(rtcp_version_string(), version, strlen(version)));
    for (int code = -100; code <= 1; code++) {
        CHECK(rtcp_strerror(code) && *rtcp_strerror(code));
        CHECK(rtcp_error_name(code) && !strncmp(rtcp_error_name(code), "RTCP_", 5));
    }
    CHECK(!strcmp(rtcp_error_name(RTCP_ETIMEDOUT), "RTCP_ETIMEDOUT"));
    CHECK(rtcp_last_error_message(NULL, 0) == rtcp_last_error_message(buf, 1));
    EXPECT(RTCP_EINVAL, rtcp_log_set_callback(NULL, NULL, 6));
    EXPECT(RTCP_EINVAL, rtcp_log_set_callback(NULL, NULL, -1));
}

/* Any argument: do not fork. What a child leaves of its parent's handles, valgrind calls a leak. */
int main(int argc, char **argv)
{
    (void)argv;
    rtcp_handle receiver = 0, sender = 0;
    CHECK(rtcp_last_error_message(NULL, 0) == 0 && rtcp_last_os_error() == 0);
    texts();
    dead_handle(0);
    dead_handle(1);
    dead_handle(UINT64_MAX);
    options();
    constructors();
    own_socket();

    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, "127.0.0.1", 0, NULL));
    CHECK(rtcp_get_addr(receiver, 0, buf, sizeof buf) > 0);
    uint16_t port = (uint16_t)atoi(strchr(buf, ':') + 1);
    EXPECT(RTCP_OK, rtcp_sender_new(&sender, "127.0.0.1", port, NULL));
    CHECK(receiver != sender);
    wrong_kind(receiver, sender);
    bad_arguments(receiver, sender);
    if (argc == 1) forked(receiver, sender);

    rtcp_handle other = 0;
    EXPECT(RTCP_OK, rtcp_receiver_new(&other, "127.0.0.1", 0, NULL));
    member(other, port);
    CHECK(rtcp_close(other, 0) != RTCP_ENOCONN);
    dead_handle(other);

    CHECK(rtcp_close(sender, -2) == RTCP_EINVAL);             /* ends the handle, whatever it returns */
    dead_handle(sender);
    rtcp_abort(receiver);
    dead_handle(receiver);
    rtcp_abort(0);
    return failed != 0;
}
