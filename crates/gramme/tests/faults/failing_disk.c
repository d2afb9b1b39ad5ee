/* A disk that fails on request, for tests: loaded into a server with LD_PRELOAD.
 *
 * GRAMME_FAULTS names a file. While it exists, its one line says what fails and where: "sync PART" makes every fsync
 * and fdatasync of a file whose path contains PART fail with EIO, "write PART" every write to such a file, "full PART"
 * every write with ENOSPC, "read PART" every pread. Nothing else is touched: other files, sockets, other processes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* What fails here with which error, or 0. */
static int fails(const char *what, int fd) {
    const char *file = getenv("GRAMME_FAULTS");
    char line[256], path[4096], link[64], word[16], part[200];
    FILE *said;
    ssize_t length;
    int matches;
    if (file == NULL || access(file, R_OK) != 0) return 0;
    said = fopen(file, "r");
    if (said == NULL) return 0;
    matches = fgets(line, sizeof line, said) != NULL && sscanf(line, "%15s %199s", word, part) == 2;
    fclose(said);
    if (!matches) return 0;
    if (strcmp(word, what) != 0 && !(strcmp(word, "full") == 0 && strcmp(what, "write") == 0)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strstr(path, part) == NULL) return 0;
    return strcmp(word, "full") == 0 ? ENOSPC : EIO;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(what, fd) do { int error = fails(what, fd); if (error) { errno = error; return -1; } } while (0)

int fsync(int fd) { FAIL("sync", fd); return REAL(fsync)(fd); }
int fdatasync(int fd) { FAIL("sync", fd); return REAL(fdatasync)(fd); }
ssize_t write(int fd, const void *bytes, size_t count) { FAIL("write", fd); return REAL(write)(fd, bytes, count); }
ssize_t writev(int fd, const struct iovec *parts, int count) { FAIL("write", fd); return REAL(writev)(fd, parts, count); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { FAIL("write", fd); return REAL(pwrite)(fd, bytes, count, at); }
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { FAIL("write", fd); return REAL(pwrite64)(fd, bytes, count, at); }
ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) { FAIL("read", fd); return REAL(pread64)(fd, bytes, count, at); }
