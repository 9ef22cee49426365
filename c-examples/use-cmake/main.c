/* The smallest round: a receiver and a sender in one program; a message goes from one to the other. */
#include <stdio.h>
#include <string.h>

#include <rtcp.h>

int main(void)
{
    static const char message[] = "hello over rtcp";
    rtcp_handle receiver, sender;
    rtcp_event event;
    char text[80], *port;

    if (rtcp_receiver_new(&receiver, "127.0.0.1", 0, NULL) != RTCP_OK) /* port 0: any free one */
        return 1;
    rtcp_get_addr(receiver, 0, text, sizeof text);
    port = strrchr(text, ':') + 1;
    unsigned number = 0;
    if (sscanf(port, "%u", &number) != 1 || rtcp_sender_new(&sender, "127.0.0.1", (uint16_t)number, NULL) != RTCP_OK)
        return 1;
    if (rtcp_send(sender, message, strlen(message)) < 0)
        return 1;
    rtcp_finish(sender);

    for (size_t have = 0;;) {
        int n = rtcp_receiver_poll(receiver, &event, 1, 5000);
        if (n <= 0) {
            fprintf(stderr, "no message: %s\n", rtcp_strerror(n < 0 ? n : RTCP_ETIMEDOUT));
            return 1;
        }
        rtcp_ssize got = 0;
        while ((event.events & RTCP_EVENT_READABLE) && (got = rtcp_recv(event.conn, text + have, sizeof text - have)) > 0)
            have += (size_t)got;
        if ((event.events & RTCP_EVENT_READABLE) && got == 0) { /* the sender finished */
            printf("rtcp %s: %.*s\n", rtcp_version_string(), (int)have, text);
            rtcp_finish(event.conn);
            break;
        }
    }
    return rtcp_close(sender, 1000) != RTCP_OK || rtcp_close(receiver, 1000) != RTCP_OK;
}
