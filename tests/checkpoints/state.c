// Makes files of every kind, and tells all that programs can see of them.

#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static void must(int ok, const char *what) {
    if (!ok) err(1, "%s", what);
}

static void file(const char *path, const char *text, mode_t mode) {
    FILE *out = fopen(path, "w");
    must(out != NULL, path);
    fputs(text, out);
    must(fclose(out) == 0, path);
    must(chmod(path, mode) == 0, path);
}

static void dir(const char *path, mode_t mode) {
    must(mkdir(path, 0755) == 0, path);
    must(chmod(path, mode) == 0, path);
}

static void make(void) {
    dir("/w", 0750);
    file("/w/first", "linked", 0644);
    dir("/w/sub", 02775);
    must(link("/w/first", "/w/sub/second") == 0, "link");
    must(link("/w/first", "/w/third") == 0, "link");
    must(symlink("/nowhere", "/w/symlink") == 0, "symlink");
    must(link("/w/symlink", "/w/symlink2") == 0, "link to link");
    must(mkfifo("/w/fifo", 0622) == 0, "mkfifo");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/w/socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");

    file("/w/setuid", "s", 04755);
    file("/w/setgid", "s", 02711);
    must(chown("/w/setgid", 7, 8) == 0 && chmod("/w/setgid", 02711) == 0, "chown");
    must(lchown("/w/symlink2", 33, 34) == 0, "lchown");
    file("/w/nobody", "mine", 0000);
    must(chown("/w/nobody", 65534, 65534) == 0, "chown");

    file("/w/xattr", "x", 0644);
    must(setxattr("/w/xattr", "user.colour", "red\0blue", 8, 0) == 0, "user xattr");
    must(setxattr("/w", "user.dir", "", 0, 0) == 0, "xattr of a directory");
    file("/w/capable", "c", 0755);
    unsigned caps[5] = {0x02000001, 1 << 10, 0, 0, 0};
    must(setxattr("/w/capable", "security.capability", caps, sizeof caps, 0) == 0, "capability");
    // Version 2; user 33 has rwx by default, mask r-x.
    unsigned char acl[] = {2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 33, 0, 0, 0, 4, 0, 5, 0, 255, 255,
                           255, 255, 16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};
    dir("/w/acl", 0755);
    file("/w/acl/before", "b", 0600);
    must(setxattr("/w/acl", "system.posix_acl_default", acl, sizeof acl, 0) == 0, "default acl");
    file("/w/acl/after", "a", 0640);

    file("/w/old", "old", 0644);
    struct timespec times[2] = {{1, 2}, {1000000000, 123456789}};
    must(utimensat(AT_FDCWD, "/w/old", times, 0) == 0, "time");
    times[1].tv_sec = -5;
    must(utimensat(AT_FDCWD, "/w/symlink", times, AT_SYMLINK_NOFOLLOW) == 0, "time of a link");
    dir("/w/old-dir", 0700);
    file("/w/old-dir/x", "x", 0644);
    must(utimensat(AT_FDCWD, "/w/old-dir", times, 0) == 0, "time of a directory");

    fd = open("/w/sparse", O_RDWR | O_CREAT, 0644);
    must(pwrite(fd, "head", 4, 0) == 4 && pwrite(fd, "middle", 6, 5000001) == 6, "sparse");
    must(ftruncate(fd, 9000000) == 0, "sparse");
    fd = open("/w/large", O_RDWR | O_CREAT, 0644);
    for (int i = 0; i < 50000; i++) must(dprintf(fd, "%08d\n", i) == 9, "large");
    file("/w/inplace", "aaaa", 0644);

    // In memory, what was made last is listed first.
    const char *names[] = {"/tmp/m", "/tmp/z", "/tmp/a", "/dev/shm/b", "/dev/shm/c", "/dev/shm/a", "/run/x", "/run/b"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) file(names[i], names[i], 0600 + i);
    dir("/run/lock", 01777);
    file("/run/lock/pid", "1", 0644);
    must(unlink("/dev/stderr") == 0, "unlink");
    must(symlink("/w", "/dev/w") == 0, "symlink");
    must(link("/tmp/m", "/tmp/m2") == 0, "link");
    must(chmod("/tmp", 01755) == 0, "chmod");
    must(setxattr("/tmp/a", "user.in-memory", "1", 1, 0) == 0, "xattr in memory");
}

static void attributes(const char *path) {
    char names[4096], value[4096];
    ssize_t length = llistxattr(path, names, sizeof names);
    for (char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t size = lgetxattr(path, name, value, sizeof value);
        printf(" %s=", name);
        for (ssize_t i = 0; i < size; i++) printf("%02x", (unsigned char)value[i]);
    }
}

static void list(const char *path) {
    struct stat stat;
    must(lstat(path, &stat) == 0, path);
    printf("%s %o %d:%d", path, stat.st_mode, stat.st_uid, stat.st_gid);
    if (!S_ISDIR(stat.st_mode)) printf(" %d links %lld bytes", (int)stat.st_nlink, (long long)stat.st_size);
    // The time of anything else is that of its making.
    if (stat.st_mtime < 1500000000) printf(" %lld.%09ld", (long long)stat.st_mtime, stat.st_mtim.tv_nsec);
    attributes(path);
    printf("\n");
    if (!S_ISDIR(stat.st_mode) || strcmp(path, "/dev/pts") == 0) return;
    DIR *dir = opendir(path);
    must(dir != NULL, path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char below[4096];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        list(below);
    }
    closedir(dir);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "make")) make();
    if (argc > 1 && !strcmp(argv[1], "shm")) must(shmget(1, 4096, IPC_CREAT | 0600) >= 0, "shmget");
    if (argc > 1 && !strcmp(argv[1], "has-shm")) must(shmget(1, 4096, 0) >= 0, "shmget");
    if (argc > 1 && !strcmp(argv[1], "queue")) must(mq_open("/queue", O_RDWR | O_CREAT, 0600, NULL) >= 0, "mq_open");
    if (argc > 1 && !strcmp(argv[1], "has-queue")) must(mq_open("/queue", O_RDWR) >= 0, "mq_open");
    for (int i = 2; i < argc; i++) list(argv[i]);
    return 0;
}
