/* What a power cut would leave, for tests: loaded into servers with LD_PRELOAD.
 *
 * GRAMME_POWER names a directory, the *shadow*. It always holds what is durable of every file and directory whose path
 * contains "/data": nothing else than what some fsync or fdatasync has covered. The program itself goes on with its own
 * files and notices nothing. After all processes were killed the test builds each data directory anew from the shadow,
 * and what was written and never synced is gone.
 *
 *   KEY           a file's durable bytes. KEY is its inode and the moment of its birth, since inodes are used again.
 *   KEY.dir       a directory's durable entries, a line each: d|f KEY NAME. Written when the directory is synced, so
 *                 files made, renamed or removed since the last sync of their directory are not.
 *
 * A write notes the range that it makes dirty; a sync copies the dirty range to the shadow. The first write to a file
 * that the shadow does not have, or has as a link to the file itself, makes a copy of it as it is then. Reads, sockets
 * and other files are not touched.
 *
 * It is sound for programs that write by write, writev, pwrite and ftruncate of the C library, as Rust's std does; what
 * is written otherwise (maps, raw system calls) is not seen until the next sync finds the file with another length.
 *
 * While the file GRAMME_POWER/lie exists, every sync succeeds and makes nothing durable.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct dirty {
    char key[80];
    off_t from, to;
    struct dirty *next;
};

static struct dirty *all;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static const char *shadow(void) { return getenv("GRAMME_POWER"); }

static int key_of(int dir, const char *path, int flags, char *key, size_t size) {
    struct statx about;
    if (statx(dir, path, flags | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &about) != 0) return 0;
    snprintf(key, size, "%llu-%lld-%u", (unsigned long long)about.stx_ino, (long long)about.stx_btime.tv_sec,
             about.stx_btime.tv_nsec);
    return 1;
}

/* 0: none of ours; S_IFREG or S_IFDIR: ours, with its key. */
static mode_t ours(int fd, char *key, size_t size) {
    char link[64], path[PATH_MAX];
    struct stat about;
    ssize_t length;
    if (shadow() == NULL || fstat(fd, &about) != 0) return 0;
    if (!S_ISREG(about.st_mode) && !S_ISDIR(about.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strstr(path, "/data") == NULL) return 0;
    return key_of(fd, "", AT_EMPTY_PATH, key, size) ? (about.st_mode & S_IFMT) : 0;
}

static void place(char *path, size_t size, const char *key, const char *end) {
    snprintf(path, size, "%s/%s%s", shadow(), key, end);
}

/* Nothing may go wrong unseen: a test that would judge by half a shadow must not go on. */
static void must(int holds, const char *what) {
    if (!holds) {
        perror(what);
        abort();
    }
}

static void copy(int from, int to, off_t at, off_t end) {
    char bytes[1 << 16];
    while (at < end) {
        size_t wanted = (size_t)(end - at) < sizeof bytes ? (size_t)(end - at) : sizeof bytes;
        ssize_t got = pread(from, bytes, wanted, at);
        must(got >= 0, "power: reading");
        if (got == 0) break;
        must(REAL(pwrite)(to, bytes, (size_t)got, at) == got, "power: writing");
        at += got;
    }
}

/* Another descriptor of the same file that can be read, whatever this one is for. */
static int readable(int fd) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return open(link, O_RDONLY | O_CLOEXEC);
}

/* Under the lock: the shadow has this file as it is, unless it has it already. */
static void keep(int fd, const char *key) {
    char path[PATH_MAX], fresh[PATH_MAX];
    struct stat live, kept;
    int from, to;
    place(path, sizeof path, key, "");
    must(fstat(fd, &live) == 0, "power: fstat");
    if (stat(path, &kept) == 0 && kept.st_ino != live.st_ino) return;
    place(fresh, sizeof fresh, key, ".new");
    from = readable(fd);
    must(from >= 0, "power: opening a file again");
    to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(to >= 0, "power: making a copy");
    copy(from, to, 0, live.st_size);
    must(REAL(ftruncate)(to, live.st_size) == 0, "power: ftruncate");
    close(from);
    close(to);
    must(rename(fresh, path) == 0, "power: rename");
}

static struct dirty *find(const char *key) {
    struct dirty *at;
    for (at = all; at != NULL && strcmp(at->key, key) != 0; at = at->next) {}
    return at;
}

/* Before a write: what is there now is what would be left. */
static void before(int fd) {
    int error = errno;
    char key[80];
    if (ours(fd, key, sizeof key) == S_IFREG) {
        pthread_mutex_lock(&lock);
        if (find(key) == NULL) {
            struct dirty *fresh = calloc(1, sizeof *fresh);
            must(fresh != NULL, "power: memory");
            keep(fd, key);
            strcpy(fresh->key, key);
            fresh->from = fresh->to = 0;
            fresh->next = all;
            all = fresh;
        }
        pthread_mutex_unlock(&lock);
    }
    errno = error;
}

