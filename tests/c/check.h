/* What the C tests share: a check that says what it saw, and a count of what failed. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "rtcp.h"

static int failed;

static void expect(long long want, long long got, const char *call, int line)
{
    char why[512] = "";
    if (want == got) return;
    rtcp_last_error_message(why, sizeof why);
    fprintf(stderr, "line %d: %s gave %lld, not %lld (last error: %s)\n", line, call, got, want, why);
    failed++;
}

static void expect_true(int holds, const char *what, int line)
{
    if (holds) return;
    fprintf(stderr, "line %d: not so: %s\n", line, what);
    failed++;
}

#define EXPECT(want, call) expect((want), (long long)(call), #call, __LINE__)
#define CHECK(what) expect_true(!!(what), #what, __LINE__)
/* The call fails with this code, and the words say something about it. */
#define EXPECT_SAYS(want, call, words)                                                   \
    do {                                                                                 \
        char why_[512] = "";                                                             \
        EXPECT(want, call);                                                              \
        rtcp_last_error_message(why_, sizeof why_);                                      \
        if (!strstr(why_, words)) {                                                      \
            fprintf(stderr, "line %d: \"%s\" does not say \"%s\"\n", __LINE__, why_, words); \
            failed++;                                                                    \
        }                                                                                \
    } while (0)

#endif
