/* Between a process and its files, by LD_PRELOAD: dies in the middle of its N-th write to a database file, counted from
   when the file TOLD is there, if RESPOOL_TEST_DIE=N:TOLD is set. In WAL mode nothing but a checkpoint writes there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef ssize_t (*pwrite_call)(int, const void *, size_t, off_t);

static atomic_long writes_left;
static const char *told;

__attribute__((constructor)) static void begin(void) {
    const char *die = getenv("RESPOOL_TEST_DIE");
    if (die != NULL) {
        atomic_store(&writes_left, atol(die));
        told = strchr(die, ':') + 1;
    }
}

static int is_database(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    return length > 3 && memcmp(path + length - 3, ".db", 3) == 0;
}

static ssize_t write_at(pwrite_call real, int fd, const void *data, size_t size, off_t offset) {
    if (told != NULL && is_database(fd) && access(told, F_OK) == 0 && atomic_fetch_sub(&writes_left, 1) == 1) {
        real(fd, data, size / 2, offset);
        kill(getpid(), SIGKILL);
    }
    return real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return write_at((pwrite_call)dlsym(RTLD_NEXT, "pwrite"), fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return write_at((pwrite_call)dlsym(RTLD_NEXT, "pwrite64"), fd, data, size, offset);
}
