/*
 * pam_unlatch.so: carries the conversation between PAM and the service "unlatch pam serve", and decides nothing.
 *
 *   auth required pam_unlatch.so [socket=PATH] [timeout=SECONDS] [what the service understands ...]
 *
 * The rules, in the order in which they can be checked below:
 *   1. The service is believed only as uid 0, behind a socket in a directory to which root alone can write.
 *   2. This side speaks first: who wants to log in, as PAM tells it. Then the service says one packet after the other
 *      (fields.h): show a text, ask for an answer, wait, or the end.
 *   3. A login succeeds in one place: where the service said "allow". "deny", and a conversation that the person or the
 *      program ended, is PAM_AUTH_ERR; all else is PAM_AUTHINFO_UNAVAIL: no service, silence, garbage, too much.
 *   4. Every read has a size and an end. Packets keep their borders on a SOCK_SEQPACKET socket, so none is put together.
 *   5. Nothing is allocated here. libpam hands over what was typed; it is sent from where it lies, wiped and freed.
 * PAM_SILENT is not obeyed: sudo always sets it, and the texts are the question.
 */
#define _GNU_SOURCE /* struct ucred */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <security/pam_ext.h>
#include <security/pam_modules.h>

#include "fields.h"

#define SOCKET "/run/unlatch-pam/pam.sock"
#define VERSION "unlatch-pam-1"
#define SILENCE 30       /* seconds; the service says "wait" every ten while it lets somebody wait */
#define WHOLE 3700       /* seconds; the service gives a login an hour at most */
#define MOST_PACKETS 512 /* an hour of "wait" is 360 */
#define MAX_PACKET 32768 /* bytes; wire/pam.py has the same */
#define MAX_HELLO 16384
#define MAX_ANSWER 1024

/* What the person sees of every reason that is not theirs; the log has the rest. */
static int unavailable(pam_handle_t *pamh)
{
    pam_error(pamh, "unlatch: this login cannot be confirmed");
    return PAM_AUTHINFO_UNAVAIL;
}

/* Milliseconds that go on while the machine sleeps, and that nobody can set. */
static long long now(void)
{
    struct timespec time;

    if (clock_gettime(CLOCK_BOOTTIME, &time) != 0)
        abort(); /* cannot happen; a program that is gone lets nobody in */
    return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

/* Rule 1, before connecting: the directory of the socket is root's, and no link. */
static bool is_roots(const char *path)
{
    char directory[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    struct stat status;
    size_t length = slash ? (size_t)(slash - path) : 0;

    if (path[0] != '/' || length == 0 || strlen(path) >= sizeof directory)
        return false;
    memcpy(directory, path, length);
    directory[length] = '\0';
    return lstat(directory, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == 0 &&
           (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* A socket that is connected to root's service, or -1. */
static int reach(pam_handle_t *pamh, const char *path, int seconds)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = seconds}; /* for connect(), should the service be too busy to accept */
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;
    int made, fd;

    if (!is_roots(path)) {
        pam_syslog(pamh, LOG_ERR, "login denied: the directory of %s is not root's alone", path);
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path)); /* is_roots() has measured it */
    made = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    fd = made < 0 ? -1 : fcntl(made, F_DUPFD_CLOEXEC, 3); /* never in the place of a closed standard input */
    if (made >= 0)
        close(made);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        pam_syslog(pamh, LOG_ERR, "login denied: no service at %s: %m", path);
    else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0)
        pam_syslog(pamh, LOG_ERR, "login denied: %s is served by uid %u", path, (unsigned)peer.uid);
    else
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Put one more field into the hello; the size that it has then, or 0 for good once it is too large. */
static size_t put(char *hello, size_t size, const char *field)
{
    const size_t length = strlen(field ? field : "") + 1;

    if (size == 0 || length > MAX_HELLO - size)
        return 0;
    memcpy(hello + size, field ? field : "", length);
    return size + length;
}

/* Rule 2: say who wants to log in. False if that is too much, or if the service takes nothing. */
static bool greet(pam_handle_t *pamh, int fd, const char *user, int argc, const char **argv)
{
    static const int items[] = {PAM_SERVICE, PAM_USER, PAM_RHOST, PAM_RUSER, PAM_TTY};
    char hello[MAX_HELLO] = VERSION;
    size_t size = sizeof VERSION;

    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        const void *item = NULL;

        if (pam_get_item(pamh, items[i], &item) != PAM_SUCCESS)
            size = 0;
        size = put(hello, size, items[i] == PAM_USER ? user : item);
    }
    size = put(hello, size, pam_getenv(pamh, "SSH_CONNECTION"));
    size = put(hello, size, pam_getenv(pamh, "SSH_AUTH_INFO_0"));
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "socket=", 7) != 0 && strncmp(argv[i], "timeout=", 8) != 0)
            size = put(hello, size, argv[i]);
    if (size != 0 && send(fd, hello, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size)
        return true;
    pam_syslog(pamh, LOG_ERR, "login denied: the service took no greeting of %zu bytes", size);
    return false;
}

