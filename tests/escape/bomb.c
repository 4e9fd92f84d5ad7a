// A RUN step that takes memory in one of many ways, 4 MiB at a time, until it is stopped or has 2 GiB. Nothing that it
// takes ends with the process that took it: each piece is held by somebody who sleeps, or by nobody.

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <unistd.h>

#define PIECE (4 << 20)
#define PIECES 512

static char block[PIECE];

static void check(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void *map(int flags) {
    void *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    check(piece != MAP_FAILED, "mmap");
    return piece;
}

static void fill(int fd) {
    check(write(fd, block, PIECE) == PIECE, "write");
}

static void file_in(const char *dir, int i) {
    char name[64];
    snprintf(name, sizeof name, "%s/%d", dir, i);
    int fd = open(name, O_CREAT | O_WRONLY, 0600);
    check(fd >= 0, name);
    fill(fd);
    close(fd);
}

static void say(const char *file, const char *text) {
    int fd = open(file, O_WRONLY);
    check(fd >= 0 && write(fd, text, strlen(text)) > 0, file);
    close(fd);
}

static void take(const char *way, int i) {
    if (!strcmp(way, "anonymous")) {
        memset(map(MAP_PRIVATE), 1, PIECE);
    } else if (!strcmp(way, "shared")) {
        memset(map(MAP_SHARED), 1, PIECE);
    } else if (!strcmp(way, "processes")) {
        if (fork() == 0) {
            memset(map(MAP_PRIVATE), 1, PIECE);
            pause();
        }
    } else if (!strcmp(way, "memfd")) {
        int fd = memfd_create("bomb", 0);
        check(fd >= 0, "memfd");
        fill(fd);
    } else if (!strcmp(way, "sysv")) {
        int id = shmget(IPC_PRIVATE, PIECE, 0600);
        void *piece = shmat(id, NULL, 0);
        check(piece != (void *)-1, "shmat");
        memset(piece, 1, PIECE);
        shmdt(piece);
    } else if (!strcmp(way, "namespace")) {
        if (i == 0) {
            check(!unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
            say("/proc/self/setgroups", "deny");
            say("/proc/self/uid_map", "0 0 1");
            say("/proc/self/gid_map", "0 0 1");
            check(!mount("none", "/mnt", "tmpfs", 0, NULL), "mount");
        }
        file_in("/mnt", i);
    } else {
        file_in(way, i);
    }
}

int main(int argc, char **argv) {
    memset(block, 1, sizeof block);
    if (!strcmp(argv[1], "forks")) {
        // 32 processes that share 32 MiB do not take 1 GiB.
        for (int i = 0; i < 8; i++) memset(map(MAP_PRIVATE), 1, PIECE);
        for (int i = 0; i < 32; i++) {
            if (fork() == 0) {
                sleep(2);
                _exit(0);
            }
        }
        sleep(2);
        puts("shared");
        return 0;
    }
    if (!strcmp(argv[1], "users")) {
        // Each of them may have 8192 processes, but not all together.
        for (int user = 1000; user < 1002; user++) {
            if (fork() == 0) {
                check(!setgid(user) && !setuid(user), "setuid");
                while (fork() != 0) usleep(500);
                pause();
            }
        }
        pause();
    }
    printf("taking by %s\n", argv[1]);
    fflush(stdout);
    for (int i = 0; i < PIECES; i++) {
        take(argv[1], i);
        usleep(2000);
    }
    puts("nobody minds");
    return 0;
}
