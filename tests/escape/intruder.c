// A RUN step that tries to change what it may only read, and to get at process 1. It prints what became of each attempt;
// "ok" means that it worked.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long result) {
    printf("%s: %s\n", what, result == -1 ? "refused" : "ok");
    fflush(stdout);
}

// Writes to memory of this process by its file, which heeds no protection of pages.
static long poke(void *address, const char *text) {
    int fd = open("/proc/self/mem", O_RDWR);
    return pwrite(fd, text, strlen(text), (off_t)address) == (long)strlen(text) ? 0 : -1;
}

// What is read of the file afterwards, by another way than the mapping.
static long is_changed(const char *path) {
    char text[9] = "";
    int fd = open(path, O_RDONLY);
    return read(fd, text, 8) == 8 && strcmp(text, "precious") == 0 ? -1 : 0;
}

static long poke_file(int flags) {
    int fd = open("/precious", O_RDONLY);
    void *mapped = mmap(NULL, 8, PROT_READ, flags, fd, 0);
    if (mapped == MAP_FAILED) return -1;
    poke(mapped, "poked!!!");
    return is_changed("/precious");
}

static long in_child(long (*what)(void)) {
    pid_t child = fork();
    if (child == 0) _exit(what() == -1);
    int status = 0;
    waitpid(child, &status, 0);
    return status == 0 ? 0 : -1;
}

static const char *const OF_INIT[] = {"root", "root/", "cwd/", "exe", "mem", "maps", "environ", "fd", "map_files", "task/1/root/",
    "task/1/mem", "task/1/fd", "ns/mnt", "ns/user", "auxv", "stack", "syscall"};

static long open_init(void) {
    long opened = -1;
    for (size_t i = 0; i < sizeof OF_INIT / sizeof *OF_INIT; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/1/%s", OF_INIT[i]);
        int fd = open(path, O_RDONLY);
        char byte;
        // A directory that can be opened may still tell nothing.
        struct stat stat;
        if (fd < 0 || fstat(fd, &stat)) continue;
        if (S_ISDIR(stat.st_mode) ? openat(fd, ".", O_RDONLY) < 0 : read(fd, &byte, 1) < 0) continue;
        printf("  %s\n", path);
        fflush(stdout);
        opened = 0;
    }
    for (int n = 0; n < 256; n++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/1/fd/%d", n);
        if (open(path, O_RDONLY) >= 0 || open(path, O_PATH) >= 0) {
            printf("  %s\n", path);
            opened = 0;
        }
    }
    return opened;
}

static long open_init_as_root(void) {
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) ? -1 : open_init();
}

// Descriptors beyond the three that every program has.
static long extra_fds(void) {
    long found = -1;
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(dir));) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd > 2 && fd != dirfd(dir)) found = 0;
    }
    return found;
}

// What the three lead to: nothing of the host that could be opened anew with more rights.
static long reopen_streams(void) {
    long reopened = -1;
    for (int fd = 0; fd < 3; fd++) {
        struct stat stat;
        if (fstat(fd, &stat) || S_ISDIR(stat.st_mode) || S_ISBLK(stat.st_mode)) reopened = 0;
    }
    return reopened;
}

int main(int argc, char **argv) {
    // First, for what follows leaves its own open.
    long extra = extra_fds();
    if (argc > 1 && strcmp(argv[1], "again") == 0) {
        puts("# in the next step");
        tell("change the file by its name of the step before", is_changed("/precious"));
        tell("descriptors from before", extra);
        return 0;
    }
    puts("# files of lower layers");
    tell("change a private mapping, and the file with it", poke_file(MAP_PRIVATE));
    tell("change a shared mapping, and the file with it", poke_file(MAP_SHARED));
    int read_only = open("/precious", O_RDONLY);
    tell("write to a descriptor for reading", write(read_only, "x", 1));
    tell("truncate by a descriptor for reading", ftruncate(read_only, 0));
    tell("map it for writing", mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED ? -1 : 0);
    tell("make its page writable", mprotect(mmap(NULL, 8, PROT_READ, MAP_SHARED, read_only, 0), 8, PROT_READ | PROT_WRITE));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", 0x1000ul, 0x2000ul);
    tell("open a mapping as a file", open(path, O_RDWR));
    // The kernel copies the file up first; the number of links of the store's file is looked at from outside.
    tell("hard link to it", link("/precious", "/link-to-precious"));
    tell("write to the program that runs", open("/proc/self/exe", O_RDWR));
    puts("# process 1");
    tell("anything of it", in_child(open_init));
    tell("anything of it, as root of a new namespace", in_child(open_init_as_root));
    puts("# descriptors");
    tell("other descriptors than three", extra);
    tell("streams that are files of the host", reopen_streams());
    return 0;
}
