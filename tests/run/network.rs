//! The network of a container.

use std::fs;
use std::io::Write;
use std::net::TcpListener;

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
        let inside = "(echo x | nc -l -p 7000 &); until nc 127.0.0.1 7000 < /dev/null 2> /dev/null; do sleep 0.1; done";
        assert_eq!(project.ok(&["run", "-q", "--network", "none", "base", inside]), "x\n", "loopback is up");
        // Names are looked up where the host does it, and nowhere without a network.
        let names = ["run", "-q", "base", "cat /etc/resolv.conf"];
        assert_eq!(project.ok(&names), fs::read_to_string("/etc/resolv.conf").unwrap());
        let ran = project.run(&[&names[..2], &["--network", "none"], &names[2..]].concat());
        assert_eq!(ran.status, Some(1), "{}", ran.stdout);
        let ran = project.run(&["run", "--network", "all", "base", "true"]);
        assert_eq!((ran.status, ran.stderr.contains("none, host")), (Some(2), true), "{}", ran.stderr);
    }
}
