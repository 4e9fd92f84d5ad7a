// A RUN step that tries to get out of its sandbox by system calls, and prints what became of each attempt.
// "ok" means that the kernel did it. Which error it gives otherwise differs from kernel to kernel.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *what, long result) {
    printf("%s: %s\n", what, result == -1 ? "refused" : "ok");
    fflush(stdout);
}

#define TRY(what, call) do { errno = 0; tell(what, (long)(call)); } while (0)

static long connect_abstract(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path + 1, name);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return connect(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
}

static long read_of(const char *path) {
    char buffer[16];
    int fd = open(path, O_RDONLY);
    return fd < 0 ? -1 : read(fd, buffer, sizeof buffer) < 0 ? -1 : 0;
}

static long write_to(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    return fd < 0 ? -1 : write(fd, text, strlen(text));
}

// The classic way out of a chroot: keep a directory open, change the root below it, climb.
static long leave_chroot(void) {
    mkdir("/jail", 0755);
    int fd = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/jail") || fchdir(fd)) return -1;
    for (int i = 0; i < 64; i++) if (chdir("..")) return -1;
    if (chroot(".")) return -1;
    // The sandbox's own root is all that there is.
    struct stat secret;
    return stat(getenv("SECRET"), &secret);
}

static long in_new_userns(int (*what)(void)) {
    pid_t child = fork();
    if (child == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)) _exit(errno);
        _exit(what() ? errno : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    errno = WEXITSTATUS(status);
    return errno ? -1 : 0;
}

// A system call by its i386 number, as 32-bit programs make it. Pointers must be low; static data is.
static long call_32(long number, long first, void *second) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(first), "c"(second), "d"(0)
                     : "r8", "r9", "r10", "r11", "memory");
    return (int)result < 0 ? -1 : result;
}

static unsigned old_vsock[] = {AF_VSOCK, SOCK_STREAM, 0};
static unsigned old_unix[] = {AF_UNIX, SOCK_STREAM, 0, 0};
static int old_pair[2];

static int mount_proc(void) { return mount("proc", "/tmp", "proc", 0, NULL); }
static int remount_root(void) { return mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static int mount_disk(void) { return mount("/dev/vda", "/tmp", "ext4", 0, NULL); }
static int uncover_proc(void) { return umount2("/proc/sys", MNT_DETACH); }

int main(void) {
    struct timespec now = {.tv_sec = 1};
    struct timex clock = {.modes = ADJ_FREQUENCY};
    struct rlimit more = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    struct sched_param realtime = {.sched_priority = 1};
    struct iovec here = {.iov_base = &now, .iov_len = 1};
    char handle[64] = {8};

    puts("# files of the host");
    struct stat secret;
    TRY("stat a file of the host", stat(getenv("SECRET"), &secret));
    TRY("the same through process 1", read_of("/proc/1/root/etc/passwd"));
    TRY("working directory of process 1", open("/proc/1/cwd", O_RDONLY));
    TRY("memory of process 1", open("/proc/1/mem", O_RDWR));
    TRY("environment of process 1", read_of("/proc/1/environ"));
    TRY("descriptors of process 1", open("/proc/1/fd/0", O_RDONLY));
    TRY("open by handle", syscall(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY));
    if (fork() == 0) {
        TRY("leave a chroot and see the host", leave_chroot());
        _exit(0);
    }
    wait(NULL);
    puts("# mounts and devices");
    TRY("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    TRY("umount", umount2("/proc", MNT_DETACH));
    TRY("pivot_root", syscall(SYS_pivot_root, "/", "/"));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY("mknod of a disk", mknod("/disk", S_IFBLK | 0600, makedev(254, 0)));
    TRY("mknod of memory", mknod("/mem", S_IFCHR | 0600, makedev(1, 1)));
    TRY("swapon", syscall(SYS_swapon, "/bin/busybox", 0));
    TRY("quotactl", syscall(SYS_quotactl, 0x800007, "/dev/vda", 0, NULL));
    TRY("/dev/kmsg", open("/dev/kmsg", O_WRONLY));
    puts("# in namespaces of its own");
    TRY("mount /proc", in_new_userns(mount_proc));
    TRY("uncover /proc/sys", in_new_userns(uncover_proc));
    TRY("make /sys writable", in_new_userns(remount_root));
    TRY("mount a disk", in_new_userns(mount_disk));
    puts("# other processes");
    TRY("ptrace process 1", ptrace(PTRACE_SEIZE, 1, 0, 0));
    TRY("read memory of process 1", process_vm_readv(1, &here, 1, &here, 1, 0));
    kill(1, SIGKILL);
    usleep(1000);
    TRY("be here after killing process 1", 0);
    TRY("raise limits of process 1", prlimit(1, RLIMIT_MEMLOCK, &more, NULL));
    TRY("join the namespaces of process 1", setns(open("/proc/1/ns/mnt", O_RDONLY), 0));
    puts("# the kernel");
    TRY("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1));
    TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, KEY_SPEC_USER_KEYRING));
    TRY("bpf", syscall(SYS_bpf, 0, NULL, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
    TRY("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    TRY("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL));
    TRY("init_module", syscall(SYS_init_module, NULL, 0, ""));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    TRY("reboot", syscall(SYS_reboot, 0xfee1dead, 672274793, 0, NULL));
    TRY("syslog", syscall(SYS_syslog, 3, handle, 8));
    TRY("acct", syscall(SYS_acct, "/acct"));
    TRY("iopl", syscall(SYS_iopl, 3));
    TRY("sysctl", write_to("/proc/sys/kernel/core_pattern", "|/bin/x"));
    TRY("sysrq", write_to("/proc/sysrq-trigger", "b"));
    puts("# clock, name, limits");
    TRY("clock_settime", clock_settime(CLOCK_REALTIME, &now));
    TRY("adjtimex", adjtimex(&clock));
    TRY("sethostname", sethostname("x", 1));
    TRY("raise a limit", setrlimit(RLIMIT_MEMLOCK, &more));
    TRY("real time", sched_setscheduler(0, SCHED_FIFO, &realtime));
    TRY("priority", setpriority(PRIO_PROCESS, 0, -20));
    puts("# network");
    TRY("raw socket", socket(AF_INET, SOCK_RAW, 1));
    TRY("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("vsock by its i386 number", call_32(359, AF_VSOCK, (void *)SOCK_STREAM));
    TRY("vsock by socketcall of i386", call_32(102, 1, old_vsock));
    TRY("any socket by socketcall of i386", call_32(102, 1, old_unix));
    TRY("a local socket by its i386 number", call_32(359, AF_UNIX, (void *)SOCK_STREAM));
    old_unix[3] = (unsigned)(unsigned long)old_pair;
    TRY("a pair of local sockets by socketcall of i386", call_32(102, 8, old_unix));
    TRY("abstract socket of the host", connect_abstract(getenv("SOCKET")));
    TRY("interface up", ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFFLAGS, &(struct ifreq){.ifr_name = "lo"}));
    puts("# privileges");
    TRY("gain capabilities", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
    TRY("forget no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    return 0;
}