/* After a write of [from, to). */
static void after(int fd, off_t from, off_t to) {
    int error = errno;
    char key[80];
    if (to > from && ours(fd, key, sizeof key) == S_IFREG) {
        struct dirty *file;
        pthread_mutex_lock(&lock);
        file = find(key);
        if (file != NULL) {
            int clean = file->from == file->to;
            if (clean || from < file->from) file->from = from;
            if (clean || to > file->to) file->to = to;
        }
        pthread_mutex_unlock(&lock);
    }
    errno = error;
}

static void file_is_durable(int fd, const char *key) {
    char path[PATH_MAX];
    struct stat live, kept;
    struct dirty *file;
    off_t from, to;
    int in, out;
    place(path, sizeof path, key, "");
    pthread_mutex_lock(&lock);
    must(fstat(fd, &live) == 0, "power: fstat");
    if (stat(path, &kept) != 0) {
        keep(fd, key);
    } else if (kept.st_ino != live.st_ino) {
        file = find(key);
        from = file == NULL ? 0 : file->from;
        to = file == NULL ? 0 : file->to;
        if (live.st_size > kept.st_size) {
            if (from == to || kept.st_size < from) from = kept.st_size;
            to = live.st_size;
        }
        if (from < to || live.st_size != kept.st_size) {
            in = readable(fd);
            out = open(path, O_WRONLY | O_CLOEXEC);
            must(in >= 0 && out >= 0, "power: opening a copy");
            copy(in, out, from, to);
            must(REAL(ftruncate)(out, live.st_size) == 0, "power: ftruncate");
            close(in);
            close(out);
        }
        if (file != NULL) file->from = file->to = 0;
    }
    pthread_mutex_unlock(&lock);
}

static void directory_is_durable(int fd, const char *key) {
    char path[PATH_MAX], fresh[PATH_MAX], of[80];
    struct dirent *entry;
    FILE *list;
    DIR *directory;
    int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(again >= 0, "power: opening a directory again");
    directory = fdopendir(again);
    must(directory != NULL, "power: fdopendir");
    pthread_mutex_lock(&lock);
    place(path, sizeof path, key, ".dir");
    place(fresh, sizeof fresh, key, ".dir.new");
    list = fopen(fresh, "w");
    must(list != NULL, "power: making a list");
    while ((entry = readdir(directory)) != NULL) {
        struct stat about;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        /* It may be removed meanwhile. */
        if (fstatat(again, entry->d_name, &about, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (!key_of(again, entry->d_name, 0, of, sizeof of)) continue;
        fprintf(list, "%c %s %s\n", S_ISDIR(about.st_mode) ? 'd' : 'f', of, entry->d_name);
    }
    must(fclose(list) == 0 && rename(fresh, path) == 0, "power: writing a list");
    pthread_mutex_unlock(&lock);
    closedir(directory);
}

static void durable(int fd) {
    int error = errno;
    char key[80], lie[PATH_MAX];
    mode_t kind = ours(fd, key, sizeof key);
    if (kind != 0) {
        place(lie, sizeof lie, "lie", "");
        if (access(lie, F_OK) == 0) kind = 0;
    }
    if (kind == S_IFREG) file_is_durable(fd, key);
    if (kind == S_IFDIR) directory_is_durable(fd, key);
    errno = error;
}

/* The disk itself need not be waited for: what counts is the shadow. It takes a while all the same, so that the power
 * fails in the middle of it. */
int fsync(int fd) { usleep(2000); durable(fd); return 0; }
int fdatasync(int fd) { usleep(2000); durable(fd); return 0; }

ssize_t write(int fd, const void *bytes, size_t count) {
    ssize_t wrote;
    before(fd);
    wrote = REAL(write)(fd, bytes, count);
    if (wrote > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        if (end >= wrote) after(fd, end - wrote, end);
    }
    return wrote;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t wrote;
    before(fd);
    wrote = REAL(writev)(fd, parts, count);
    if (wrote > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        if (end >= wrote) after(fd, end - wrote, end);
    }
    return wrote;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    ssize_t wrote;
    before(fd);
    wrote = REAL(pwrite)(fd, bytes, count, at);
    if (wrote > 0) after(fd, at, at + wrote);
    return wrote;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    ssize_t wrote;
    before(fd);
    wrote = REAL(pwrite64)(fd, bytes, count, at);
    if (wrote > 0) after(fd, at, at + wrote);
    return wrote;
}

static void cut(int fd, off_t length) {
    struct stat about;
    if (fstat(fd, &about) != 0) return;
    after(fd, about.st_size < length ? about.st_size : length, about.st_size < length ? length : about.st_size);
}

int ftruncate(int fd, off_t length) {
    before(fd);
    cut(fd, length);
    return REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    before(fd);
    cut(fd, length);
    return REAL(ftruncate64)(fd, length);
}
