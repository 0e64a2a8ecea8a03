/*
 * One packet of the service, read (docs/protocol.md section 8). A packet is "WORD NUL" or "WORD NUL TEXT NUL", and
 * every byte of it counts: whatever is one byte more, one less or another word is GARBAGE. Pure; pam/fuzz.c drives it.
 */
#ifndef UNLATCH_FIELDS_H
#define UNLATCH_FIELDS_H

#include <stddef.h>
#include <string.h>

enum word { GARBAGE, SAY, WARN, ASK, HIDE, WAIT, ALLOW, DENY, FAIL };

/* The word of a packet of this size, and where its text begins: inside the packet, ended by the packet's last byte. */
static inline enum word read_word(const char *packet, size_t size, const char **text)
{
    static const char *const names[] = {[SAY] = "say",   [WARN] = "warn",   [ASK] = "ask",   [HIDE] = "hide",
                                        [WAIT] = "wait", [ALLOW] = "allow", [DENY] = "deny", [FAIL] = "fail"};
    enum word word = FAIL;
    size_t first, second;

    *text = "";
    if (size == 0 || packet[size - 1] != '\0') /* from here on strlen() and strcmp() end inside the packet */
        return GARBAGE;
    while (word != GARBAGE && strcmp(packet, names[word]) != 0)
        word--;
    first = strlen(packet) + 1;
    if (word == SAY || word == WARN || word == ASK || word == HIDE) {
        if (first == size)
            return GARBAGE;
        second = strlen(packet + first) + 1;
        *text = packet + first;
        return first + second == size ? word : GARBAGE;
    }
    return first == size ? word : GARBAGE;
}

#endif
