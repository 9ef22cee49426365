#include "cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rtcp.h"

static struct {
    char **next; /* ends with NULL, as argv does */
    const char *usage;
} line;

void cli_start(int argc, char **argv, const char *usage)
{
    line.next = argv + (argc > 0);
    line.usage = usage;
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: %s\n", usage);
        exit(0);
    }
}

void cli_usage(const char *problem)
{
    fprintf(stderr, "%s\nusage: %s\n", problem, line.usage);
    exit(2);
}

void cli_unknown(void)
{
    char text[128];
    snprintf(text, sizeof text, "unknown argument '%.80s'", *line.next);
    cli_usage(text);
}

bool cli_more(void)
{
    return *line.next != NULL;
}

bool cli_flag(const char *name)
{
    if (strcmp(*line.next, name) != 0)
        return false;
    line.next++;
    return true;
}

bool cli_value(const char *name, const char **value)
{
    char text[64];
    if (!cli_flag(name))
        return false;
    snprintf(text, sizeof text, "%s needs a value", name);
    if (*line.next == NULL)
        cli_usage(text);
    *value = *line.next++;
    return true;
}

bool cli_number(const char *name, int64_t min, int64_t max, int64_t *value)
{
    const char *digits;
    char *end, text[128];
    if (!cli_value(name, &digits))
        return false;
    errno = 0;
    *value = strtoll(digits, &end, 10);
    if (errno != 0 || end == digits || *end != '\0' || *value < min || *value > max) {
        snprintf(text, sizeof text, "%s takes a number from %" PRId64 " to %" PRId64, name, min, max);
        cli_usage(text);
    }
    return true;
}

bool cli_cc(int *value)
{
    const char *name;
    if (!cli_value("--cc", &name))
        return false;
    if (strcmp(name, "bbr") == 0)
        *value = RTCP_CC_BBR;
    else if (strcmp(name, "cubic") == 0)
        *value = RTCP_CC_CUBIC;
    else if (strcmp(name, "fixed") == 0)
        *value = RTCP_CC_FIXED;
    else
        cli_usage("--cc is one of bbr, cubic, fixed");
    return true;
}

bool cli_word(const char **words, int max)
{
    if ((*line.next)[0] == '-' && (*line.next)[1] != '\0')
        return false;
    for (int i = 0; i < max; i++)
        if (words[i] == NULL) {
            words[i] = *line.next++;
            return true;
        }
    return false;
}

void cli_endpoint(const char *text, struct endpoint *out)
{
    char *colon, *end = NULL;
    unsigned long port = 0;
    snprintf(out->text, sizeof out->text, "%s", text);
    colon = strrchr(out->text, ':');
    if (colon != NULL && colon[1] >= '0' && colon[1] <= '9')
        port = strtoul(colon + 1, &end, 10);
    if (strlen(text) >= sizeof out->text || end == NULL || *end != '\0' || port > UINT16_MAX)
        cli_usage("an address is written HOST:PORT or [IPv6]:PORT");
    *colon = '\0';
    if (out->text[0] == '[' && colon[-1] == ']') {
        memmove(out->text, out->text + 1, (size_t)(colon - out->text));
        *strrchr(out->text, ']') = '\0';
    }
    out->host = out->text[0] == '\0' || strcmp(out->text, "*") == 0 ? NULL : out->text;
    out->port = (uint16_t)port;
}

double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void print_json_string(const char *text)
{
    putchar('"');
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            putchar('\\');
        if (*p < 0x20)
            printf("\\u%04x", *p);
        else
            putchar(*p);
    }
    putchar('"');
}
