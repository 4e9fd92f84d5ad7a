// clock SECONDS PROGRAM ARG...: runs a program for which, and for all that it starts, the wall clock is so many seconds
// ahead. The kernel has no namespace for this clock, so each process is traced: a filter stops it at the system calls
// that tell the time, and their results are changed. The vDSO would answer without a system call, so it is hidden.
// What the kernel itself notes, such as time stamps of files, stays as it is.

#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long ahead;

// No status of a process.
#define NOTHING (-1)

static void fail(const char *what) {
    perror(what);
    exit(125);
}

// Stops at the system calls of x86-64 that tell the time.
static void filter(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettimeofday, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_time, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) fail("seccomp");
}

static int copy(pid_t pid, int write, unsigned long address, void *here, size_t len) {
    struct iovec local = {here, len}, remote = {(void *)address, len};
    long n = write ? process_vm_writev(pid, &local, 1, &remote, 1, 0) : process_vm_readv(pid, &local, 1, &remote, 1, 0);
    return n == (long)len ? 0 : -1;
}

// The process stands before the system call; lets it happen and changes what it said. If something else happens to the
// process meanwhile, its time stays as it is, and the result is what happened.
static int tell(pid_t pid) {
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs)) return NOTHING;
    long number = regs.orig_rax;
    if (number == SYS_clock_gettime && regs.rdi != CLOCK_REALTIME && regs.rdi != CLOCK_REALTIME_COARSE &&
        regs.rdi != CLOCK_TAI) return NOTHING;
    int status;
    if (ptrace(PTRACE_SYSCALL, pid, 0, 0) || waitpid(pid, &status, __WALL) != pid) return NOTHING;
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80)) return status;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs) || (long)regs.rax < 0) return NOTHING;
    unsigned long address = number == SYS_clock_gettime ? regs.rsi : regs.rdi;
    long seconds;
    if (address && !copy(pid, 0, address, &seconds, sizeof seconds)) {
        seconds += ahead;
        if (copy(pid, 1, address, &seconds, sizeof seconds)) fail("write");
    }
    if (number == SYS_time) {
        regs.rax += ahead;
        ptrace(PTRACE_SETREGS, pid, 0, &regs);
    }
    return NOTHING;
}

// A new program has words on its stack: arguments, environment, and then pairs that say, among others, where the vDSO is.
static void hide_vdso(pid_t pid) {
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs)) return;
    unsigned long at = regs.rsp, word, pair[2];
    for (int ends = 0; ends < 2; at += 8) {
        if (copy(pid, 0, at, &word, 8)) return;
        // The number of arguments comes first and may be 0.
        ends += word == 0 && at != regs.rsp;
    }
    for (;; at += 16) {
        if (copy(pid, 0, at, pair, 16) || pair[0] == AT_NULL) return;
        if (pair[0] != AT_SYSINFO_EHDR) continue;
        pair[0] = AT_IGNORE;
        if (copy(pid, 1, at, pair, 16)) fail("vdso");
        return;
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 125;
    ahead = atol(argv[1]);
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) fail("traceme");
        raise(SIGSTOP);
        filter();
        execvp(argv[2], argv + 2);
        fail(argv[2]);
    }
    int status, result = 125;
    waitpid(child, &status, 0);
    long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                   PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, options)) fail("options");
    ptrace(PTRACE_CONT, child, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR;) {
        if (pid <= 0) continue;
        for (int next = status; next != NOTHING;) {
            status = next;
            next = NOTHING;
            if (!WIFSTOPPED(status)) {
                if (pid == child) result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
                break;
            }
            int signal = WSTOPSIG(status), event = status >> 16;
            int deliver = 0;
            if (event == PTRACE_EVENT_SECCOMP) {
                next = tell(pid);
                if (next != NOTHING) continue;
            } else if (event == PTRACE_EVENT_EXEC) {
                hide_vdso(pid);
            } else if (event == 0 && signal != (SIGTRAP | 0x80)) {
                // New processes stop once.
                deliver = signal == SIGSTOP ? 0 : signal;
            }
            ptrace(PTRACE_CONT, pid, 0, deliver);
        }
    }
    return result;
}
