/* What the benches in C share: a clock, and an end with the library's own words. */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "rtcp.h"

/* Seconds of a clock that never goes back. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int holds, const char *what)
{
    char why[512];
    if (holds) return;
    rtcp_last_error_message(why, sizeof why);
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

#endif
