/* Errors put under SQLite while it works: loaded before libc and libsqlite3 by LD_PRELOAD.
 *
 * A test shares `struct control` with the process through the file that RESPOOL_SHIM names. Calls are counted by kind
 * while `armed`; those from the `first`-th on, `count` of them, fail with `error`: an errno for a system call on a file
 * below `folder`, a result code of SQLite for sqlite3_step. With an errno of 0 they hang as long as `armed`, and then do
 * what they were asked for. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { STEP, WRITE, READ, SYNC, LOCK };

struct control {
    _Atomic uint32_t armed; /* a bit for each kind */
    int32_t error;
    int64_t first;
    int64_t count;
    _Atomic int64_t calls;  /* of the kinds that are armed */
    _Atomic int64_t failed;
    char folder[256];
};

static struct control *control;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("RESPOOL_SHIM");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED)
        control = shared;
}

/* Whether this call is to fail. */
static int fails(enum kind kind) {
    if (!control || !(atomic_load(&control->armed) >> kind & 1))
        return 0;
    int64_t call = atomic_fetch_add(&control->calls, 1) + 1;
    if (call < control->first || call - control->first >= control->count)
        return 0;
    atomic_fetch_add(&control->failed, 1);
    return 1;
}

static int is_ours(int file) {
    char link[64], path[512];
    if (!control || !atomic_load(&control->armed))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    return size > 0 && (size_t)size >= strlen(control->folder) && !memcmp(path, control->folder, strlen(control->folder));
}

static int refused(enum kind kind, int file) {
    int before = errno;
    if (is_ours(file) && fails(kind)) {
        if (control->error) {
            errno = control->error;
            return 1;
        }
        while (atomic_load(&control->armed))
            usleep(1000);
    }
    errno = before;
    return 0;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return refused(WRITE, file) ? -1 : real(file, data, size, at);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return refused(WRITE, file) ? -1 : real(file, data, size, at);
}

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    REAL(pread64);
    return refused(READ, file) ? -1 : real(file, data, size, at);
}

ssize_t pread(int file, void *data, size_t size, off_t at) {
    REAL(pread);
    return refused(READ, file) ? -1 : real(file, data, size, at);
}

int fsync(int file) {
    REAL(fsync);
    return refused(SYNC, file) ? -1 : real(file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return refused(SYNC, file) ? -1 : real(file);
}

#define LOCKING(name) \
    int name(int file, int command, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, command); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        int locks = command == F_SETLK && ((struct flock *)argument)->l_type != F_UNLCK; \
        return locks && refused(LOCK, file) ? -1 : real(file, command, argument); \
    }

LOCKING(fcntl64)
LOCKING(fcntl)

/* SQLite itself is loaded by Python's module, and is not where dlsym looks by itself. */
typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;

static void *of_sqlite(const char *name) {
    static void *library;
    if (!library)
        library = dlopen("libsqlite3.so.0", RTLD_LAZY | RTLD_NOLOAD);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found)
        abort();
    return found;
}

#define REAL_OF_SQLITE(result, name, argument) \
    static result (*real)(argument); \
    if (!real) \
        real = (result(*)(argument))of_sqlite(#name)

static sqlite3 *connection_of(sqlite3_stmt *statement) {
    REAL_OF_SQLITE(sqlite3 *, sqlite3_db_handle, sqlite3_stmt *);
    return real(statement);
}

static const char *text_of(sqlite3_stmt *statement) {
    REAL_OF_SQLITE(const char *, sqlite3_sql, sqlite3_stmt *);
    return real(statement);
}

static const char *words_for(int code) {
    REAL_OF_SQLITE(const char *, sqlite3_errstr, int);
    return real(code);
}

/* What a statement that failed in sqlite3_step says afterwards, until the connection takes another step. */
static __thread sqlite3 *at_fault;
static __thread int its_code;

int sqlite3_step(sqlite3_stmt *statement) {
    REAL_OF_SQLITE(int, sqlite3_step, sqlite3_stmt *);
    at_fault = NULL;
    /* What undoes a transaction is left alone: it fails only where SQLite has undone it by itself. */
    const char *text = text_of(statement);
    if (text && strncmp(text, "ROLLBACK", 8) && fails(STEP)) {
        at_fault = connection_of(statement);
        its_code = control->error;
        return its_code;
    }
    return real(statement);
}

int sqlite3_errcode(sqlite3 *db) {
    REAL_OF_SQLITE(int, sqlite3_errcode, sqlite3 *);
    return db == at_fault ? its_code & 0xff : real(db);
}

int sqlite3_extended_errcode(sqlite3 *db) {
    REAL_OF_SQLITE(int, sqlite3_extended_errcode, sqlite3 *);
    return db == at_fault ? its_code : real(db);
}

const char *sqlite3_errmsg(sqlite3 *db) {
    REAL_OF_SQLITE(const char *, sqlite3_errmsg, sqlite3 *);
    return db == at_fault ? words_for(its_code) : real(db);
}
