//! The network of a container.

use std::fs;
use std::io::{Read, Write, pipe};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use crate::common::{As, ran};
use crate::{BOTH, project};

#[test]
fn the_hosts_network_or_none() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // A client that has gone already is no trouble.
            let _ = client.unwrap().write_all(b"hello from the host\n");
        }
    });
    let ask = format!("nc 127.0.0.1 {port} < /dev/null || echo refused");
    let devices = "sed -n '3,$s/:.*//p' /proc/net/dev | tr -d ' '";
    for who in BOTH {
        let project = project(who);
        assert_eq!(project.ok(&["run", "-q", "base", &ask]), "hello from the host\n");
        assert_eq!(project.ok(&["run", "-q", "--network", "host", "base", &ask]), "hello from the host\n");
        let ran = project.run(&["run", "-q", "--network", "none", "base", &ask]);
        assert!(ran.stdout.ends_with("refused\n") && !ran.stdout.contains("hello"), "{}", ran.stdout);
        assert_eq!(project.ok(&["run", "-q", "--network", "none", "base", devices]), "lo\n");
        let inside = "httpd -p 127.0.0.1:7000 -h /etc && wget -q -O - http://127.0.0.1:7000/passwd";
        let shown = project.ok(&["run", "-q", "--network", "none", "base", inside]);
        assert_eq!(shown, "root:x:0:0::/root:/bin/sh\n", "loopback is up");
        // Names are looked up where the host does it, and nowhere without a network.
        let names = ["run", "-q", "base", "cat /etc/resolv.conf"];
        assert_eq!(project.ok(&names), fs::read_to_string("/etc/resolv.conf").unwrap());
        let ran = project.run(&[&names[..2], &["--network", "none"], &names[2..]].concat());
        assert_eq!(ran.status, Some(1), "{}", ran.stdout);
        let ran = project.run(&["run", "--network", "all", "base", "true"]);
        assert_eq!((ran.status, ran.stderr.contains("none, host")), (Some(2), true), "{}", ran.stderr);
    }
}

/// Runs a command as root of a user namespace with the host's ids, like a container of root.
fn in_user_namespace(mut command: Command) -> Output {
    let ((mut pid, mut tell_pid), (mut mapped, mut tell_mapped)) = (pipe().unwrap(), pipe().unwrap());
    let mapper = std::thread::spawn(move || {
        let mut number = [0; 4];
        pid.read_exact(&mut number).unwrap();
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{map}", u32::from_ne_bytes(number)), "0 0 65536").unwrap();
        }
        tell_mapped.write_all(b".").unwrap();
    });
    // SAFETY: only system calls are made between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWUSER) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            tell_pid.write_all(&std::process::id().to_ne_bytes())?;
            mapped.read_exact(&mut [0])
        });
    }
    let output = command.output().unwrap();
    mapper.join().unwrap();
    output
}

#[test]
fn where_network_namespaces_are_forbidden() {
    let project = project(As::Root);
    project.ok(&["build", "base"]);
    let run = |network: &str| {
        let raptor = project.command(&["run", "-q", "--network", network, "base", "echo inside"]);
        // The limit is for the new user namespace, and the host keeps its own.
        let script = "echo 0 > /proc/sys/user/max_net_namespaces; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-ec", script, "-"]).arg(raptor.get_program()).args(raptor.get_args());
        command.current_dir(project.path("")).env("RAPTOR_STORE", project.store());
        ran(in_user_namespace(command))
    };
    let refused = run("none");
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    for part in ["cannot make namespaces", "--network host needs none"] {
        assert!(refused.stderr.contains(part), "no {part} in {}", refused.stderr);
    }
    let ran = run("host");
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "inside\n"), "{}", ran.stderr);
}
