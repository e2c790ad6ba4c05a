/* A folder whose disk can be made read-only while processes run: preloaded by
 * tests/support/read_only_disk.py, which says what it does and what it cannot do. */
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
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_on(void) {
    const char *file = getenv("READ_ONLY_SWITCH");
    int before = errno, on = file && getenv("READ_ONLY_FOLDER") && access(file, F_OK) == 0;
    errno = before;
    return on;
}

static int is_below(const char *path) {
    const char *folder = getenv("READ_ONLY_FOLDER");
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int refuses_descriptor(int descriptor) {
    char link[64], path[PATH_MAX];
    int before = errno;
    if (!is_on()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

static int refuses_path(int folder, const char *path) {
    char here[PATH_MAX];
    if (!is_on()) return 0;
    if (path[0] == '/') return is_below(path);
    if (folder != AT_FDCWD) return refuses_descriptor(folder);
    return getcwd(here, sizeof here) && is_below(here);
}

#define REFUSE_IF(refused) if (refused) { errno = EROFS; return -1; }
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define ON_DESCRIPTOR(result, name, parameters, ...) \
    result name parameters { \
        REFUSE_IF(refuses_descriptor(descriptor)) \
        return REAL(name)(__VA_ARGS__); \
    }
ON_DESCRIPTOR(ssize_t, write, (int descriptor, const void *b, size_t n), descriptor, b, n)
ON_DESCRIPTOR(ssize_t, writev, (int descriptor, const struct iovec *v, int n), descriptor, v, n)
ON_DESCRIPTOR(ssize_t, pwrite, (int descriptor, const void *b, size_t n, off_t at), descriptor, b, n, at)
ON_DESCRIPTOR(ssize_t, pwrite64, (int descriptor, const void *b, size_t n, off64_t at), descriptor, b, n, at)
ON_DESCRIPTOR(int, ftruncate, (int descriptor, off_t n), descriptor, n)
ON_DESCRIPTOR(int, ftruncate64, (int descriptor, off64_t n), descriptor, n)
ON_DESCRIPTOR(int, fallocate, (int descriptor, int mode, off_t at, off_t n), descriptor, mode, at, n)
ON_DESCRIPTOR(int, fallocate64, (int descriptor, int mode, off64_t at, off64_t n), descriptor, mode, at, n)

#define ON_PATH(name, folder, path, parameters, ...) \
    int name parameters { \
        REFUSE_IF(refuses_path(folder, path)) \
        return REAL(name)(__VA_ARGS__); \
    }
ON_PATH(rename, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(renameat, at, to, (int of, const char *from, int at, const char *to), of, from, at, to)
ON_PATH(link, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(symlink, AT_FDCWD, to, (const char *from, const char *to), from, to)
ON_PATH(unlink, AT_FDCWD, path, (const char *path), path)
ON_PATH(unlinkat, at, path, (int at, const char *path, int flags), at, path, flags)
ON_PATH(rmdir, AT_FDCWD, path, (const char *path), path)
ON_PATH(mkdir, AT_FDCWD, path, (const char *path, mode_t mode), path, mode)
ON_PATH(mkdirat, at, path, (int at, const char *path, mode_t mode), at, path, mode)

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define OPENS(name, folder, parameters, ...) \
    int name parameters { \
        va_list more; \
        va_start(more, flags); \
        int made = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE; \
        mode_t mode = made ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        REFUSE_IF(writes(flags) && refuses_path(folder, path)) \
        return REAL(name)(__VA_ARGS__); \
    }
OPENS(open, AT_FDCWD, (const char *path, int flags, ...), path, flags, mode)
OPENS(open64, AT_FDCWD, (const char *path, int flags, ...), path, flags, mode)
OPENS(openat, at, (int at, const char *path, int flags, ...), at, path, flags, mode)
OPENS(openat64, at, (int at, const char *path, int flags, ...), at, path, flags, mode)
