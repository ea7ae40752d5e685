/* LD_PRELOAD: write down every change that a program makes to the files below one folder, in one order.

   A journal, shared by all processes, says what was written, renamed, created, removed and flushed. From it
   `power_disk.py` makes what a disk may hold after the power went at any moment: what was flushed, and any
   part of what was not. Nothing is really flushed here, so a run is quick.

   `power_loss_open` switches it on in a process (and in those that it forks); before that, calls just pass. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, NOTE };

typedef struct {
    pthread_mutex_t lock;
    uint64_t end;    /* bytes of the journal that count */
    uint64_t count;  /* records */
    uint64_t die_at; /* kill the process that writes this record; 0: never */
} Shared;

typedef struct {
    uint32_t op, folder, path, other;
    uint64_t inode;
    int64_t offset;
    uint64_t data;
} Record;

static Shared *shared;
static int journal = -1;
static char root[PATH_MAX];
static size_t root_length;

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int lock(void) {
    if (shared == NULL) return 0;
    if (pthread_mutex_lock(&shared->lock) == EOWNERDEAD) pthread_mutex_consistent(&shared->lock);
    return 1;
}

static void unlock(void) { pthread_mutex_unlock(&shared->lock); }

static void put(const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t done = syscall(SYS_pwrite64, journal, at, size, (off_t)shared->end);
        if (done <= 0) abort();
        shared->end += (uint64_t)done, at += done, size -= (size_t)done;
    }
}

static void record(Record head, const char *path, const char *other, const void *data) {
    head.path = (uint32_t)strlen(path), head.other = (uint32_t)strlen(other);
    put(&head, sizeof head), put(path, head.path), put(other, head.other), put(data, head.data);
    if (++shared->count == shared->die_at) kill(getpid(), SIGKILL);
}

static int below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* The absolute path, empty where it is not below the root. */
static void resolve(int folder, const char *path, char *out) {
    char link[64], base[PATH_MAX] = "";
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        base[length < 0 ? 0 : length] = 0;
        if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) out[0] = 0;
    }
    if (!below(out)) out[0] = 0;
}

static int inode_of(int fd, struct stat *found) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path) && fstat(fd, found) == 0;
}

static int opened(int folder, const char *path, int flags, mode_t mode) {
    __typeof__(&openat) real = NEXT(openat);
    char name[PATH_MAX];
    struct stat found;
    if (!(flags & (O_CREAT | O_TRUNC)) || !lock()) return real(folder, path, flags, mode);
    resolve(folder, path, name);
    int there = name[0] && stat(name, &found) == 0;
    int fd = real(folder, path, flags, mode), kept = errno;
    if (fd >= 0 && name[0] && fstat(fd, &found) == 0) {
        Record head = {.op = there ? TRUNCATE : CREATE, .inode = found.st_ino};
        if (!there || (flags & O_TRUNC)) record(head, name, "", "");
    }
    unlock();
    errno = kept;
    return fd;
}

#define OPENED(folder)                                                     \
    mode_t mode = 0;                                                       \
    if (flags & (O_CREAT | O_TMPFILE)) {                                   \
        va_list more;                                                      \
        va_start(more, flags), mode = va_arg(more, mode_t), va_end(more);  \
    }                                                                      \
    return opened(folder, path, flags, mode)

