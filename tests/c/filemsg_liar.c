/* The peer that does not keep to the file message: what rtcp_sendfile and rtcp_recvfile must see through.
 *
 *   filemsg_liar recv            listens, takes a file and answers that its digest does not match
 *   filemsg_liar send KIND PORT  sends a message that has a wrong `digest`, is `short` (ends early) or has a wrong `magic`; ends
 *                                with 0 when no verdict said that the file is stored */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filemsg.h"
#include "rtcp.h"

static int lie_about_receiving(void)
{
    static unsigned char taken[64 * 1024];
    unsigned char record[FILEMSG_VERDICT_SIZE];
    rtcp_event e = { 0 };
    rtcp_handle receiver;
    rtcp_ssize n = 0;
    if (rtcp_receiver_new(&receiver, "127.0.0.1", 0, NULL) != RTCP_OK)
        return 1;
    rtcp_get_addr(receiver, 0, (char *)taken, sizeof taken);
    printf("listening %s\n", (char *)taken);
    fflush(stdout);
    do {
        if (rtcp_receiver_poll(receiver, &e, 1, 10000) != 1)
            return 1;
        while ((e.events & RTCP_EVENT_READABLE) && (n = rtcp_recv(e.conn, taken, sizeof taken)) > 0)
            ;
    } while (!(e.events & RTCP_EVENT_READABLE) || n != 0);
    filemsg_put_verdict(record, VERDICT_MISMATCH, (const unsigned char[SHA256_SIZE]){ 0 });
    if (rtcp_send(e.conn, record, sizeof record) != sizeof record)
        return 1;
    return rtcp_close(receiver, 5000) != RTCP_OK;
}

static int lie_about_sending(const char *kind, uint16_t port)
{
    unsigned char message[FILEMSG_HEAD_SIZE + 4 + 6 + SHA256_SIZE] = { 0 }, record[FILEMSG_VERDICT_SIZE];
    size_t len = sizeof message, have = 0;
    struct sha256 hash;
    rtcp_handle sender;
    filemsg_put_head(message, 4, 6);
    memcpy(message + FILEMSG_HEAD_SIZE, "namebytes!", 10);
    sha256_init(&hash);
    sha256_add(&hash, "bytes!", 6);
    sha256_end(&hash, message + FILEMSG_HEAD_SIZE + 10);
    if (strcmp(kind, "digest") == 0)
        message[len - 1] ^= 1;
    else if (strcmp(kind, "short") == 0)
        len -= SHA256_SIZE + 1; /* and a byte of the file */
    else if (strcmp(kind, "magic") == 0)
        message[0] = 'X';
    else
        return 2;
    if (rtcp_sender_new(&sender, "127.0.0.1", port, NULL) != RTCP_OK || rtcp_send(sender, message, len) != (rtcp_ssize)len)
        return 1;
    rtcp_finish(sender);
    for (rtcp_ssize n = 1; have < sizeof record && n > 0; have += n > 0 ? (size_t)n : 0)
        n = rtcp_recv(sender, record + have, sizeof record - have);
    rtcp_abort(sender);
    return have == sizeof record && record[4] == VERDICT_STORED;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "recv") == 0)
        return lie_about_receiving();
    if (argc == 4 && strcmp(argv[1], "send") == 0)
        return lie_about_sending(argv[2], (uint16_t)atoi(argv[3]));
    return 2;
}
