/* A disk that can be full, for one process: loaded before the C library (LD_PRELOAD), it counts what is written below a
 * folder, and refuses it with ENOSPC when there is no room left. The process sets the room, in a file that is mapped here.
 *
 * A write that does not fit is done in part first, as the kernel does it. Room is given back by the process only: what is
 * removed or cut off frees none. Files can grow without being written, as sparse files do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* How the disk refuses. */
enum {
    REFUSES_WRITES = 0,
    REFUSES_FILES = 1, /* and new files */
    REFUSES_SYNC = 2   /* takes writes, and refuses to bring them to the disk */
};

/* `owes`: a log has what the disk took and can't bring to it. */
static struct {
    int64_t loaded, room, kind, refused, owes;
} *disk;
static const char *folder;

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("STREAM_TEST_DISK");
    folder = getenv("STREAM_TEST_DISK_FOLDER");
    int fd = path && folder ? open(path, O_RDWR) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) {
        disk = map;
        disk->loaded = 1;
    }
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
    real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int is_below(const char *path) {
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && (path[n] == '/' || path[n] == 0);
}

enum { ELSEWHERE = 0, LOG = 1, FROM_LOG = 2 };

/* What kind of file it is. fjall makes the tables of a keyspace in the background, from what its journal has: a checkpoint
 * that is acknowledged may be ahead of them. */
static int is_on_disk(int fd) {
    char link[64], path[4096];
    if (!disk)
        return ELSEWHERE;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return ELSEWHERE;
    path[n] = 0;
    if (!is_below(path))
        return ELSEWHERE;
    return strstr(path, "/keyspaces/") ? FROM_LOG : LOG;
}

/* How many of these bytes there is room for. */
static size_t take(size_t bytes, int kind) {
    if (disk->kind == REFUSES_SYNC) {
        if (__atomic_sub_fetch(&disk->room, (int64_t)bytes, __ATOMIC_SEQ_CST) < 0 && kind == LOG)
            disk->owes = 1;
        return bytes;
    }
    int64_t room = __atomic_load_n(&disk->room, __ATOMIC_SEQ_CST), taken;
    do {
        taken = room < 0 ? 0 : room < (int64_t)bytes ? room : (int64_t)bytes;
    } while (!__atomic_compare_exchange_n(&disk->room, &room, room - taken, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    return (size_t)taken;
}

static int full(void) {
    __atomic_fetch_add(&disk->refused, 1, __ATOMIC_SEQ_CST);
    errno = ENOSPC;
    return -1;
}

#define WRITE(name, parameters, arguments) \
    ssize_t name parameters { \
        REAL(name); \
        int kind = n > 0 ? is_on_disk(fd) : ELSEWHERE; \
        if (kind && !(n = take(n, kind))) \
            return full(); \
        return real arguments; \
    }
WRITE(write, (int fd, const void *bytes, size_t n), (fd, bytes, n))
WRITE(pwrite, (int fd, const void *bytes, size_t n, off_t at), (fd, bytes, n, at))
WRITE(pwrite64, (int fd, const void *bytes, size_t n, off64_t at), (fd, bytes, n, at))

/* A short write is the same to the caller. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (!is_on_disk(fd))
        return real(fd, parts, count);
    for (int n = 0; n < count; n++)
        if (parts[n].iov_len > 0)
            return write(fd, parts[n].iov_base, parts[n].iov_len);
    return 0;
}

#define SYNC(name, parameters, arguments) \
    int name parameters { \
        REAL(name); \
        if (disk && disk->kind == REFUSES_SYNC && disk->room < 0 && is_on_disk(fd)) \
            return full(); \
        return real arguments; \
    }
SYNC(fsync, (int fd), (fd))
SYNC(fdatasync, (int fd), (fd))
SYNC(sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), (fd, at, n, flags))

static int is_refused(const char *path, int flags) {
    struct stat found;
    return disk && disk->kind == REFUSES_FILES && disk->room <= 0 && is_below(path) && (flags & O_CREAT) &&
           stat(path, &found) != 0;
}

#define OPEN(name, parameters, path, arguments) \
    int name parameters { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & O_CREAT) { \
            va_list more; \
            va_start(more, flags); \
            mode = va_arg(more, mode_t); \
            va_end(more); \
        } \
        return is_refused(path, flags) ? full() : real arguments; \
    }
OPEN(open, (const char *path, int flags, ...), path, (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), path, (path, flags, mode))

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return is_refused(path, O_CREAT) ? full() : real(path, mode);
}