/* The next packet's size, or 0: the end, nothing in time, or more than the buffer holds. */
static size_t receive(int fd, char *packet, long long deadline)
{
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        const long long left = deadline - now();
        ssize_t size;

        if (left <= 0 || (poll(&ready, 1, (int)left) < 0 && errno != EINTR))
            return 0;
        size = recv(fd, packet, MAX_PACKET, MSG_DONTWAIT | MSG_TRUNC); /* MSG_TRUNC: the size before it was cut */
        if (size >= 0)
            return size <= MAX_PACKET ? (size_t)size : 0;
        /* ECONNRESET comes once, if the service left while an answer was on its way; its last words follow. */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNRESET)
            return 0;
    }
}

/* Show a text. */
static bool show(pam_handle_t *pamh, int style, const char *text)
{
    return pam_prompt(pamh, style, NULL, "%s", text) == PAM_SUCCESS;
}

/* Ask, and send what was typed. */
static bool ask(pam_handle_t *pamh, int fd, int style, const char *prompt)
{
    char *typed = NULL;
    bool answered = pam_prompt(pamh, style, &typed, "%s", prompt) == PAM_SUCCESS && typed != NULL;

    if (answered && strlen(typed) <= MAX_ANSWER) {
        struct iovec fields[] = {{"answer", sizeof "answer"}, {typed, strlen(typed) + 1}};
        struct msghdr packet = {.msg_iov = fields, .msg_iovlen = 2};

        /* Where it does not arrive the service has left, and its last words are still to be read. */
        (void)!sendmsg(fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        answered = false;
    }
    if (typed != NULL)
        explicit_bzero(typed, strlen(typed));
    free(typed);
    return answered;
}

/* sudo blocks Ctrl-C while PAM works. Who pressed it is heard whenever the service says "wait". */
static bool interrupted(void)
{
    sigset_t pending;

    return sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGQUIT) == 1);
}

/* Rule 3: do what the service says, up to its end. */
static int obey(pam_handle_t *pamh, int fd, int seconds)
{
    char packet[MAX_PACKET];
    const char *text;
    const long long end = now() + WHOLE * 1000LL;

    for (int count = 0; count < MOST_PACKETS; count++) {
        const long long silence = now() + seconds * 1000LL;
        const size_t size = receive(fd, packet, silence < end ? silence : end);
        bool went_on = true; /* the person did */

        switch (read_word(packet, size, &text)) {
        case SAY:
            went_on = show(pamh, PAM_TEXT_INFO, text);
            break;
        case WARN:
            went_on = show(pamh, PAM_ERROR_MSG, text);
            break;
        case ASK:
            went_on = ask(pamh, fd, PAM_PROMPT_ECHO_ON, text);
            break;
        case HIDE:
            went_on = ask(pamh, fd, PAM_PROMPT_ECHO_OFF, text);
            break;
        case WAIT:
            went_on = !interrupted();
            break;
        case ALLOW:
            return PAM_SUCCESS;
        case DENY:
            return PAM_AUTH_ERR;
        case FAIL:
            return PAM_AUTHINFO_UNAVAIL;
        case GARBAGE:
            pam_syslog(pamh, LOG_ERR, "login denied: the service %s",
                       size ? "made no sense" : "left, was silent, or said too much at once");
            return unavailable(pamh);
        }
        if (!went_on)
            return PAM_AUTH_ERR;
    }
    pam_syslog(pamh, LOG_ERR, "login denied: the service said too much");
    return unavailable(pamh);
}

/* A number of seconds as people write it; 0 if it is none, or more than there can be. */
static int whole(const char *digits)
{
    int number = 0;

    while (*digits >= '0' && *digits <= '9' && number <= 3600)
        number = number * 10 + (*digits++ - '0');
    return *digits == '\0' ? number : 0;
}

int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *path = SOCKET, *user = NULL;
    int seconds = SILENCE;
    int fd, verdict;

    (void)flags;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "socket=", 7) == 0)
            path = argv[i] + 7;
        else if (strncmp(argv[i], "timeout=", 8) == 0)
            seconds = whole(argv[i] + 8);
    }
    if (seconds < 1 || seconds > 3600) {
        pam_syslog(pamh, LOG_ERR, "login denied: timeout= takes whole seconds from 1 to 3600");
        return unavailable(pamh);
    }
    if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS || user == NULL)
        return PAM_AUTH_ERR;
    fd = reach(pamh, path, seconds);
    if (fd < 0)
        return unavailable(pamh);
    verdict = greet(pamh, fd, user, argc, argv) ? obey(pamh, fd, seconds) : unavailable(pamh);
    close(fd);
    return verdict;
}

/* There is nothing to set, and nothing to decide either: sshd authenticates in another process than this one. No program
 * lets somebody in by this alone. PAM_IGNORE here would make a stack of this module alone fail. */
int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
