/* How long a small question and its answer take between two programs: rtcp beside plain UDP (--bare).
 *
 * A message is `--size` bytes: its number (8 bytes, little-endian) and bytes made from it. The server checks each question and
 * answers with the same bytes; the client checks each answer and asks the next. The client prints one JSON line, the server
 * nothing but, with port 0, its address. Both sleep while they wait, in either kind: what is compared is two blocking calls with two blocking calls. */
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

#include "cli.h"
#include "rtcp.h"

#define MESSAGE_MAX 1400

static const char usage[] =
    "rtcp_pingpong serve --listen ADDR:PORT [options] | rtcp_pingpong ask --to HOST:PORT [options]\n"
    "  the server ends when its client has\n"
    "  --bare         plain UDP, nothing repeated\n"
    "  --count N      questions that are measured (100000), after a tenth as many that are not\n"
    "  --size N       bytes in each question and answer, 8 to 1400 (64)\n"
    "  --no-gso       no segmentation offload\n"
    "  --no-thread    no I/O thread: everything happens in the calls";

static struct {
    const char *words[1], *listen, *to;
    int64_t count, size;
    bool bare, no_gso, no_thread;
} opt = { .count = 100000, .size = 64 };

static void parse(int argc, char **argv)
{
    for (cli_start(argc, argv, usage); cli_more();) {
        if (cli_flag("--bare"))
            opt.bare = true;
        else if (cli_flag("--no-gso"))
            opt.no_gso = true;
        else if (cli_flag("--no-thread"))
            opt.no_thread = true;
        else if (!cli_value("--listen", &opt.listen) && !cli_value("--to", &opt.to)
                 && !cli_number("--count", 1, 100000000, &opt.count) && !cli_number("--size", 8, MESSAGE_MAX, &opt.size)
                 && !cli_word(opt.words, 1))
            cli_unknown();
    }
}

static _Noreturn void fail(const char *what, rtcp_ssize rc)
{
    char detail[256] = "";
    rtcp_last_error_message(detail, sizeof detail);
    fprintf(stderr, "error: %s: %s: %s\n", what, rtcp_strerror((int)rc), detail);
    exit(1);
}

static _Noreturn void fail_os(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- messages ---- */

static void make(unsigned char *message, uint64_t number)
{
    for (size_t i = 0; i < 8; i++)
        message[i] = (unsigned char)(number >> (8 * i));
    for (size_t i = 8; i < (size_t)opt.size; i++)
        message[i] = (unsigned char)(number * 31 + i);
}

static void check(const unsigned char *message, uint64_t number)
{
    unsigned char expected[MESSAGE_MAX];
    make(expected, number);
    if (memcmp(message, expected, (size_t)opt.size) != 0) {
        fprintf(stderr, "error: message %" PRIu64 " is not what was sent\n", number);
        exit(1);
    }
}

/* ---- plain UDP ---- */

static int bare_socket(const struct endpoint *at, struct addrinfo **found)
{
    char port[8];
    struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_family = AF_INET };
    snprintf(port, sizeof port, "%u", at->port);
    int rc = getaddrinfo(at->host != NULL ? at->host : "127.0.0.1", port, &hints, found);
    if (rc != 0) {
        fprintf(stderr, "error: %s: %s\n", at->text, gai_strerror(rc));
        exit(1);
    }
    int fd = socket((*found)->ai_family, SOCK_DGRAM, 0);
    if (fd < 0)
        fail_os("socket");
    return fd;
}

/* An empty datagram says that there are no more questions. */
static void bare_serve(const struct endpoint *at)
{
    struct addrinfo *found;
    unsigned char message[MESSAGE_MAX];
    int fd = bare_socket(at, &found);
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0)
        fail_os("bind");
    freeaddrinfo(found);
    for (uint64_t number = 0;; number++) {
        struct sockaddr_storage from;
        socklen_t from_len = sizeof from;
        ssize_t len = recvfrom(fd, message, sizeof message, 0, (struct sockaddr *)&from, &from_len);
        if (len == 0)
            break;
        if (len != opt.size)
            fail_os("recvfrom");
        check(message, number);
        if (sendto(fd, message, (size_t)len, 0, (struct sockaddr *)&from, from_len) != len)
            fail_os("sendto");
    }
    close(fd);
}

static int bare_fd;

