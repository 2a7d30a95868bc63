/* Shifts the wall clock, and no other, of whatever preloads this, by the seconds in /clock/shift, read at every call. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t read_shift(void)
{
    char text[16] = "";
    int kept = errno, file = open("/clock/shift", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        if (read(file, text, sizeof text - 1) < 0)
            text[0] = 0;
        close(file);
    }
    errno = kept;
    return strtol(text, NULL, 10);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int status = syscall(SYS_clock_gettime, clock, at);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += read_shift();
    return status;
}

int gettimeofday(struct timeval *at, void *zone)
{
    int status = syscall(SYS_gettimeofday, at, zone);
    if (status == 0 && at != NULL)
        at->tv_sec += read_shift();
    return status;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL)
        *at = now.tv_sec;
    return now.tv_sec;
}
