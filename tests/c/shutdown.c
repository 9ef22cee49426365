/* A program that shuts its own socket down under the library: every connection learns of it, and nobody spins. */
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static const struct timespec nap = { 0, 100000000 };

static int own_socket(uint16_t *port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET };
    socklen_t len = sizeof addr;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof addr));
    CHECK(!getsockname(fd, (struct sockaddr *)&addr, &len));
    *port = ntohs(addr.sin_port);
    return fd;
}

static void once(int how, int io_thread)
{
    rtcp_handle receiver, client, conn = 0, late = 7;
    rtcp_config *cfg = rtcp_config_new();
    rtcp_event ev[4];
    uint16_t port;
    int fd = own_socket(&port), n = 0, closed = 0;
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_SOCKET, fd));
    EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, io_thread));
    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, NULL, 0, cfg));
    EXPECT(RTCP_OK, rtcp_sender_new(&client, "127.0.0.1", port, NULL));
    while (!conn && n >= 0)
        if ((n = rtcp_receiver_poll(receiver, ev, 4, 10000)) > 0)
            conn = ev[0].conn;

    shutdown(fd, how); /* says ENOTCONN, and does it */
    if (how == SHUT_WR) /* found out by sending */
        EXPECT(1, rtcp_send(conn, "x", 1));
    for (int polls = 0; !closed && polls < 4; polls++) {
        n = rtcp_receiver_poll(receiver, ev, 4, 5000);
        CHECK(n == 1 && ev[0].conn == conn);
        closed = n == 1 && (ev[0].events & RTCP_EVENT_CLOSED);
    }
    EXPECT(RTCP_EIO, closed ? ev[0].error : 0);
    EXPECT_SAYS(RTCP_EIO, rtcp_receiver_poll(receiver, ev, 4, 5000), "shut down");
    EXPECT_SAYS(RTCP_EIO, rtcp_receiver_connect(&late, receiver, "127.0.0.1", 9, NULL, cfg), "shut down");
    CHECK(late == 0);

    clock_t before = clock();
    nanosleep(&nap, NULL);
    if (!io_thread) /* sleeps in the library */
        CHECK(rtcp_poll(client, RTCP_EVENT_READABLE, 100) == 0);
    CHECK((clock() - before) * 1000 / CLOCKS_PER_SEC < 50);
    CHECK(rtcp_close(receiver, 5000) != RTCP_ENOCONN);
    rtcp_abort(client);
    rtcp_config_free(cfg);
    close(fd);
}

int main(void)
{
    const int hows[] = { SHUT_RDWR, SHUT_RD, SHUT_WR };
    for (int i = 0; i < 3; i++) {
        once(hows[i], 1);
        once(hows[i], 0);
        if (failed) fprintf(stderr, "shutdown(fd, %d)\n", hows[i]);
    }
    return failed != 0;
}
