/* A server of many clients in one event loop: endure_server [--no-thread] [--sink] [--idle-ms N]. Echoes, or swallows;
 * says on its standard output when a connection fails. Never ends by itself. */
#include <stdlib.h>
#include "check.h"

struct client { size_t off, len; char buf[16384]; };

static int sink;

static void pump(rtcp_handle c, struct client *s)
{
    for (;;) {
        rtcp_ssize n;
        while (s->off < s->len) {
            n = rtcp_send(c, s->buf + s->off, s->len - s->off);
            if (n < 0) { rtcp_watch(c, RTCP_EVENT_WRITABLE); return; }
            s->off += (size_t)n;
        }
        s->off = s->len = 0;
        n = rtcp_recv(c, s->buf, sizeof s->buf);
        if (n == 0) rtcp_finish(c);
        if (n <= 0) { rtcp_watch(c, RTCP_EVENT_READABLE); return; }
        if (!sink) s->len = (size_t)n;
    }
}

int main(int argc, char **argv)
{
    static rtcp_event ev[64];
    rtcp_config *cfg = rtcp_config_new();
    rtcp_handle r;
    char address[80];
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--no-thread")) EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0));
        if (!strcmp(argv[i], "--sink")) sink = 1;
        if (!strcmp(argv[i], "--idle-ms")) EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IDLE_TIMEOUT_MS, atoi(argv[++i])));
    }
    EXPECT(RTCP_OK, rtcp_receiver_new(&r, "127.0.0.1", 0, cfg));
    rtcp_config_free(cfg);
    CHECK(rtcp_get_addr(r, 0, address, sizeof address) > 0);
    printf("listening %s\n", address);
    fflush(stdout);
    for (int n = 0; !failed && n >= 0;) {
        n = rtcp_receiver_poll(r, ev, 64, -1);
        for (rtcp_event *e = ev; e < ev + n; e++) {
            struct client *s = e->user_data;
            if (e->events & RTCP_EVENT_ACCEPTED) rtcp_set_user_data(e->conn, s = calloc(1, sizeof *s));
            if (!(e->events & RTCP_EVENT_CLOSED)) { pump(e->conn, s); continue; }
            free(s);
            if (!e->error) continue;
            printf("ended %s\n", rtcp_error_name(e->error));
            fflush(stdout);
        }
    }
    return 1;
}
