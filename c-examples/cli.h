/* What the example programs share: the command line, addresses, the clock, JSON text. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stdint.h>

/* A walk over argv. Every failure prints one line and the usage and exits with 2.
 *
 *     for (cli_start(argc, argv, usage); cli_more();)
 *         if (cli_flag("--quiet")) quiet = true;
 *         else if (cli_value("--bind", &bind)) continue;
 *         else if (!cli_word(words, 2)) cli_unknown();
 */
void cli_start(int argc, char **argv, const char *usage);
bool cli_more(void);
bool cli_flag(const char *name);                                             /* --name */
bool cli_value(const char *name, const char **value);                        /* --name TEXT */
bool cli_number(const char *name, int64_t min, int64_t max, int64_t *value); /* --name NUMBER */
bool cli_cc(int *value);                                                     /* --cc bbr|cubic|fixed */
bool cli_word(const char **words, int max);                                  /* anything without a dash: the next free word */
_Noreturn void cli_unknown(void);
_Noreturn void cli_usage(const char *problem);

/* "ADDR:PORT", "[v6]:PORT", "NAME:PORT"; "*:PORT" and ":PORT" give host NULL (every address). */
struct endpoint {
    const char *host; /* NULL or `text` */
    uint16_t port;
    char text[256];
};
void cli_endpoint(const char *text, struct endpoint *out);

/* Seconds on a clock that never steps. */
double seconds(void);

/* Prints `text` as a JSON string, quotes included. */
void print_json_string(const char *text);

#endif
