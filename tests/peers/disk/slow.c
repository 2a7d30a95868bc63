/* A disk whose fsync(2) takes longer, by /etc/ld.so.preload: as many milliseconds as /etc/slow-disk says. They pass for
   each caller by itself, as on storage behind a network; what the disk beneath really needs comes on top. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

static int wait_after(int result)
{
    static double milliseconds = -1;
    int error = errno;
    if (milliseconds < 0) {
        FILE *file = fopen("/etc/slow-disk", "r");
        if (!file || fscanf(file, "%lf", &milliseconds) != 1)
            milliseconds = 0;
        if (file)
            fclose(file);
    }
    if (milliseconds > 0) {
        struct timespec rest = {(time_t)(milliseconds / 1000), (long)(milliseconds * 1e6) % 1000000000};
        while (nanosleep(&rest, &rest) == -1 && errno == EINTR)
            ;
    }
    errno = error;
    return result;
}

int fsync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return wait_after(next(fd));
}

int fdatasync(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    return wait_after(next(fd));
}
