/* What RTCP_OPT_SHARDS is worth: many senders into one receiver handle. `benches/shards.py` runs it and explains.
 *
 *   shards serve SHARDS              prints its port, serves until its standard input ends, then one line of figures
 *   shards bulk PORT SECONDS         one connection, counters 0, 1, 2, ... as bytes, as fast as they go
 *   shards dial PORT SECONDS SOCKETS connections that are begun and aborted once established, on SOCKETS sockets */
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include "bench.h"

static rtcp_handle receiver;

static void *wake_at_end(void *unused)
{
    while (getchar() != EOF) ;
    rtcp_wake(receiver);
    return unused;
}

/* CPU seconds of the busiest thread: what limits a machine with cores enough for all. */
static double busiest(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    uint64_t ns, most = 0;
    while (tasks && (task = readdir(tasks))) {
        char path[320];
        snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", task->d_name);
        FILE *f = fopen(path, "r");
        if (f && fscanf(f, "%" SCNu64, &ns) == 1 && ns > most) most = ns;
        if (f) fclose(f);
    }
    if (tasks) closedir(tasks);
    return (double)most / 1e9;
}

static unsigned char expected[256 + 65536];

/* Reads all there is and checks it: the stream's position is in user_data. */
static uint64_t drain(const rtcp_event *ev)
{
    static unsigned char buf[65536];
    uint64_t *at = ev->user_data;
    rtcp_ssize n;
    uint64_t before = *at;
    while ((n = rtcp_recv(ev->conn, buf, sizeof buf)) > 0) {
        must(!memcmp(buf, expected + *at % 256, (size_t)n), "a wrong byte");
        *at += (uint64_t)n;
    }
    return *at - before;
}

static void serve(int shards)
{
    rtcp_event ev[64];
    rtcp_config *cfg = rtcp_config_new();
    pthread_t thread;
    char addr[80];
    uint64_t bytes = 0, accepted = 0;
    double first = 0, last = 0;
    int n;
    for (size_t i = 0; i < sizeof expected; i++) expected[i] = (unsigned char)i;
    rtcp_config_set_int(cfg, RTCP_OPT_SHARDS, shards);
    must(rtcp_receiver_new(&receiver, "127.0.0.1", 0, cfg) == 0, "receiver");
    rtcp_get_addr(receiver, 0, addr, sizeof addr);
    puts(strchr(addr, ':') + 1);
    fflush(stdout);
    pthread_create(&thread, NULL, wake_at_end, NULL);
    while ((n = rtcp_receiver_poll(receiver, ev, 64, -1)) != RTCP_EINTR) {
        must(n >= 0, "poll");
        for (int i = 0; i < n; i++) {
            if (ev[i].events & RTCP_EVENT_ACCEPTED) {
                if (accepted++ == 0) first = now();
                ev[i].user_data = calloc(1, sizeof(uint64_t));
                rtcp_set_user_data(ev[i].conn, ev[i].user_data);
            }
            if (ev[i].events & RTCP_EVENT_READABLE) bytes += drain(&ev[i]);
            if (ev[i].events & RTCP_EVENT_CLOSED) free(ev[i].user_data);
        }
        last = now();
    }
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    double cpu = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
    printf("%" PRIu64 " %" PRIu64 " %.3f %.3f %.3f\n", bytes, accepted, last - first, cpu, busiest());
    rtcp_abort(receiver);
}

static void bulk(uint16_t port, double seconds)
{
    rtcp_handle h;
    double end = now() + seconds;
    static unsigned char block[65536];
    for (size_t i = 0; i < sizeof block; i++) block[i] = (unsigned char)i;
    must(rtcp_sender_new(&h, "127.0.0.1", port, NULL) == 0, "sender");
    while (now() < end) must(rtcp_send(h, block, sizeof block) == sizeof block, "send");
    must(rtcp_close(h, 20000) == 0, "close");
}

/* As many connections at once as sockets times 16; each that is established makes room for the next. */
static void dial(uint16_t port, double seconds, int sockets)
{
    double end = now() + seconds;
    rtcp_config *cfg = rtcp_config_new();
    rtcp_handle *own = calloc((size_t)sockets, sizeof *own), conn;
    rtcp_event ev[64];
    rtcp_config_set_int(cfg, RTCP_OPT_MAX_CLIENTS, 0);
    rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, 0);
    for (int s = 0; s < sockets; s++) {
        must(rtcp_receiver_new(&own[s], "127.0.0.1", 0, cfg) == 0, "socket");
        for (int i = 0; i < 16; i++) must(rtcp_receiver_connect(&conn, own[s], "127.0.0.1", port, NULL, NULL) == 0, "connect");
    }
    while (now() < end)
        for (int s = 0; s < sockets; s++) {
            int n = rtcp_receiver_poll(own[s], ev, 64, 0);
            for (int i = 0; i < n; i++) {
                if (ev[i].events & RTCP_EVENT_CONNECTED) rtcp_abort(ev[i].conn);
                if (ev[i].events & RTCP_EVENT_CLOSED)
                    must(rtcp_receiver_connect(&conn, own[s], "127.0.0.1", port, NULL, NULL) == 0, "connect");
            }
        }
    for (int s = 0; s < sockets; s++) rtcp_abort(own[s]);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "serve")) serve(atoi(argv[2]));
    else if (argc == 4 && !strcmp(argv[1], "bulk")) bulk((uint16_t)atoi(argv[2]), atof(argv[3]));
    else if (argc == 5 && !strcmp(argv[1], "dial")) dial((uint16_t)atoi(argv[2]), atof(argv[3]), atoi(argv[4]));
    else return 2;
    return 0;
}
