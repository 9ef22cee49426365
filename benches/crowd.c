/* Many connections to one receiver over loopback, through the C API. `benches/crowd.py` builds it, runs it and explains.
 *
 *   crowd CONNECTIONS IDLE_S BUSY BUSY_S
 *
 * The receiver is this process, a child dials. Prints one line: seconds until all are established; the receiver's resident bytes
 * for each once they rest; how often its threads, but for the one that measures, woke up in IDLE_S seconds then; what the BUSY
 * connections that write 1,000 bytes each second, all at once, have delivered after BUSY_S: the slowest, the mean. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bench.h"

/* The inner ports of one socket do not suffice; and what a receiver queues of strangers' openings is bounded. */
enum { PER_SOCKET = 25000, AT_ONCE = 200, EVENTS = 256, MESSAGE = 1000, REST_S = 12, TAIL_S = 2 };

static void pause_until(double when)
{
    double left = when - now();
    struct timespec t = { .tv_sec = (time_t)left, .tv_nsec = (long)((left - (double)(time_t)left) * 1e9) };
    if (left > 0) nanosleep(&t, NULL);
}

/* Switches of context of all threads but the main one. */
static uint64_t wakes(void)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    uint64_t sum = 0, n;
    while (tasks && (task = readdir(tasks))) {
        char path[320], line[256];
        if (task->d_name[0] == '.' || atoi(task->d_name) == getpid()) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
            if (sscanf(line, "voluntary_ctxt_switches: %" SCNu64, &n) == 1) sum += n;
        if (f) fclose(f);
    }
    if (tasks) closedir(tasks);
    return sum;
}

static double resident(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    must(f && fscanf(f, "%*d %ld", &pages) == 1, "statm");
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void tell(int fd, uint16_t what) { must(write(fd, &what, sizeof what) == sizeof what, "pipe"); }

static uint16_t hear(int fd)
{
    uint16_t what;
    if (read(fd, &what, sizeof what) != sizeof what) exit(1); /* the other one is gone and has said why */
    return what;
}

/* The events of one socket: how many connections are established now that were not. */
static size_t attend(rtcp_handle own, int wait_ms)
{
    rtcp_event ev[EVENTS];
    size_t established = 0;
    int n = rtcp_receiver_poll(own, ev, EVENTS, wait_ms);
    must(n >= 0, "poll");
    for (int i = 0; i < n; i++) {
        must(!(ev[i].events & RTCP_EVENT_CLOSED), "a connection has ended");
        established += (ev[i].events & RTCP_EVENT_CONNECTED) != 0;
    }
    return established;
}

static void dial(int from, int to, size_t count, size_t busy, double busy_s)
{
    uint16_t port = hear(from);
    size_t sockets = (count + PER_SOCKET - 1) / PER_SOCKET;
    rtcp_handle *own = calloc(sockets, sizeof *own), *conns = calloc(count, sizeof *conns);
    rtcp_config *cfg = rtcp_config_new();
    static unsigned char message[MESSAGE];
    rtcp_config_set_int(cfg, RTCP_OPT_MAX_CLIENTS, 0);
    for (size_t s = 0; s < sockets; s++) must(rtcp_receiver_new(&own[s], "127.0.0.1", 0, cfg) == 0, "socket");
    for (size_t dialled = 0, established = 0; established < count;) {
        for (; dialled < count && dialled < established + AT_ONCE; dialled++)
            must(rtcp_receiver_connect(&conns[dialled], own[dialled / PER_SOCKET], "127.0.0.1", port, NULL, NULL) == 0, "connect");
        for (size_t s = 0; s < sockets; s++) established += attend(own[s], 1);
    }
    tell(to, 1);
    hear(from);
    double begin = now();
    for (int round = 0; round < busy_s; round++) {
        pause_until(begin + round);
        for (size_t i = 0; i < busy; i++) must(rtcp_send(conns[i], message, MESSAGE) == MESSAGE, "send");
    }
    hear(from);
    for (size_t s = 0; s < sockets; s++) rtcp_abort(own[s]);
}

static uint64_t *bytes; /* by connection */
static size_t accepted;

static void serve(rtcp_handle receiver, int wait_ms)
{
    static unsigned char sink[65536];
    rtcp_event ev[EVENTS];
    int n = rtcp_receiver_poll(receiver, ev, EVENTS, wait_ms);
    must(n >= 0, "poll");
    for (int i = 0; i < n; i++) {
        if (ev[i].events & RTCP_EVENT_ACCEPTED) {
            ev[i].user_data = &bytes[accepted++];
            rtcp_set_user_data(ev[i].conn, ev[i].user_data);
        }
        for (rtcp_ssize got; ev[i].events & RTCP_EVENT_READABLE && (got = rtcp_recv(ev[i].conn, sink, sizeof sink)) > 0;)
            *(uint64_t *)ev[i].user_data += (uint64_t)got;
    }
}

static void receive(int from, int to, size_t count, double idle_s, size_t busy, double busy_s)
{
    rtcp_handle receiver;
    char addr[80];
    rtcp_config *cfg = rtcp_config_new();
    rtcp_config_set_int(cfg, RTCP_OPT_MAX_CLIENTS, (int64_t)count);
    must(rtcp_receiver_new(&receiver, "127.0.0.1", 0, cfg) == 0, "receiver");
    rtcp_get_addr(receiver, 0, addr, sizeof addr);
    double before = resident(), begin = now();
    tell(to, (uint16_t)atoi(strchr(addr, ':') + 1));
    while (accepted < count) serve(receiver, 100);
    double established = now() - begin;
    hear(from);
    pause_until(now() + REST_S);
    uint64_t woken = wakes();
    pause_until(now() + idle_s);
    woken = wakes() - woken;
    double held = (resident() - before) / (double)count;
    tell(to, 2);
    for (double end = now() + busy_s + TAIL_S; now() < end;) serve(receiver, 100);
    uint64_t least = UINT64_MAX, sum = 0;
    size_t heard = 0;
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] == 0) continue;
        least = bytes[i] < least ? bytes[i] : least;
        sum += bytes[i];
        heard++;
    }
    if (heard < busy) least = 0;
    printf("%.2f %.0f %" PRIu64 " %" PRIu64 " %.0f\n", established, held, woken, least, (double)sum / (double)busy);
    fflush(stdout);
    tell(to, 3);
}

int main(int argc, char **argv)
{
    int there[2], back[2], status;
    if (argc != 5 || pipe(there) || pipe(back)) return 2;
    size_t count = (size_t)atol(argv[1]), busy = (size_t)atol(argv[3]);
    bytes = calloc(count, sizeof *bytes);
    pid_t child = fork();
    if (child == 0) {
        close(there[1]);
        close(back[0]);
        dial(there[0], back[1], count, busy, atof(argv[4]));
        return 0;
    }
    close(there[0]);
    close(back[1]);
    receive(back[0], there[1], count, atof(argv[2]), busy, atof(argv[4]));
    return waitpid(child, &status, 0) != child || status != 0;
}
