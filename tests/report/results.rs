//! Logs, and what commands print with `--json`.

use super::*;
use crate::common::schema;

/// Runs a command that prints JSON, and checks it.
fn result(project: &Project, definition: &str, args: &[&str]) -> Value {
    let ran = project.run(args);
    let value: Value = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr));
    schema::check(&schema::read("results.json"), definition, &value);
    value
}

#[test]
fn results_are_as_their_schema_says() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let files =
            "MKDIR /d\nWRITE --chmod 4755 x /d/x\nWRITE y /d/y\nRUN ln -s x /d/link\nRUN ln /d/x /d/hard\n";
        project.write("files.rapt", &format!("FROM base\n{files}RUN mkfifo /d/fifo\nRUN rm /etc/passwd\n"));
        project.write("Raptor.toml", "[run.job]\ntarget = \"job\"\noutput = \"out\"\n");
        project.write("job.rapt", "FROM base\nMOUNT --file output /out\nCMD \"echo x > /out\"\n");
        let built = result(&project, "build", &["build", "--json", "top", "right"]);
        assert_eq!(built["results"].as_array().unwrap().len(), 2);
        result(&project, "build", &["realize", "--json", "files"]);
        let made = result(&project, "make", &["make", "--json"]);
        assert!(made["jobs"]["job"]["hash"].is_string(), "{made}");
        let list = result(&project, "store-ls", &["store", "ls", "--json"]);
        assert!(list["trees"].as_array().unwrap().len() >= 6);
        let info = result(&project, "store-info", &["store", "info", "--json", "left"]);
        assert_eq!(info["trees"][0]["used_by"][0]["name"], "top");
        result(&project, "store-path", &["store", "path", "--json", "left", "top"]);
        let tree = result(&project, "store-tree", &["store", "tree", "--json", "files"]);
        let mut types: Vec<&str> =
            tree["entries"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
        types.sort_unstable();
        types.dedup();
        assert_eq!(types, ["dir", "fifo", "file", "hardlink", "symlink", "whiteout"]);
        let diff = result(&project, "store-diff", &["store", "diff", "--json", "left", "files"]);
        assert!(!diff["changes"].as_array().unwrap().is_empty());
        result(&project, "store-du", &["store", "du", "--json"]);
        result(&project, "store-optimise", &["store", "optimise", "--json"]);
        project.ok(&["store", "export", "--output", "archive", "top"]);
        result(&project, "store-import", &["store", "import", "--json", "archive"]);
        result(&project, "store-gc", &["store", "gc", "--json", "--dry-run"]);
        // Something bad, found and mended.
        let path = project.ok(&["store", "path", "left"]);
        let file = std::path::Path::new(path.trim()).join("left");
        std::fs::write(file, "worse").unwrap();
        let bad = result(&project, "store-verify", &["store", "verify", "--json"]);
        assert_eq!(bad["bad"].as_array().unwrap().len(), 1, "{bad}");
        let mended = result(&project, "store-repair", &["store", "repair", "--json"]);
        assert_eq!(
            (&mended["mended"][0]["how"], &mended["lost"]),
            (&"built again".into(), &Value::Array(vec![]))
        );
        project.write("right.rapt", "FROM base\n");
        project.ok(&["build", "-q", "right"]);
        std::fs::remove_file(project.path("out")).unwrap();
        let gone = result(&project, "store-gc", &["store", "gc", "--json"]);
        assert!(!gone["result"]["removed"].as_array().unwrap().is_empty(), "{gone}");
    }
}

#[test]
fn a_schema_lets_nothing_broken_pass() {
    let project = project(As::Root);
    project.ok(&["build", "-q", "top"]);
    let schema = schema::read("results.json");
    let good = result(&project, "store-ls", &["store", "ls", "--json"]);
    for (pointer, broken) in
        [("/trees/0/hash", "x"), ("/trees/0/bytes", "1"), ("/trees/0/kind", "thing"), ("/trees", "x")]
    {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = broken.into();
        assert!(schema::validate(&schema, &schema["$defs"]["store-ls"], &bad).is_err(), "{pointer}");
    }
    let mut more = good.clone();
    more["trees"][0]["more"] = 1.into();
    assert!(schema::validate(&schema, &schema["$defs"]["store-ls"], &more).is_err());
}

