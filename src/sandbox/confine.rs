//! What a program may not do: capabilities, limits, system calls (spec/sandbox.md).

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities,
};
use seccompiler::{BpfProgram, sock_filter};

use super::error::{Context, Trouble};

/// A compiled system call filter.
pub(super) type Filter = BpfProgram;

/// What root inside may do: enough for package managers.
const KEPT: [CapabilitySet; 12] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::DAC_READ_SEARCH,
    CapabilitySet::FOWNER,
    CapabilitySet::FSETID,
    CapabilitySet::KILL,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::SETPCAP,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::SYS_CHROOT,
    CapabilitySet::SETFCAP,
];

/// System calls that look at or change the host, or that are wide and useless here.
#[rustfmt::skip]
const FORBIDDEN: [libc::c_long; 19] = [
    libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_bpf, libc::SYS_userfaultfd,
    libc::SYS_perf_event_open, libc::SYS_kexec_load, libc::SYS_kexec_file_load, libc::SYS_init_module,
    libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_open_by_handle_at, libc::SYS_swapon,
    libc::SYS_swapoff, libc::SYS_reboot, libc::SYS_acct, libc::SYS_quotactl, libc::SYS_quotactl_fd,
    libc::SYS_syslog,
];
/// System calls that programs know how to live without.
const ABSENT: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// The same for 32-bit x86 programs, by their own numbers (arch/x86/entry/syscalls/syscall_32.tbl).
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const FORBIDDEN_32: [u32; 18] = [
    288, 286, 287, 357, 374, 336, 283, 128, 350, 129, 342, 87, 115, 88, 51, 131, 443, 103,
];
#[cfg(target_arch = "x86_64")]
const ABSENT_32: [u32; 3] = [425, 426, 427];

/// Gives up what programs must not have. For the process that is about to become one.
pub(super) fn confine(filter: &Filter) -> Result<(), Trouble> {
    limits().context(|| "cannot set limits")?;
    capabilities().context(|| "cannot drop capabilities")?;
    // This also sets `no_new_privs`.
    seccompiler::apply_filter(filter).context(|| "cannot filter system calls")
}

fn limits() -> rustix::io::Result<()> {
    const MIB: u64 = 1 << 20;
    for (resource, soft, hard) in [
        (Resource::Nofile, Some(1024), Some(524_288)),
        (Resource::Core, Some(0), Some(0)),
        (Resource::Stack, Some(8 * MIB), None),
        // Counted by user and user namespace: a fork bomb ends here, and leaves the host alone.
        (Resource::Nproc, Some(8192), Some(8192)),
    ] {
        // Nobody may raise the hard limit that the caller has.
        let ceiling = getrlimit(resource).maximum;
        let least = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
        let maximum = least(hard, ceiling);
        setrlimit(resource, Rlimit { current: least(soft, maximum), maximum })?;
    }
    Ok(())
}

fn capabilities() -> rustix::io::Result<()> {
    let kept = KEPT.iter().fold(CapabilitySet::empty(), |all, one| all | *one);
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // Bits that the kernel does not know end the list.
        match capability_is_in_bounding_set(one) {
            Ok(true) if !kept.contains(one) => remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
}

/// Compiles the filter.
///
/// A hand-made program, because one filter has to answer for several architectures and with two error codes.
pub(super) fn filter() -> Filter {
    let numbers = |list: &[libc::c_long]| list.iter().map(|n| *n as u32).collect::<Vec<_>>();
    let mut native = rules(&numbers(&FORBIDDEN), &numbers(&ABSENT));
    native.extend(deny_socket_family(libc::SYS_socket as u32, libc::AF_VSOCK as u32));
    native.push(answer(ALLOW));

    let mut program = vec![load(ARCHITECTURE)];
    #[cfg(target_arch = "x86_64")]
    {
        let mut old = vec![load(NUMBER)];
        old.extend(rules(&FORBIDDEN_32, &ABSENT_32));
        old.extend(deny_socket_family(359, libc::AF_VSOCK as u32));
        old.extend(deny_old_socket());
        old.push(answer(ALLOW));
        program.extend(unless_equal(AUDIT_I386, old));
    }
    program.extend([jump_equal(AUDIT_NATIVE, 1, 0), answer(errno(libc::ENOSYS)), load(NUMBER)]);
    // Calls of the x32 kind have this bit in their number.
    #[cfg(target_arch = "x86_64")]
    program.extend([jump_set(0x4000_0000, 0, 1), answer(errno(libc::ENOSYS))]);
    program.extend(native);
    program
}

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
#[cfg(target_arch = "x86_64")]
const AUDIT_NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "x86_64")]
const AUDIT_I386: u32 = 0x4000_0003;
#[cfg(target_arch = "aarch64")]
const AUDIT_NATIVE: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const AUDIT_NATIVE: u32 = 0xC000_00F3;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// For a loaded number: the error of the list that has it.
fn rules(forbidden: &[u32], absent: &[u32]) -> Vec<sock_filter> {
    let mut answers = BTreeMap::new();
    answers.extend(forbidden.iter().map(|n| (*n, errno(libc::EPERM))));
    answers.extend(absent.iter().map(|n| (*n, errno(libc::ENOSYS))));
    answers.iter().flat_map(|(number, error)| [jump_equal(*number, 0, 1), answer(*error)]).collect()
}

/// For a loaded number: `socket(family, …)` fails, and the argument is loaded if it is another socket.
fn deny_socket_family(number: u32, family: u32) -> [sock_filter; 4] {
    let unsupported = errno(libc::EAFNOSUPPORT);
    [jump_equal(number, 0, 3), load(FIRST_ARGUMENT), jump_equal(family, 0, 1), answer(unsupported)]
}

/// For a loaded number or first argument: `socketcall(SYS_SOCKET, …)` of i386 fails as if there were none. The family
/// stands behind a pointer, where no filter can look. What the call does to sockets that exist is harmless.
#[cfg(target_arch = "x86_64")]
fn deny_old_socket() -> [sock_filter; 5] {
    let absent = errno(libc::ENOSYS);
    [load(NUMBER), jump_equal(102, 0, 3), load(FIRST_ARGUMENT), jump_equal(1, 0, 1), answer(absent)]
}

#[cfg(target_arch = "x86_64")]
fn unless_equal(value: u32, body: Vec<sock_filter>) -> impl Iterator<Item = sock_filter> {
    // Conditional jumps reach 255 instructions, this one any number.
    let skip =
        sock_filter { code: (libc::BPF_JMP | libc::BPF_JA) as u16, jt: 0, jf: 0, k: body.len() as u32 };
    [jump_equal(value, 1, 0), skip].into_iter().chain(body)
}

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn jump_equal(value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: then,
        jf: otherwise,
        k: value,
    }
}

#[cfg(target_arch = "x86_64")]
fn jump_set(bits: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16,
        jt: then,
        jf: otherwise,
        k: bits,
    }
}

fn answer(action: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}
