//! Standard streams that are no terminal, environment, commands and statuses.

use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::process::Stdio;

use crate::common::{As, Project};
use crate::{BOTH, nothing_left, project};

#[test]
fn any_bytes_go_through_pipes() {
    for who in BOTH {
        let project = project(who);
        project.ok(&["build", "base"]);
        let mut child = project
            .command(&["run", "-q", "base", "cat; echo end >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // More than any pipe holds, with every byte in it.
        let sent: Vec<u8> = (0..8u32 << 20).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let (mut stdin, bytes) = (child.stdin.take().unwrap(), sent.clone());
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert!(output.stdout == sent, "{} bytes came back", output.stdout.len());
        assert_eq!((output.stderr.as_slice(), output.status.code()), (b"end\n".as_slice(), Some(0)));
        nothing_left(&project);
    }
}

#[test]
fn a_closed_output_ends_the_program() {
    for who in BOTH {
        let project = project(who);
        project.ok(&["build", "base"]);
        let mut child =
            project.command(&["run", "-q", "base", "exec yes"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 4];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut some).unwrap();
        drop(stdout);
        // The program is told by SIGPIPE, or sees an error where that is ignored.
        assert_eq!((&some, child.wait().unwrap().code()), (b"y\ny\n", Some(128 + libc::SIGPIPE)));
        nothing_left(&project);
    }
}

/// A pipe like one that a shell of the project's owner makes.
fn pipe(project: &Project) -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    let owner = fs::metadata(project.path("base.rapt")).unwrap().uid();
    fchown(&reader, Some(owner), None).unwrap();
    (reader, writer)
}

#[test]
fn streams_have_names_too() {
    for who in BOTH {
        let project = project(who);
        project.ok(&["build", "base"]);
        let script = "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr";
        let ((stdin, mut to), (mut from, stdout)) = (pipe(&project), pipe(&project));
        let (mut errors, stderr) = pipe(&project);
        let mut command = project.command(&["run", "-q", "base", script]);
        let mut child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap();
        // It has the other ends of the pipes, too.
        drop(command);
        to.write_all(b"in\n").unwrap();
        drop(to);
        let (mut out, mut err) = (String::new(), String::new());
        from.read_to_string(&mut out).unwrap();
        errors.read_to_string(&mut err).unwrap();
        assert_eq!((out.as_str(), err.as_str(), child.wait().unwrap().code()), ("in\n", "err\n", Some(0)));
        // Files go as they are.
        fs::write(project.path("in"), "from a file\n").unwrap();
        let (from, to) =
            (fs::File::open(project.path("in")).unwrap(), fs::File::create(project.path("to")).unwrap());
        let status = project.command(&["run", "-q", "base", "cat"]).stdin(from).stdout(to).status().unwrap();
        assert_eq!((status.code(), project.read("to").as_str()), (Some(0), "from a file\n"));
    }
}

#[test]
fn the_status_is_the_programs() {
    for who in BOTH {
        let project = project(who);
        for (script, status) in
            [("true", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
        {
            let ran = project.run(&["run", "-q", "base", script]);
            assert_eq!((ran.status, ran.stderr.as_str()), (Some(status), ""), "{script}");
        }
        project.write("none.rapt", "FROM base\nENTRYPOINT nosuch\n");
        project.fails(&["run", "-q", "none"], &["error: cannot run nosuch: not found in PATH"]);
        nothing_left(&project);
    }
}

#[test]
fn commands_and_environment() {
    for who in BOTH {
        let project = project(who);
        assert_eq!(project.ok(&["run", "-q", "entry"]), "entry one two three\n");
        assert_eq!(project.ok(&["run", "-q", "entry", "--", "-n", "x"]), "entry -n x\n");
        project.fails(&["run", "-q", "base"], &["neither CMD nor arguments"]);
        let args = ["run", "-q", "env", "-e", "A=b=c", "-e", "EMPTY", "-e", "HOME=/h"];
        let shown = project.ok(&args);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.first(), Some(&"/"), "WORKDIR is the build's");
        for line in ["A=b=c", "EMPTY=", "HOME=/h", "container=raptor"] {
            assert!(lines.contains(&line), "no {line} in {shown}");
        }
        assert!(!shown.contains("BUILD="), "ENV is the build's: {shown}");
        let ran = project.run(&["run", "-q", "env", "-e", "=x"]);
        assert_eq!((ran.status, ran.stderr.contains("a variable needs a name")), (Some(2), true));
    }
}

#[test]
fn what_would_be_run() {
    let project = project(As::Root);
    project
        .write("m.rapt", "FROM base\nMOUNT --simple --readonly input /in\nMOUNT --layers cache /l\nCMD x\n");
    project.write("in/x", "");
    let args = ["run", "-n", "--json", "m", "a b", "-I", "in", "-C", "base", "-C", "entry", "-e", "K=v"];
    let plan: serde_json::Value = serde_json::from_str(&project.ok(&args)).unwrap();
    let wanted = serde_json::json!({
        "target": "m", "argv": ["/bin/sh", "-c", "a b"], "env": { "K": "v" }, "network": "host", "state_dir": null,
        "mounts": [
            { "name": "input", "dest": "/in", "sources": [project.path("in")], "readonly": true },
            { "name": "cache", "dest": "/l", "sources": ["base", "entry"], "readonly": true },
        ],
    });
    assert_eq!(plan, wanted);
    let ran = project.run(&["run", "--json", "m", "-I", "in", "-C", "base"]);
    assert_eq!((ran.status, ran.stderr.contains("--json needs -n")), (Some(2), true), "{}", ran.stderr);
    assert!(!project.store().join("realized").exists(), "nothing was built");
}
