#include "filemsg.h"

#include <string.h>

static void put_number(unsigned char *out, uint64_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, value >>= 8)
        out[i] = (unsigned char)value;
}

static uint64_t get_number(const unsigned char *in, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | in[i];
    return value;
}

void filemsg_put_head(unsigned char out[FILEMSG_HEAD_SIZE], size_t name_len, uint64_t file_len)
{
    memcpy(out, "RTCF\1\0", 6);
    put_number(out + 6, name_len, 2);
    put_number(out + 8, file_len, 8);
}

bool filemsg_get_head(const unsigned char in[FILEMSG_HEAD_SIZE], size_t *name_len, uint64_t *file_len)
{
    *name_len = (size_t)get_number(in + 6, 2);
    *file_len = get_number(in + 8, 8);
    return memcmp(in, "RTCF\1\0", 6) == 0;
}

void filemsg_put_verdict(unsigned char out[FILEMSG_VERDICT_SIZE], enum verdict v, const unsigned char digest[SHA256_SIZE])
{
    memcpy(out, "RTCV\0\0\0\0", 8);
    out[4] = (unsigned char)v;
    memcpy(out + 8, digest, SHA256_SIZE);
}

enum verdict filemsg_get_verdict(const unsigned char in[FILEMSG_VERDICT_SIZE], unsigned char digest[SHA256_SIZE])
{
    memcpy(digest, in + 8, SHA256_SIZE);
    if (memcmp(in, "RTCV", 4) != 0 || in[4] > VERDICT_MESSAGE)
        return VERDICT_NONE;
    return (enum verdict)in[4];
}

const char *filemsg_verdict_text(enum verdict v)
{
    switch (v) {
    case VERDICT_STORED: return "stored, digest right";
    case VERDICT_MISMATCH: return "the digest does not match";
    case VERDICT_NAME: return "the file name is refused";
    case VERDICT_FILE: return "the file cannot be written there";
    case VERDICT_MESSAGE: return "not a file message of this version";
    case VERDICT_NONE: break;
    }
    return "no verdict";
}

const char *filemsg_name_fault(const char *name, size_t len)
{
    if (len == 0)
        return "it is empty";
    if (len > FILEMSG_NAME_MAX)
        return "it is longer than 255 bytes";
    if (name[0] == '.') /* "." and "..", hidden files, and our own temporary ones */
        return "it begins with a dot";
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '/' || name[i] == '\\')
            return "it contains a path separator";
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return "it contains a control character";
    }
    return NULL;
}
