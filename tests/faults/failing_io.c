/* Preloaded before libc: makes the N-th call that changes a watched folder fail. Calls are counted from whet_fail_at on.
   Kinds: 1 fails once, 2 fails from there on, 3 writes half and says so (which POSIX allows), 4 writes half and then fails from there on,
   5 ends the process at once, as kill -9 does, after half of a write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char watched[PATH_MAX];
static long fail_at = 0, count = 0;
static int code = EIO, kind = 1;

void whet_fail_at(const char *folder, long number, int what, int error) {
    snprintf(watched, sizeof watched, "%s", folder);
    fail_at = number;
    kind = what;
    code = error;
    count = 0;
}

long whet_counted(void) { return count; }

static int inside(const char *path) { return watched[0] && strncmp(path, watched, strlen(watched)) == 0; }

static int inside_fd(int fd, const char *rest) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    (void)rest;
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static int inside_at(int fd, const char *path) {
    if (path[0] == '/') return inside(path);
    if (fd == AT_FDCWD) {
        char here[PATH_MAX];
        return getcwd(here, sizeof here) && inside(here);
    }
    return inside_fd(fd, path);
}

/* 0: go on; 1: fail; 2: half, and go on; 3: half, and fail */
static int verdict(int is_write) {
    count++;
    if (!fail_at || count < fail_at) return 0;
    if (count == fail_at) {
        if (kind == 1 || kind == 2) return 1;
        if (kind == 3) return is_write ? 2 : 0;
        if (is_write) return 3;
        if (kind == 5) _exit(137);
        return 1;
    }
    return kind == 2 || kind == 4 ? 1 : 0;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define FAIL do { errno = code; return -1; } while (0)

ssize_t write(int fd, const void *bytes, size_t size) {
    REAL(write);
    if (!watched[0] || !inside_fd(fd, "")) return real(fd, bytes, size);
    int said = verdict(1);
    if (!said) return real(fd, bytes, size);
    if (said == 1) FAIL;
    ssize_t half = size > 1 ? real(fd, bytes, size / 2) : said == 2 ? real(fd, bytes, size) : 0;
    if (said == 2) return half;
    if (kind == 5) _exit(137);
    FAIL;
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(writev);
    if (!watched[0] || !inside_fd(fd, "")) return real(fd, parts, number);
    int said = verdict(1);
    if (!said) return real(fd, parts, number);
    if (said == 1) FAIL;
    ssize_t half = real(fd, parts, 1);
    if (said == 2) return half;
    if (kind == 5) _exit(137);
    FAIL;
}

#define SIMPLE(name, result, arguments, call, where) \
    result name arguments { \
        REAL(name); \
        if (watched[0] && (where) && verdict(0)) FAIL; \
        return real call; \
    }

SIMPLE(fsync, int, (int fd), (fd), inside_fd(fd, ""))
SIMPLE(fdatasync, int, (int fd), (fd), inside_fd(fd, ""))
SIMPLE(rename, int, (const char *from, const char *to), (from, to), inside(from) || inside(to))
SIMPLE(renameat, int, (int a, const char *from, int b, const char *to), (a, from, b, to), inside_at(a, from) || inside_at(b, to))
SIMPLE(mkdir, int, (const char *path, mode_t mode), (path, mode), inside(path))
SIMPLE(rmdir, int, (const char *path), (path), inside(path))
SIMPLE(unlink, int, (const char *path), (path), inside(path))
SIMPLE(unlinkat, int, (int fd, const char *path, int flags), (fd, path, flags), inside_at(fd, path))
SIMPLE(truncate, int, (const char *path, off_t size), (path, size), inside(path))
SIMPLE(ftruncate, int, (int fd, off_t size), (fd, size), inside_fd(fd, ""))
SIMPLE(truncate64, int, (const char *path, off64_t size), (path, size), inside(path))
SIMPLE(ftruncate64, int, (int fd, off64_t size), (fd, size), inside_fd(fd, ""))

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (watched[0] && (flags & O_CREAT) && inside(path) && verdict(0)) FAIL; \
        return real(path, flags, mode); \
    }

OPENING(open)
OPENING(open64)
