/* Between a process and the kernel, by LD_PRELOAD.

   RESPOOL_TEST_DIE=N:TOLD: die in the middle of the N-th write to a database file, counted from when the file TOLD is
   there. In WAL mode nothing but a checkpoint writes to the database file.

   RESPOOL_TEST_RECORD=JOURNAL:FOLDER: append to JOURNAL what is done to the database's files in FOLDER, and what is sent
   on sockets, in the order in which it took effect. A record is an operation (see `record`), the number of the inode or
   socket, an offset, the size of the data, and the data. SIGUSR2 then kills the process where everything that took effect
   is recorded; a SIGKILL from outside may come between the two. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long writes_left;
static const char *told;
static int journal = -1;
static char folder[PATH_MAX];
static uint64_t named[1024];
static int named_count;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void *die_between_operations(void *signals) {
    int signal;
    sigwait(signals, &signal);
    pthread_mutex_lock(&one_at_a_time);
    kill(getpid(), SIGKILL);
    return NULL;
}

/* Before the process has other threads, so that they inherit what is blocked. */
static void await_death(void) {
    static sigset_t signals;
    pthread_t thread;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR2);
    if (pthread_sigmask(SIG_BLOCK, &signals, NULL) || pthread_create(&thread, NULL, die_between_operations, &signals))
        abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *die = getenv("RESPOOL_TEST_DIE"), *to = getenv("RESPOOL_TEST_RECORD");
    if (die != NULL) {
        writes_left = atol(die);
        told = strchr(die, ':') + 1;
    }
    if (to != NULL) {
        char path[PATH_MAX];
        const char *colon = strchr(to, ':');
        snprintf(path, sizeof path, "%.*s", (int)(colon - to), to);
        snprintf(folder, sizeof folder, "%s/", colon + 1);
        journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        await_death();
    }
}

static void put(const void *data, size_t size) {
    for (const char *at = data; size > 0;) {
        long done = syscall(SYS_write, journal, at, size);
        if (done < 0)
            abort();
        at += done;
        size -= done;
    }
}

/* W written at the offset, T cut to the offset, S synced, D folder synced, U unlinked (data is the path), C sent to a
   client; N goes before the first record of a file: its path. */
static void record(char operation, uint64_t number, uint64_t offset, const void *data, uint64_t size) {
    uint64_t head[4] = {operation, number, offset, size};
    put(head, sizeof head);
    put(data, size);
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
    return length > 0;
}

static int ends_with(const char *text, const char *end) {
    size_t all = strlen(text), part = strlen(end);
    return all >= part && strcmp(text + all - part, end) == 0;
}

static int is_kept(const char *path) {
    if (strncmp(path, folder, strlen(folder)) != 0)
        return 0;
    return ends_with(path, ".db") || ends_with(path, ".db-wal") || ends_with(path, ".db-journal");
}

/* The inode of a file that is recorded, 0 for any other; names it when it is new. */
static uint64_t file_of(int fd) {
    char path[PATH_MAX];
    struct stat known;
    if (journal < 0 || !path_of(fd, path) || !is_kept(path) || fstat(fd, &known) != 0)
        return 0;
    for (int i = 0; i < named_count; i++)
        if (named[i] == known.st_ino)
            return known.st_ino;
    named[named_count++ % 1024] = known.st_ino;
    record('N', known.st_ino, 0, path, strlen(path));
    return known.st_ino;
}

static uint64_t socket_of(int fd) {
    struct stat known;
    return journal >= 0 && fstat(fd, &known) == 0 && S_ISSOCK(known.st_mode) ? known.st_ino : 0;
}

static void die_here(int fd, const void *data, size_t size, off_t offset) {
    char path[PATH_MAX];
    if (told == NULL || !path_of(fd, path) || !ends_with(path, ".db") || access(told, F_OK) != 0)
        return;
    if (__atomic_fetch_sub(&writes_left, 1, __ATOMIC_SEQ_CST) == 1) {
        REAL(pwrite)(fd, data, size / 2, offset);
        kill(getpid(), SIGKILL);
    }
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    die_here(fd, data, size, offset);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t done = REAL(pwrite)(fd, data, size, offset);
    uint64_t file = done > 0 ? file_of(fd) : 0;
    if (file)
        record('W', file, offset, data, done);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

int ftruncate(int fd, off_t size) {
    pthread_mutex_lock(&one_at_a_time);
    int failed = REAL(ftruncate)(fd, size);
    uint64_t file = failed ? 0 : file_of(fd);
    if (file)
        record('T', file, size, NULL, 0);
    pthread_mutex_unlock(&one_at_a_time);
    return failed;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

/* What was sent while a sync was under way comes before it, because only its return makes anything durable. */
static int synced(int fd, int failed) {
    char path[PATH_MAX];
    struct stat known;
    if (journal < 0 || failed)
        return failed;
    pthread_mutex_lock(&one_at_a_time);
    uint64_t file = file_of(fd);
    if (file)
        record('S', file, 0, NULL, 0);
    else if (path_of(fd, path) && fstat(fd, &known) == 0 && S_ISDIR(known.st_mode))
        record('D', known.st_ino, 0, NULL, 0);
    pthread_mutex_unlock(&one_at_a_time);
    return failed;
}

int fsync(int fd) { return synced(fd, REAL(fsync)(fd)); }

int fdatasync(int fd) { return synced(fd, REAL(fdatasync)(fd)); }

int unlink(const char *path) {
    pthread_mutex_lock(&one_at_a_time);
    int failed = REAL(unlink)(path);
    if (!failed && journal >= 0 && is_kept(path)) {
        record('U', 0, 0, path, strlen(path));
        named_count = 0; /* the number may come back as another file */
    }
    pthread_mutex_unlock(&one_at_a_time);
    return failed;
}

ssize_t write(int fd, const void *data, size_t size) {
    uint64_t socket = socket_of(fd);
    if (!socket)
        return REAL(write)(fd, data, size);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t done = REAL(write)(fd, data, size);
    if (done > 0)
        record('C', socket, 0, data, done);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

static void record_sent(uint64_t socket, const struct iovec *pieces, int count, ssize_t done) {
    for (int i = 0; i < count && done > 0; i++) {
        size_t size = pieces[i].iov_len < (size_t)done ? pieces[i].iov_len : (size_t)done;
        record('C', socket, 0, pieces[i].iov_base, size);
        done -= size;
    }
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    uint64_t socket = socket_of(fd);
    if (!socket)
        return REAL(writev)(fd, pieces, count);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t done = REAL(writev)(fd, pieces, count);
    record_sent(socket, pieces, count, done);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    uint64_t socket = socket_of(fd);
    if (!socket)
        return REAL(sendmsg)(fd, message, flags);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t done = REAL(sendmsg)(fd, message, flags);
    record_sent(socket, message->msg_iov, message->msg_iovlen, done);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    uint64_t socket = socket_of(fd);
    if (!socket)
        return REAL(send)(fd, data, size, flags);
    pthread_mutex_lock(&one_at_a_time);
    ssize_t done = REAL(send)(fd, data, size, flags);
    if (done > 0)
        record('C', socket, 0, data, done);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}
