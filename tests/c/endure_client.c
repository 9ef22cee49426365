/* Clients of endure_server: endure_client [--no-thread] [--user-timeout-ms N] PORT MODE [COUNT]. Modes:
 *   serial COUNT    connections one after another: 1 KB there and back each; afterwards no descriptor is left
 *   parallel COUNT  connections at the same time, all open at once: 1 KB there and back each, then all are closed
 *   pingpong COUNT  round trips of 64 bytes on one connection
 *   bulk            sends until it fails, and says how
 *   idle            connects, then waits for ever */
#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include "check.h"

enum { KB = 1024, LIMIT_MS = 120000 };

static rtcp_config *cfg;
static uint16_t port;

static rtcp_handle dial(void)
{
    rtcp_handle h;
    EXPECT(RTCP_OK, rtcp_sender_new(&h, "127.0.0.1", port, cfg));
    return h;
}

static void fill(char *buf, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) buf[i] = (char)((seed = seed * 1103515245u + 12345u) >> 16);
}

static void request(rtcp_handle h, size_t len, unsigned seed)
{
    char buf[KB];
    fill(buf, len, seed);
    EXPECT(len, rtcp_send(h, buf, len));
}

static void answer(rtcp_handle h, size_t len, unsigned seed)
{
    char want[KB], got[KB];
    size_t have = 0;
    fill(want, len, seed);
    while (have < len) {
        rtcp_ssize n = rtcp_recv(h, got + have, len - have);
        CHECK(n > 0);
        if (n <= 0) { fprintf(stderr, "%s\n", rtcp_error_name((int)n)); return; }
        have += (size_t)n;
    }
    CHECK(!memcmp(want, got, len));
}

static int open_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir)) count++;
    if (dir) closedir(dir);
    return count;
}

static void serial(unsigned count)
{
    const struct timespec moment = { 0, 10000000 };
    int before = open_descriptors();
    for (unsigned i = 0; i < count && !failed; i++) {
        rtcp_handle h = dial();
        request(h, KB, i);
        answer(h, KB, i);
        EXPECT(RTCP_OK, rtcp_close(h, LIMIT_MS));
    }
    /* Each stays a moment in the background to answer repeated FINs. */
    for (int tries = 6000; tries > 0 && open_descriptors() != before; tries--) nanosleep(&moment, NULL);
    EXPECT(before, open_descriptors());
}

static void parallel(unsigned count)
{
    rtcp_handle *all = calloc(count, sizeof *all);
    for (unsigned i = 0; i < count && !failed; i++) request(all[i] = dial(), KB, i);
    for (unsigned i = 0; i < count && !failed; i++) answer(all[i], KB, i);
    /* All are open now, and all still work. */
    for (unsigned i = 0; i < count && !failed; i++) request(all[i], 1, ~i);
    for (unsigned i = 0; i < count && !failed; i++) answer(all[i], 1, ~i);
    for (unsigned i = 0; i < count && !failed; i++) EXPECT(RTCP_OK, rtcp_finish(all[i]));
    for (unsigned i = 0; i < count && !failed; i++) {
        char byte;
        EXPECT(0, rtcp_recv(all[i], &byte, 1));
        EXPECT(RTCP_EVENT_ACKED, rtcp_poll(all[i], RTCP_EVENT_ACKED, LIMIT_MS));
        EXPECT(RTCP_OK, rtcp_close(all[i], 0));
    }
    free(all);
}

static void pingpong(unsigned count)
{
    rtcp_handle h = dial();
    for (unsigned i = 0; i < count && !failed; i++) {
        request(h, 64, i);
        answer(h, 64, i);
    }
    EXPECT(RTCP_OK, rtcp_close(h, LIMIT_MS));
}

static void bulk(void)
{
    static char buf[1 << 16];
    rtcp_handle h = dial();
    rtcp_ssize n = rtcp_send(h, buf, sizeof buf);
    EXPECT(RTCP_OK, rtcp_flush(h, LIMIT_MS));
    puts("under way");
    fflush(stdout);
    while ((n = rtcp_send(h, buf, sizeof buf)) > 0) ;
    printf("failed %s\n", rtcp_error_name((int)n));
    EXPECT(n, rtcp_close(h, LIMIT_MS));
}

static void idle(void)
{
    char byte;
    rtcp_handle h = dial();
    request(h, KB, 1);
    answer(h, KB, 1);
    puts("connected");
    fflush(stdout);
    EXPECT(1, rtcp_recv(h, &byte, 1));
}

int main(int argc, char **argv)
{
    int i = 1;
    struct rlimit files;    /* an endpoint has up to five descriptors */
    EXPECT(0, getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    EXPECT(0, setrlimit(RLIMIT_NOFILE, &files));
    cfg = rtcp_config_new();
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--no-thread")) EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0));
        else EXPECT(RTCP_OK, rtcp_config_set_int(cfg, RTCP_OPT_USER_TIMEOUT_MS, atoi(argv[++i])));
    }
    if (argc < i + 2) return 2;
    port = (uint16_t)atoi(argv[i]);
    const char *mode = argv[i + 1];
    unsigned count = i + 2 < argc ? (unsigned)atoi(argv[i + 2]) : 1;
    if (strcmp(mode, "idle")) rtcp_config_set_int(cfg, RTCP_OPT_IO_TIMEOUT_MS, LIMIT_MS);
    if (!strcmp(mode, "serial")) serial(count);
    else if (!strcmp(mode, "parallel")) parallel(count);
    else if (!strcmp(mode, "pingpong")) pingpong(count);
    else if (!strcmp(mode, "bulk")) bulk();
    else if (!strcmp(mode, "idle")) idle();
    else return 2;
    rtcp_config_free(cfg);
    return failed != 0;
}
