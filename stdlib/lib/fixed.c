/*
 * Lets programs that make images see nothing that differs from one build to the next:
 *
 * - It is SOURCE_DATE_EPOCH, all the time.
 * - Files were read and changed when they were modified: the store keeps no other time.
 * - All whiteouts (character devices 0:0) are alike, and none is a hard link: the store may keep them in any way.
 * - Inodes are numbered as they are met, from 1.
 * - Directories list their entries by name, not in the order of the file system below.
 * - Random bytes come from the file FIXED_RANDOM. Without it there are none, which is an error.
 *
 * To be preloaded into programs of one thread, or of several that touch only files of their own; for x86_64, where
 * stat and stat64 are the same.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) dlsym(RTLD_NEXT, #name)

/* Time. */

static time_t now(void)
{
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    return epoch ? strtoll(epoch, NULL, 10) : 0;
}

time_t time(time_t *out)
{
    if (out)
        *out = now();
    return now();
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    (void)zone;
    out->tv_sec = now();
    out->tv_usec = 0;
    return 0;
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)
        return syscall(SYS_clock_gettime, clock, out);
    out->tv_sec = now();
    out->tv_nsec = 0;
    return 0;
}

/* Inodes. */

struct inode {
    dev_t dev;
    ino_t ino, number;
};

static struct inode *inodes;
static size_t n_inodes, n_slots;

/* Where an inode is in the table, or has to be. */
static struct inode *slot_of(dev_t dev, ino_t ino)
{
    size_t at = (ino * 0x9e3779b97f4a7c15 ^ dev) % n_slots;
    while (inodes[at].number && (inodes[at].dev != dev || inodes[at].ino != ino))
        at = (at + 1) % n_slots;
    return &inodes[at];
}

static ino_t number_of(dev_t dev, ino_t ino)
{
    struct inode *slot, *old = inodes;
    if (n_inodes * 2 >= n_slots) {
        size_t n_old = n_slots, i;
        n_slots = n_old ? n_old * 2 : 4096;
        inodes = calloc(n_slots, sizeof *inodes);
        if (!inodes)
            abort();
        for (i = 0; i < n_old; i++)
            if (old[i].number)
                *slot_of(old[i].dev, old[i].ino) = old[i];
        free(old);
    }
    slot = slot_of(dev, ino);
    if (!slot->number)
        *slot = (struct inode){dev, ino, ++n_inodes};
    return slot->number;
}

static int stat_at(int dir, const char *path, struct stat *out, int flags)
{
    if (syscall(SYS_newfstatat, dir, path, out, flags) != 0)
        return -1;
    if (S_ISCHR(out->st_mode) && out->st_rdev == 0) {
        out->st_mode = S_IFCHR;
        out->st_uid = out->st_gid = 0;
        out->st_nlink = 1;
        out->st_mtim = (struct timespec){now(), 0};
        out->st_ino = ++n_inodes;
    } else {
        out->st_ino = number_of(out->st_dev, out->st_ino);
    }
    out->st_atim = out->st_ctim = out->st_mtim;
    return 0;
}

int stat(const char *restrict path, struct stat *restrict out)
{
    return stat_at(AT_FDCWD, path, out, 0);
}

