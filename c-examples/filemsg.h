/* How rtcp_sendfile and rtcp_recvfile talk over one connection.
 *
 * The sender writes a message and ends its stream:
 *     "RTCF"  version (1 byte, 1)  zero (1)  name length (2)  file length (8)  name  bytes  SHA-256 (32)
 * The receiver answers with one verdict and ends its own:
 *     "RTCV"  enum verdict (1)  zero (3)  SHA-256 of the bytes it has (32, zeros if it has not got that far)
 * Numbers are big-endian. A verdict may come before the message is complete: then the file is not wanted. */
#ifndef FILEMSG_H
#define FILEMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

#define FILEMSG_HEAD_SIZE 16
#define FILEMSG_VERDICT_SIZE 40
#define FILEMSG_NAME_MAX 255

enum verdict {
    VERDICT_STORED = 0,      /* the file is in place under its name */
    VERDICT_MISMATCH = 1,    /* the digest is not the sender's */
    VERDICT_NAME = 2,        /* the name is not acceptable */
    VERDICT_FILE = 3,        /* the file could not be written */
    VERDICT_MESSAGE = 4,     /* that was not a file message */
    VERDICT_NONE = 255,      /* never sent: nothing was decided yet */
};

void filemsg_put_head(unsigned char out[FILEMSG_HEAD_SIZE], size_t name_len, uint64_t file_len);

/* False: not a file message of this version. */
bool filemsg_get_head(const unsigned char in[FILEMSG_HEAD_SIZE], size_t *name_len, uint64_t *file_len);

void filemsg_put_verdict(unsigned char out[FILEMSG_VERDICT_SIZE], enum verdict v, const unsigned char digest[SHA256_SIZE]);

/* VERDICT_NONE: not a verdict. */
enum verdict filemsg_get_verdict(const unsigned char in[FILEMSG_VERDICT_SIZE], unsigned char digest[SHA256_SIZE]);

/* English for a verdict. */
const char *filemsg_verdict_text(enum verdict v);

/* Why a file of that name must not be created in a directory, or NULL if it may. `name` need not end in a zero byte. */
const char *filemsg_name_fault(const char *name, size_t len);

#endif
