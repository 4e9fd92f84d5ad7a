//! Signals to raptor, and the end of raptor itself.

use std::fs;

use crate::{BOTH, Running, marker, nothing_left, processes, project, wait_until};

/// Prints the name of each signal; ends with status 33 at the third INT.
const LISTENER: &str = "n=0; trap 'echo INT; n=$((n+1)); [ $n -lt 3 ] || exit 33' INT
for s in TERM HUP QUIT USR1 USR2 WINCH; do trap \"echo $s\" $s; done
echo ready; while :; do sleep 0.05; done";

#[test]
fn signals_reach_the_program() {
    for who in BOTH {
        let project = project(who);
        let mut running = Running::script(&project, &[], LISTENER);
        for (signal, name) in [
            (libc::SIGTERM, "TERM"),
            (libc::SIGHUP, "HUP"),
            (libc::SIGQUIT, "QUIT"),
            (libc::SIGUSR1, "USR1"),
            (libc::SIGUSR2, "USR2"),
            (libc::SIGWINCH, "WINCH"),
            (libc::SIGTERM, "TERM"),
            // Every one counts: raptor takes none for itself.
            (libc::SIGINT, "INT"),
            (libc::SIGINT, "INT"),
            (libc::SIGINT, "INT"),
        ] {
            running.signal(signal);
            assert_eq!(running.line(), name);
        }
        assert_eq!(running.status(), Some(33));
        nothing_left(&project);
    }
}

#[test]
fn programs_die_of_signals_to_raptor() {
    for who in BOTH {
        let project = project(who);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2]
        {
            let marker = marker(4300 + signal as u32);
            let running = Running::script(&project, &[], &format!("echo ready; exec sleep {marker}"));
            wait_until("sleep", || !processes(&marker).is_empty());
            running.signal(signal);
            assert_eq!(running.status(), Some(128 + signal));
            assert_eq!(processes(&marker), Vec::<String>::new());
            nothing_left(&project);
        }
    }
}

#[test]
fn raptor_stops_and_goes_on_with_its_program() {
    let state = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next()
    };
    for who in BOTH {
        let project = project(who);
        let marker = marker(4400);
        let running = Running::script(&project, &[], &format!("echo ready; exec sleep {marker}"));
        wait_until("sleep", || !processes(&marker).is_empty());
        let (raptor, sleep) = (running.child.id().to_string(), processes(&marker).remove(0));
        running.signal(libc::SIGTSTP);
        wait_until("the stop", || state(&raptor) == Some('T') && state(&sleep) == Some('T'));
        running.signal(libc::SIGCONT);
        wait_until("the end of the stop", || state(&raptor) != Some('T') && state(&sleep) != Some('T'));
        running.signal(libc::SIGTERM);
        assert_eq!(running.status(), Some(143));
    }
}

#[test]
fn nothing_outlives_raptor() {
    for who in BOTH {
        let project = project(who);
        let marker = marker(4500);
        let script =
            format!("(trap '' TERM HUP INT; setsid sleep {marker} &) ; echo ready; exec sleep {marker}");
        let mut running = Running::script(&project, &[], &script);
        wait_until("both", || processes(&marker).len() == 2);
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        wait_until("the end of all", || processes(&marker).is_empty());
        // The next command clears the work directory away.
        project.ok(&["run", "-q", "base", "true"]);
        nothing_left(&project);
        // Programs left behind by one that ends on its own go the same way.
        let script = format!("(setsid sleep {marker} &) ; exit 4");
        assert_eq!(project.run(&["run", "-q", "base", &script]).status, Some(4));
        assert_eq!(processes(&marker), Vec::<String>::new());
        nothing_left(&project);
    }
}