int open(const char *path, int flags, ...) { OPENED(AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPENED(AT_FDCWD); }
int openat(int folder, const char *path, int flags, ...) {
    if (shared == NULL || !(flags & (O_CREAT | O_TRUNC))) {
        va_list more;
        va_start(more, flags);
        mode_t mode = va_arg(more, mode_t);
        va_end(more);
        return NEXT(openat64)(folder, path, flags, mode);
    }
    OPENED(folder);
}
int openat64(int folder, const char *path, int flags, ...) { OPENED(folder); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static void wrote(int fd, off_t offset, const void *data, ssize_t size) {
    struct stat found;
    if (size <= 0 || !inode_of(fd, &found) || !S_ISREG(found.st_mode)) return;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - size;
    char *copy = NULL;
    if (data == NULL) { /* copied by the kernel: read it back */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int again = (int)syscall(SYS_openat, AT_FDCWD, link, O_RDONLY);
        data = copy = malloc((size_t)size);
        if (again < 0 || copy == NULL || pread(again, copy, (size_t)size, offset) != size) abort();
        syscall(SYS_close, again);
    }
    Record head = {.op = WRITE, .inode = found.st_ino, .offset = offset, .data = (uint64_t)size};
    record(head, "", "", data);
    free(copy);
}

#define CHANGED(type, call, after)          \
    if (!lock()) return call;               \
    type done = call;                       \
    int kept = errno;                       \
    after;                                  \
    unlock();                               \
    errno = kept;                           \
    return done

ssize_t write(int fd, const void *data, size_t size) {
    CHANGED(ssize_t, syscall(SYS_write, fd, data, size), wrote(fd, -1, data, done));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    CHANGED(ssize_t, syscall(SYS_pwrite64, fd, data, size, at), wrote(fd, at, data, done));
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { return pwrite(fd, data, size, at); }

static ssize_t gathered(int fd, const struct iovec *parts, int count, off_t at) {
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t done = at < 0 ? write(fd, parts[i].iov_base, parts[i].iov_len)
                              : pwrite(fd, parts[i].iov_base, parts[i].iov_len, at + total);
        if (done < 0) return total ? total : done;
        total += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return total;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat found; /* one message must stay one on a socket */
    if (shared == NULL || !inode_of(fd, &found)) return syscall(SYS_writev, fd, parts, count);
    return gathered(fd, parts, count, -1);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    return gathered(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    return gathered(fd, parts, count, at);
}
ssize_t sendfile(int out, int in, off_t *at, size_t size) {
    CHANGED(ssize_t, syscall(SYS_sendfile, out, in, at, size), wrote(out, -1, NULL, done));
}
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) { return sendfile(out, in, at, size); }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    CHANGED(ssize_t, syscall(SYS_copy_file_range, in, from, out, to, size, flags),
            wrote(out, to == NULL ? -1 : *to - done, NULL, done));
}

static void resized(int fd) {
    struct stat found;
    if (!inode_of(fd, &found)) return;
    Record head = {.op = TRUNCATE, .inode = found.st_ino, .offset = found.st_size};
    record(head, "", "", "");
}

int ftruncate(int fd, off_t size) {
    CHANGED(int, (int)syscall(SYS_ftruncate, fd, size), if (done == 0) resized(fd));
}
int truncate(const char *path, off_t size) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int done = ftruncate(fd, size), kept = errno;
    syscall(SYS_close, fd);
    errno = kept;
    return done;
}
int truncate64(const char *path, off64_t size) { return truncate(path, size); }
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int fallocate(int fd, int how, off_t at, off_t size) {
    CHANGED(int, (int)syscall(SYS_fallocate, fd, how, at, size), if (done == 0) resized(fd));
}
int posix_fallocate(int fd, off_t at, off_t size) { return fallocate(fd, 0, at, size) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return posix_fallocate(fd, at, size); }

static int flushed(int fd) {
    struct stat found;
    if (!lock()) return 0;
    if (inode_of(fd, &found)) {
        Record head = {.op = SYNC, .inode = found.st_ino, .folder = S_ISDIR(found.st_mode)};
        record(head, "", "", "");
    }
    unlock();
    return 0;
}

int fsync(int fd) { return shared == NULL ? (int)syscall(SYS_fsync, fd) : flushed(fd); }
int fdatasync(int fd) { return shared == NULL ? (int)syscall(SYS_fdatasync, fd) : flushed(fd); }

static int moved(uint32_t op, int from, const char *path, int to, const char *other, unsigned flags) {
    char old[PATH_MAX] = "", new[PATH_MAX] = "";
    int locked = lock();
    int done = op == RENAME ? (int)syscall(SYS_renameat2, from, path, to, other, flags)
                            : (int)syscall(SYS_linkat, from, path, to, other, flags);
    int kept = errno;
    if (locked) {
        if (done == 0) {
            resolve(from, path, old), resolve(to, other, new);
            Record head = {.op = op};
            if (old[0] || new[0]) record(head, old, new, "");
        }
        unlock();
    }
    errno = kept;
    return done;
}

int rename(const char *path, const char *other) { return moved(RENAME, AT_FDCWD, path, AT_FDCWD, other, 0); }
int renameat(int from, const char *path, int to, const char *other) {
    return moved(RENAME, from, path, to, other, 0);
}
int renameat2(int from, const char *path, int to, const char *other, unsigned flags) {
    return moved(RENAME, from, path, to, other, flags);
}
int link(const char *path, const char *other) { return moved(LINK, AT_FDCWD, path, AT_FDCWD, other, 0); }
int linkat(int from, const char *path, int to, const char *other, int flags) {
    return moved(LINK, from, path, to, other, (unsigned)flags);
}

static void named(uint32_t op, int folder, const char *path) {
    char name[PATH_MAX];
    struct stat found = {0};
    resolve(folder, path, name);
    if (!name[0] || (op == CREATE && stat(name, &found) != 0)) return;
    Record head = {.op = op, .inode = found.st_ino, .folder = op == CREATE};
    record(head, name, "", "");
}

int unlinkat(int folder, const char *path, int flags) {
    CHANGED(int, (int)syscall(SYS_unlinkat, folder, path, flags), if (done == 0) named(UNLINK, folder, path));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int folder, const char *path, mode_t mode) {
    CHANGED(int, (int)syscall(SYS_mkdirat, folder, path, mode), if (done == 0) named(CREATE, folder, path));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* Make an empty journal. */
int power_loss_make(const char *path) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || syscall(SYS_ftruncate, fd, 4096) != 0) return -1;
    Shared *made = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (made == MAP_FAILED) return -1;
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&made->lock, &kind);
    made->end = 4096;
    munmap(made, 4096), syscall(SYS_close, fd);
    return 0;
}

/* Begin to write down what happens below `folder`; be killed at record `die_at`, counted from now. */
int power_loss_open(const char *path, const char *folder, uint64_t die_at) {
    journal = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    Shared *found = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, journal, 0);
    if (journal < 0 || found == MAP_FAILED || realpath(folder, root) == NULL) return -1;
    root_length = strlen(root);
    shared = found;
    lock();
    shared->die_at = die_at ? shared->count + die_at : 0;
    unlock();
    return 0;
}

/* Write a line into the journal: what was acknowledged by then. */
void power_loss_note(const char *text) {
    Record head = {.op = NOTE, .data = strlen(text)};
    if (!lock()) return;
    record(head, "", "", text);
    unlock();
}
