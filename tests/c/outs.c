/* Whatever makes a call fail, what it was to write is defined afterwards: NULL, 0 or an empty text. */
#include "check.h"

static char junk[64];
static int records;

/* Each call with an out argument, on `h`, where all of them fail. */
static void fail_all(rtcp_handle h, const rtcp_config *cfg, int option)
{
    rtcp_handle handle = 7;
    void *p = junk;
    const void *q = junk;
    rtcp_stats stats, none;
    char text[8] = "junk";
    int64_t value = 7, min = 7, max = 7, def = 7;

    CHECK(rtcp_sender_new(&handle, NULL, 9, NULL) < 0 && handle == 0);
    handle = 7;
    CHECK(rtcp_receiver_new(&handle, "\xff", 0, NULL) < 0 && handle == 0);
    handle = 7;
    CHECK(rtcp_receiver_connect(&handle, h, NULL, 9, NULL, NULL) < 0 && handle == 0);
    CHECK(rtcp_reserve(h, &p) < 0 && p == NULL);
    CHECK(rtcp_peek(h, &q) < 0 && q == NULL);
    CHECK(rtcp_get_addr(h, 1, text, sizeof text) < 0 && !*text);
    CHECK(rtcp_config_get_int(cfg, option, &value) < 0 && value == 0);
    CHECK(rtcp_option_bounds(option, &min, &max, &def) < 0 && !min && !max && !def);

    memset(&stats, 7, sizeof stats);
    memset(&none, 0, sizeof none);
    int rc = rtcp_get_stats(h, &stats, sizeof stats);
    CHECK(rc == RTCP_OK || !memcmp(&stats, &none, sizeof stats));
    memset(&stats, 7, sizeof stats);
    rc = rtcp_get_stats(h, &stats, 8);
    CHECK(rc == RTCP_OK || stats.bytes_sent == 0);
    CHECK(stats.bytes_acked == 0x0707070707070707); /* beyond `size` */
}

static void log_line(void *user, int level, const char *target, const char *message)
{
    rtcp_handle handle = 7;
    void *p = junk;
    int64_t value = 7;
    (void)user, (void)level, (void)target, (void)message;
    records++;
    EXPECT(RTCP_ESTATE, rtcp_sender_new(&handle, "127.0.0.1", 9, NULL));
    CHECK(handle == 0);
    EXPECT(RTCP_ESTATE, rtcp_option_bounds(RTCP_OPT_MTU, &value, NULL, NULL));
    CHECK(value == 0);
    EXPECT(RTCP_ESTATE, rtcp_reserve(1, &p));
    CHECK(p == NULL);
    fail_all(1, NULL, RTCP_OPT_MTU);
}

int main(void)
{
    rtcp_handle receiver = 0;
    rtcp_config *cfg = rtcp_config_new();
    EXPECT(RTCP_OK, rtcp_receiver_new(&receiver, "127.0.0.1", 0, NULL));
    fail_all(receiver, cfg, RTCP_OPT_BIND); /* the wrong kind of handle */
    fail_all(0, NULL, 99);
    EXPECT(RTCP_OK, rtcp_log_set_callback(log_line, NULL, RTCP_LOG_DEBUG));
    EXPECT(RTCP_ENOCONN, rtcp_finish(0)); /* has a record */
    EXPECT(RTCP_OK, rtcp_log_set_callback(NULL, NULL, RTCP_LOG_OFF));
    CHECK(records > 0);
    EXPECT(RTCP_OK, rtcp_close(receiver, 0));
    fail_all(receiver, cfg, -1);
    rtcp_config_free(cfg);
    return failed != 0;
}