static void bare_open(const struct endpoint *to)
{
    struct addrinfo *found;
    struct timeval patience = { .tv_sec = 2 }; /* a lost datagram must not hang the run */
    bare_fd = bare_socket(to, &found);
    if (connect(bare_fd, found->ai_addr, found->ai_addrlen) != 0)
        fail_os("connect");
    freeaddrinfo(found);
    setsockopt(bare_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

static void bare_ask(unsigned char *message)
{
    if (send(bare_fd, message, (size_t)opt.size, 0) != opt.size)
        fail_os("send");
    if (recv(bare_fd, message, MESSAGE_MAX, 0) != opt.size)
        fail_os("recv");
}

static void bare_close(void)
{
    send(bare_fd, "", 0, 0);
    close(bare_fd);
}

/* ---- rtcp ---- */

static rtcp_config *configure(void)
{
    rtcp_config *cfg = rtcp_config_new();
    rtcp_config_set_int(cfg, RTCP_OPT_IO_THREAD, !opt.no_thread);
    rtcp_config_set_int(cfg, RTCP_OPT_OFFLOAD, !opt.no_gso);
    rtcp_config_set_int(cfg, RTCP_OPT_IO_TIMEOUT_MS, 10000);
    return cfg;
}

/* Fills `message`; false: the peer has finished. */
static bool receive(rtcp_handle conn, unsigned char *message)
{
    for (size_t got = 0; got < (size_t)opt.size;) {
        rtcp_ssize rc = rtcp_recv(conn, message + got, (size_t)opt.size - got);
        if (rc == 0 && got == 0)
            return false;
        if (rc <= 0)
            fail("receive", rc < 0 ? rc : RTCP_EPROTO);
        got += (size_t)rc;
    }
    return true;
}

static void transmit(rtcp_handle conn, const unsigned char *message)
{
    rtcp_ssize rc = rtcp_send(conn, message, (size_t)opt.size);
    if (rc != opt.size)
        fail("send", rc < 0 ? rc : RTCP_ETIMEDOUT);
}

static void hang_up(rtcp_handle handle)
{
    int rc = rtcp_close(handle, 1000);
    if (rc != RTCP_OK)
        fail("close", rc);
}

static void serve(const struct endpoint *at)
{
    rtcp_handle receiver = 0;
    rtcp_event event = { 0 };
    unsigned char message[MESSAGE_MAX];
    char where[80];
    rtcp_config *cfg = configure();
    int rc = rtcp_receiver_new(&receiver, at->host, at->port, cfg);
    rtcp_config_free(cfg);
    if (rc >= 0 && at->port == 0 && rtcp_get_addr(receiver, 0, where, sizeof where) > 0) {
        printf("listening %s\n", where);
        fflush(stdout);
    }
    while (rc >= 0 && !(event.events & RTCP_EVENT_ACCEPTED))
        rc = rtcp_receiver_poll(receiver, &event, 1, -1);
    if (rc < 0)
        fail("accept", rc);
    for (uint64_t number = 0; receive(event.conn, message); number++) {
        check(message, number);
        transmit(event.conn, message);
    }
    hang_up(event.conn);
    hang_up(receiver);
}

static rtcp_handle sender;

static void dial(const struct endpoint *to)
{
    rtcp_config *cfg = configure();
    int rc = rtcp_sender_new(&sender, to->host != NULL ? to->host : "localhost", to->port, cfg);
    rtcp_config_free(cfg);
    if (rc >= 0)
        rc = rtcp_poll(sender, RTCP_EVENT_CONNECTED, 10000);
    if (rc <= 0)
        fail("connect", rc < 0 ? rc : RTCP_ETIMEDOUT);
}

static void ask(unsigned char *message)
{
    transmit(sender, message);
    if (!receive(sender, message))
        fail("receive", RTCP_EPROTO);
}

/* ---- the run ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(double *times, size_t count)
{
    struct rusage ru;
    rtcp_stats st = { 0 };
    getrusage(RUSAGE_SELF, &ru);
    if (!opt.bare)
        rtcp_get_stats(sender, &st, sizeof st);
    qsort(times, count, sizeof *times, by_size);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += times[i];
    printf("{\"peer\":\"%s\",\"note\":\"%s\",\"count\":%zu,\"size\":%" PRId64, opt.bare ? "udp" : "rtcp",
           opt.bare || !opt.no_thread ? "" : "no thread", count, opt.size);
    printf(",\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f,\"max_us\":%.2f,\"mean_us\":%.2f", times[count / 2] * 1e6,
           times[count * 9 / 10] * 1e6, times[count * 99 / 100] * 1e6, times[count - 1] * 1e6, sum / (double)count * 1e6);
    printf(",\"cpu_s\":%.3f,\"switches\":%ld,\"packets_sent\":%" PRIu64 ",\"packets_received\":%" PRIu64 ",\"io\":%" PRIu64 "}\n",
           (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6,
           ru.ru_nvcsw + ru.ru_nivcsw, st.packets_sent, st.packets_received, st.io);
}

static void measure(const struct endpoint *to)
{
    size_t warm_up = (size_t)opt.count / 10, count = (size_t)opt.count;
    unsigned char message[MESSAGE_MAX];
    double *times = calloc(count, sizeof *times);
    if (times == NULL)
        fail_os("times");
    opt.bare ? bare_open(to) : dial(to);
    for (size_t number = 0; number < warm_up + count; number++) {
        make(message, number);
        double start = seconds();
        opt.bare ? bare_ask(message) : ask(message);
        if (number >= warm_up)
            times[number - warm_up] = seconds() - start;
        check(message, number);
    }
    report(times, count);
    free(times);
    if (opt.bare)
        bare_close();
    else
        hang_up(sender);
}

int main(int argc, char **argv)
{
    struct endpoint address;
    parse(argc, argv);
    bool asks = opt.words[0] != NULL && strcmp(opt.words[0], "ask") == 0;
    bool serves = opt.words[0] != NULL && strcmp(opt.words[0], "serve") == 0;
    if ((asks && opt.to == NULL) || (serves && opt.listen == NULL) || (!asks && !serves))
        cli_usage("serve needs --listen, ask needs --to");
    cli_endpoint(asks ? opt.to : opt.listen, &address);
    if (asks)
        measure(&address);
    else if (opt.bare)
        bare_serve(&address);
    else
        serve(&address);
    return 0;
}
