/*
 * libFuzzer plays service and person of a whole login (make fuzz): obey() reads packets of a real socket, and whoever
 * converses answers, refuses or gives what no program should. Each record of the input is a packet: its length, what
 * happens to it, and its bytes. A login may succeed only where "allow" came after packets that all made sense.
 */
#include "pam_unlatch.c"

#include <stdint.h>

#define MUST(condition) ((condition) ? (void)0 : abort())

static int person; /* what the next prompt meets */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In the place of libpam's. */
int pam_prompt(pam_handle_t *pamh, int style, char **response, const char *format, ...)
{
    const int kind = person++ & 7;
    char *typed = NULL;

    (void)pamh, (void)format;
    if (style != PAM_PROMPT_ECHO_ON && style != PAM_PROMPT_ECHO_OFF)
        return kind == 7 ? PAM_CONV_ERR : PAM_SUCCESS;
    MUST(response != NULL && *response == NULL);
    if (kind != 6) {
        typed = calloc(2 * MAX_ANSWER, 1);
        MUST(typed != NULL);
        memset(typed, 'x', kind == 5 ? MAX_ANSWER + 1 : (size_t)kind * 200);
    }
    *response = typed;
    return kind == 7 ? PAM_CONV_ERR : PAM_SUCCESS;
}

void pam_syslog(const pam_handle_t *pamh, int priority, const char *format, ...)
{
    (void)pamh, (void)priority, (void)format;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char large[MAX_PACKET + 256];
    bool sensible = true, allowed = false, stays;
    const char *text;
    int ends[2], verdict;

    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    person = size ? data[0] & 7 : 0;
    stays = size && data[0] & 8; /* the service says no more, but does not leave */
    for (size_t at = 1, sent = 0; at + 2 <= size && sent < 32; sent++) {
        size_t length = data[at] < size - at - 2 ? data[at] : size - at - 2;
        const bool padded = data[at + 1] == 1; /* a text that ends where no packet may reach */

        memcpy(large, data + at + 2, length);
        at += 2 + length;
        if (padded) {
            memset(large + length, ' ', sizeof large - length - 1);
            length = sizeof large;
        }
        if (send(ends[1], large, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length)
            break;
        allowed |= sensible && length == 6 && memcmp(large, "allow", 6) == 0;
        sensible &= length <= MAX_PACKET && read_word(large, length, &text) != GARBAGE;
    }
    if (stays)
        shutdown(ends[1], SHUT_WR);
    else
        close(ends[1]);
    verdict = obey((pam_handle_t *)&person, ends[0], 1); /* a handle that is never looked into */
    MUST(verdict == PAM_SUCCESS || verdict == PAM_AUTH_ERR || verdict == PAM_AUTHINFO_UNAVAIL);
    MUST(verdict != PAM_SUCCESS || allowed);
    close(ends[0]);
    if (stays)
        close(ends[1]);
    return 0;
}
