// racer DIR TARGET: leaves daemons behind that exchange the directory DIR and a link to the directory TARGET without
// end, and tells so in /races. They have sessions of their own and heed no signal that can be ignored.

#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void race(const char *dir) {
    for (int i = 1; i < NSIG; i++) signal(i, SIG_IGN);
    setsid();
    for (unsigned n = 0;; n++) {
        if (renameat2(AT_FDCWD, dir, AT_FDCWD, "/link", RENAME_EXCHANGE)) continue;
        if (n % 100 == 50) {
            FILE *races = fopen("/races", "a");
            if (races) fputc('x', races), fclose(races);
        }
        // Something that is born while its family dies.
        if (n % 1000 == 0 && fork() == 0) setsid();
    }
}

int main(int argc, char **argv) {
    if (argc != 3 || symlink(argv[2], "/link")) return 1;
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            // One of them as process 1 of a namespace of its own, if it may.
            if (i == 0 && unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0 && fork() != 0) pause();
            race(argv[1]);
        }
    }
    // The race has begun when it is counted.
    struct stat races;
    while (stat("/races", &races) || races.st_size == 0) usleep(1000);
    return 0;
}
