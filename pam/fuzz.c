/*
 * libFuzzer gives read_word() any bytes (make fuzz). Memory is watched by the sanitizers; here it is held to what it
 * means: a word and its text, written down again, are the packet, and nothing else than the packet.
 */
#include <stdint.h>
#include <stdlib.h>

#include "fields.h"

#define MUST(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"", "say", "warn", "ask", "hide", "wait", "allow", "deny", "fail"};
    const char *const packet = (const char *)data, *text = NULL;
    const enum word word = read_word(packet, size, &text);
    const size_t name = strlen(names[word]) + 1;

    MUST((word == ALLOW) == (size == 6 && memcmp(packet, "allow", 6) == 0));
    MUST((word == DENY) == (size == 5 && memcmp(packet, "deny", 5) == 0));
    MUST((word == FAIL) == (size == 5 && memcmp(packet, "fail", 5) == 0));
    MUST((word == WAIT) == (size == 5 && memcmp(packet, "wait", 5) == 0));
    if (word >= SAY && word <= HIDE) {
        MUST(memcmp(packet, names[word], name) == 0);
        MUST(text == packet + name && strlen(text) + 1 == size - name);
    }
    return 0;
}
