/*
 * Put before a program by LD_PRELOAD: what it tells syslog(3) goes to the file that UNLATCH_TEST_SYSLOG names, and its
 * CLOCK_BOOTTIME runs UNLATCH_TEST_SPEED times as fast. The functions with "chk" are what _FORTIFY_SOURCE calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void note(const char *format, va_list values)
{
    const char *name = getenv("UNLATCH_TEST_SYSLOG");
    FILE *log = name ? fopen(name, "ae") : NULL;

    if (log != NULL) {
        vfprintf(log, format, values);
        fputc('\n', log);
        fclose(log);
    }
}

void syslog(int priority, const char *format, ...)
{
    va_list values;

    (void)priority;
    va_start(values, format);
    note(format, values);
    va_end(values);
}

void __syslog_chk(int priority, int flag, const char *format, ...)
{
    va_list values;

    (void)priority, (void)flag;
    va_start(values, format);
    note(format, values);
    va_end(values);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*real)(clockid_t, struct timespec *);
    const char *speed = getenv("UNLATCH_TEST_SPEED");
    int result;

    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    result = real(clock, time);
    if (clock == CLOCK_BOOTTIME && speed != NULL) {
        const long long nanoseconds = (time->tv_sec * 1000000000LL + time->tv_nsec) * atoll(speed);

        time->tv_sec = nanoseconds / 1000000000;
        time->tv_nsec = nanoseconds % 1000000000;
    }
    return result;
}