#[test]
fn logs_are_found_by_all_their_names() {
    for who in [As::Root, As::User] {
        let project = project(who);
        project.fails(&["log", "top"], &["there is no log of top"]);
        project.ok(&["build", "-q", "top", "right"]);
        let log = project.ok(&["log", "top"]);
        assert_eq!(log, "==> 1: RUN sh -c sleep 0.2; echo said by top\nsaid by top\n");
        let list = result(&project, "logs", &["log", "--json"]);
        let list = list["logs"].as_array().unwrap();
        let mut names: Vec<&str> = list.iter().map(|it| it["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["base", "left", "right", "top"]);
        assert!(list.iter().all(|it| it["built"] == true));
        let id = list.iter().find(|it| it["name"] == "top").unwrap()["derivation"].as_str().unwrap();
        let path = project.ok(&["store", "path", "top"]);
        let hash = path.trim().rsplit('/').next().unwrap();
        let inside = format!("{}/etc", path.trim());
        for name in [id, &id[..8], path.trim(), &inside, hash] {
            assert_eq!(project.ok(&["log", name]), log, "{name}");
        }
        let one = result(&project, "log", &["log", "--json", "top"]);
        assert_eq!((one["text"].as_str().unwrap(), one["name"].as_str().unwrap()), (log.as_str(), id));
        let shown = project.ok(&["log"]);
        assert!(shown.lines().any(|it| it.starts_with(&id[..16]) && it.ends_with("top")), "{shown}");
        // Too short, unknown, and a source, which has no log.
        project.fails(&["log", &id[..7]], &[&id[..7]]);
        project.fails(&["log", &"0".repeat(64)], &["there is no log", "to list the logs: raptor log"]);
        // Also from a store that lies below.
        let dir = project.store().to_str().unwrap().to_owned();
        assert_eq!(project.ok(&["--store", "other", "--store-lower", &dir, "log", id]), log);
        // A failure is listed as one.
        project.write("right.rapt", "FROM base\nRUN sh -c \"echo broken; false\"\n");
        project.fails(&["build", "right"], &["step 1 failed"]);
        assert!(project.ok(&["log", "right"]).contains("broken\n"));
        let list = result(&project, "logs", &["log", "--json"]);
        let last = list["logs"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["name"], &last["built"]), (&"right".into(), &false.into()));
    }
}

#[test]
fn the_log_of_a_running_build_is_followed() {
    for who in [As::Root, As::User] {
        let project = project(who);
        project.write("go.rapt", "FROM base\nRUN sh -c \"echo begun; sleep 1000\"\n");
        project.fails(&["log", "-f", "go"], &["there is no log of go"]);
        let mut build = project.start(&["build", "go"]);
        // The log of `base` is there before; that of `go` comes once `base` is built.
        while !(project.run(&["store", "path", "base"]).status == Some(0) && at_work(&project)) {
            assert!(build.try_wait().unwrap().is_none(), "the build ended");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let mut command = project.command(&["log", "--follow", "go"]);
        let mut follower = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follower.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "==> 1: RUN sh -c echo begun; sleep 1000");
        assert_eq!(lines.next().unwrap().unwrap(), "begun");
        // It ends with the build.
        let pid = rustix::process::Pid::from_child(&build);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        assert_eq!(build.wait().unwrap().code(), Some(130));
        assert!(lines.next().is_none());
        assert_eq!(follower.wait().unwrap().code(), Some(0));
    }
}

/// Whether a log is being written.
fn at_work(project: &Project) -> bool {
    let Ok(dirs) = std::fs::read_dir(project.store().join("tmp")) else { return false };
    let files = dirs.flatten().filter_map(|it| std::fs::read_dir(it.path()).ok()).flatten().flatten();
    let names: Vec<_> = files.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.iter().any(|it| it.starts_with("log-"))
}

#[test]
fn wrong_usage_is_told_in_the_wanted_format() {
    let project = Project::new(&[]);
    for (args, error) in [
        (vec!["--message-format", "json", "build"], "required arguments"),
        (vec!["build", "t", "--nope", "--message-format=json"], "unexpected argument '--nope'"),
        (vec!["--message-format", "json", "biuld"], "unrecognized subcommand 'biuld'"),
        (vec!["--message-format", "json", "store"], "a command is missing"),
        (vec!["--message-format", "json", "-j", "0", "build", "t"], "invalid value '0'"),
        (
            vec!["--message-format", "json", "build", "t", "--timings", "/nowhere/t"],
            "/nowhere does not exist",
        ),
    ] {
        let ran = project.run(&args);
        let lines = lines(&ran);
        assert_eq!(ran.status, Some(2), "{args:?}");
        assert_eq!(lines[0]["level"], "error");
        assert!(lines[0]["message"].as_str().unwrap().contains(error), "{}", ran.stderr);
        assert!(lines[1..].iter().all(|it| it["level"] == "help"), "{}", ran.stderr);
    }
    // Text for people, also where JSON is an argument of something else; help is no error.
    let ran = project.run(&["run", "--nope", "--", "--message-format", "json"]);
    assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    let ran = project.run(&["--message-format", "json", "--help"]);
    assert!((ran.status, ran.stderr.as_str()) == (Some(0), "") && ran.stdout.contains("Usage"));
}