int lstat(const char *restrict path, struct stat *restrict out)
{
    return stat_at(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

int fstat(int fd, struct stat *out)
{
    return stat_at(fd, "", out, AT_EMPTY_PATH);
}

int fstatat(int dir, const char *restrict path, struct stat *restrict out, int flags)
{
    return stat_at(dir, path, out, flags);
}

int stat64(const char *restrict path, struct stat64 *restrict out)
{
    return stat(path, (struct stat *)out);
}

int lstat64(const char *restrict path, struct stat64 *restrict out)
{
    return lstat(path, (struct stat *)out);
}

int fstat64(int fd, struct stat64 *out)
{
    return fstat(fd, (struct stat *)out);
}

int fstatat64(int dir, const char *restrict path, struct stat64 *restrict out, int flags)
{
    return fstatat(dir, path, (struct stat *)out, flags);
}

/* Directories. */

struct listing {
    DIR *dir;
    struct dirent **entries;
    int n_entries, at;
    struct listing *next;
};

static struct listing *listings;

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int scandir(const char *restrict path, struct dirent ***restrict entries,
            int (*select)(const struct dirent *), int (*order)(const struct dirent **, const struct dirent **))
{
    int (*real)() = REAL(scandir);
    (void)order;
    return real(path, entries, select, by_name);
}

int scandir64(const char *restrict path, struct dirent64 ***restrict entries,
              int (*select)(const struct dirent64 *),
              int (*order)(const struct dirent64 **, const struct dirent64 **))
{
    (void)order;
    return scandir(path, (struct dirent ***)entries, (void *)select, NULL);
}

DIR *opendir(const char *path)
{
    DIR *(*real)(const char *) = REAL(opendir);
    DIR *dir = real(path);
    struct listing *listing;
    if (!dir)
        return NULL;
    listing = calloc(1, sizeof *listing);
    if (!listing || (listing->n_entries = scandir(path, &listing->entries, NULL, NULL)) < 0)
        abort();
    listing->dir = dir;
    listing->next = listings;
    listings = listing;
    return dir;
}

struct dirent *readdir(DIR *dir)
{
    struct dirent *(*real)(DIR *) = REAL(readdir);
    struct listing *listing = listings;
    while (listing && listing->dir != dir)
        listing = listing->next;
    if (!listing)
        return real(dir);
    return listing->at < listing->n_entries ? listing->entries[listing->at++] : NULL;
}

struct dirent64 *readdir64(DIR *dir)
{
    return (struct dirent64 *)readdir(dir);
}

int closedir(DIR *dir)
{
    int (*real)(DIR *) = REAL(closedir);
    struct listing **link = &listings, *listing;
    while (*link && (*link)->dir != dir)
        link = &(*link)->next;
    if ((listing = *link)) {
        *link = listing->next;
        while (listing->n_entries > 0)
            free(listing->entries[--listing->n_entries]);
        free(listing->entries);
        free(listing);
    }
    return real(dir);
}

/* Random bytes. */

static int open_at(const char *path, int flags, mode_t mode)
{
    if (strcmp(path, "/dev/urandom") == 0 || strcmp(path, "/dev/random") == 0) {
        path = getenv("FIXED_RANDOM");
        if (!path) {
            errno = ENOENT;
            return -1;
        }
    }
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;
    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
    return open_at(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;
    va_start(args, flags);
    mode = va_arg(args, mode_t);
    va_end(args);
    return open_at(path, flags, mode);
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
    FILE *(*real)(const char *, const char *) = REAL(fopen);
    const char *instead = getenv("FIXED_RANDOM");
    int random = strcmp(path, "/dev/urandom") == 0 || strcmp(path, "/dev/random") == 0;
    if (random && !instead) {
        errno = ENOENT;
        return NULL;
    }
    return real(random ? instead : path, mode);
}

FILE *fopen64(const char *restrict path, const char *restrict mode)
{
    return fopen(path, mode);
}

ssize_t getrandom(void *out, size_t length, unsigned flags)
{
    static off_t at;
    int fd = open_at("/dev/urandom", O_RDONLY | O_CLOEXEC, 0);
    ssize_t n = fd < 0 ? -1 : pread(fd, out, length, at);
    (void)flags;
    if (fd >= 0)
        close(fd);
    if (n <= 0 && length > 0) {
        errno = ENOSYS;
        return -1;
    }
    at += n;
    return n;
}

/* libuuid makes its bytes more random with that. */
pid_t getpid(void)
{
    return 2;
}

int getentropy(void *out, size_t length)
{
    return getrandom(out, length, 0) == (ssize_t)length ? 0 : -1;
}
