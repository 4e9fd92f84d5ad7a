//! Jobs of Raptor.toml that run like `raptor run`, and what becomes of the others when one fails.

use crate::common::As;
use crate::{BOTH, Running, nothing_left, project};

#[test]
fn outputs_of_good_jobs_are_placed_when_others_fail() {
    let toml = "[run.a]\ntarget = \"good\"\noutput = \"a\"\n[run.b]\ntarget = \"broken\"\noutput = \"b\"\n\
                [run.c]\ntarget = \"good\"\nargs = [\"echo c > /out\"]\noutput = \"c\"\n\
                [run.d]\ntarget = \"base\"\nargs = [\"echo effect\"]\n\
                [run.e]\ntarget = \"base\"\nargs = [\"echo last\"]\n\
                [run.f]\ntarget = \"unbuilt\"\nargs = [\"echo never\"]\n";
    let project = project(As::Root);
    project.write("good.rapt", "FROM base\nMOUNT --file output /out\nCMD \"echo a > /out\"\n");
    project.write("broken.rapt", "FROM base\nMOUNT --file output /out\nCMD \"exit 6\"\n");
    project.write("unbuilt.rapt", "FROM base\nRUN false\n");
    project.write("Raptor.toml", toml);
    let ran = project.fails(&["make", "-k"], &["b: step 1 failed", "unbuilt: step 1 failed"]);
    assert_eq!((project.read("a"), project.read("c")), ("a\n".into(), "c\n".into()));
    assert!(!project.path("b").exists());
    assert_eq!(ran.stdout, "effect\nlast\n");
    // Jobs with effects wait for everything to be well.
    let ran = project.fails(&["make"], &["failed"]);
    assert_eq!(ran.stdout, "");
    // One of them that fails does not keep the others from running.
    project.write("Raptor.toml", &toml.replace("echo effect", "exit 8"));
    let ran = project.fails(&["make", "-k", "d", "e"], &["job d ended with status 8"]);
    assert_eq!(ran.stdout, "last\n");
    let ran = project.fails(&["make", "d", "e"], &["job d ended with status 8"]);
    assert_eq!(ran.stdout, "");
    nothing_left(&project);
}

#[test]
fn impure_jobs_are_containers_too() {
    let toml = "[run.t]\ntarget = \"tool\"\ninput = \"data\"\ncache = \"kept\"\nstate-dir = \"state\"\n\
                env.X = \"y\"\nargs = [\"echo $X >> /data/log; echo 1 >> /n; cp /n /cache/n; cat /n\"]\n\
                [run.w]\ntarget = \"tool\"\ninput = \"no/where\"\n";
    for who in BOTH {
        let project = project(who);
        project.write(
            "tool.rapt",
            "FROM base\nMOUNT --simple input /data\nMOUNT --simple --optional cache /cache\nCMD true\n",
        );
        project.write("Raptor.toml", toml);
        project.write("data/log", "");
        assert_eq!(project.ok(&["make", "-q", "t"]), "1\n");
        assert_eq!(project.ok(&["make", "-q", "t"]), "1\n1\n");
        assert_eq!((project.read("data/log"), project.read("kept/n")), ("y\ny\n".into(), "1\n1\n".into()));
        project.fails(&["make", "w"], &["mount `input`", "does not exist, nor does its directory"]);
        project.write(
            "tool.rapt",
            "FROM base\nMOUNT --simple input /data\nMOUNT --simple cache /cache\nCMD x\nRUN true\n",
        );
        project.write("tool.rapt", &project.read("tool.rapt").replace("RUN true", "WRITE x /etc/x"));
        project.fails(&["make", "t"], &["was made on `t` as it was before", "--stale-state keep"]);
        nothing_left(&project);
    }
}

#[test]
fn jobs_follow_each_other() {
    let toml = "[run.a]\ntarget = \"make\"\noutput = \"new\"\n[run.b]\ntarget = \"use\"\ninput = \"new\"\n\
                args = [\"cat /in\"]\n";
    let project = project(As::Root);
    project.write("make.rapt", "FROM base\nMOUNT --file output /out\nCMD \"echo made > /out\"\n");
    project.write("use.rapt", "FROM base\nMOUNT --file --readonly input /in\nCMD x\n");
    project.write("Raptor.toml", toml);
    project.fails(&["make", "b"], &["mount `input`", "new does not exist"]);
    assert_eq!(project.ok(&["make", "-q"]), "made\n");
}

#[test]
fn an_interrupted_job_interrupts_make() {
    let toml = "[run.a]\ntarget = \"base\"\nargs = [\"echo ready; sleep 4800\"]\n\
                [run.b]\ntarget = \"base\"\nargs = [\"echo second\"]\n";
    for who in BOTH {
        let project = project(who);
        project.write("Raptor.toml", toml);
        let mut running = Running::start(&project, &["make", "-q", "-k"]);
        running.signal(libc::SIGINT);
        assert_eq!(running.lines.next().map(|it| it.unwrap()), None, "the second job does not run");
        assert_eq!(running.status(), Some(130));
        nothing_left(&project);
    }
}
