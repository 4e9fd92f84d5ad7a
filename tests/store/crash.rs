//! Processes of builds that are killed at any time: the engine, and whatever it has started.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};

use super::origin::{Origin, URL};
use super::*;

/// Kills of each of the two users; with a longer run in mind, set `RAPTOR_TEST_KILLS`.
const KILLS: usize = 150;
/// Parts of the build's duration that get the same number of kills.
const PARTS: usize = 25;
/// The longest that anything may take, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

const MANIFEST: &str = "[run.report]\ntarget = \"tool\"\ninput = [\"top\"]\noutput = \"out/report\"\n\
                        [run.dir]\ntarget = \"many\"\noutput = \"out/dir\"\n";

#[test]
fn whatever_of_a_build_is_killed_the_next_one_completes_it_as_root() {
    storm(As::Root);
}

#[test]
fn whatever_of_a_build_is_killed_the_next_one_completes_it_as_a_user() {
    storm(As::User);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn storm(who: As) {
    let kills = number("RAPTOR_TEST_KILLS").map_or(KILLS, |it| it as usize);
    let seed = number("RAPTOR_TEST_SEED").unwrap_or_else(rand::random);
    println!("RAPTOR_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new(who);
    let expected = world.undisturbed();
    let (mut done, mut victims) = (0, BTreeMap::<&str, usize>::new());
    // How long a whole build takes, as far as is known.
    let mut duration = Duration::from_secs(1);
    for round in 0.. {
        world.forget(random.gen_bool(0.5));
        let passed = ((round % PARTS) as f64 + random.gen_range(0.0..1.0)) / PARTS as f64;
        let (mut at, mut resumed) = (duration.mul_f64(passed), false);
        loop {
            let victim = match world.kill_at(at, &mut random) {
                End::Killed(victim) => victim,
                End::Itself(elapsed) if !resumed => break duration = elapsed,
                End::Itself(_) => break,
            };
            *victims.entry(victim).or_default() += 1;
            done += 1;
            world.check(&format!("kill {done} (of {victim}) after {at:?}"));
            if done >= kills {
                break;
            }
            // The rest of it is shorter.
            let left = duration.mul_f64((1.0 - passed) * random.gen_range(0.0..1.0));
            (at, resumed) = (left, true);
        }
        world.complete(&expected);
        if done >= kills {
            break;
        }
    }
    println!("{done} kills: {victims:?}");
    assert!(victims.len() == 2, "{victims:?}");
    world.project.ok(&["store", "gc"]);
    let store = world.project.store();
    assert_eq!(names(&store.join("tmp")), [""; 0]);
    assert_eq!(names(&store.join("uses")), [""; 0]);
    assert_eq!(names(&store.join("trees")), trees(&world.project));
}

/// How a build ended.
enum End {
    /// One of its processes was killed: which kind.
    Killed(&'static str),
    /// It was done, after so long.
    Itself(Duration),
}

/// A project with everything that builds do, and a sign by which its processes are known.
pub struct World {
    pub project: Project,
    origin: Origin,
    mark: String,
}

impl World {
    pub fn new(who: As) -> World {
        let origin = Origin::start();
        let project =
            Project::busybox(who, &[("data/one", "1\n"), ("data/two", "2\n"), ("Raptor.toml", MANIFEST)]);
        let mark = format!("/mark-{}", project.path("").file_name().unwrap().to_str().unwrap());
        let marked = format!("ENV MARK=\"{mark}\"\n");
        let wget = |name: &str| format!("RUN /bin/busybox wget -q -O /srv/{name} {URL}/{name}\n");
        let layers = [
            ("first", format!("FROM base\n{marked}MKDIR /srv\nFETCH {URL}/fetched /srv/\n{}", wget("a"))),
            ("second", format!("FROM first\n{marked}COPY data /srv/data\n{}{}", wget("b"), wget("a2"))),
            (
                "top",
                format!("FROM second\n{marked}RUN sh -c \"rm /srv/a && cp -a /srv /copy && sleep 0.02\"\n"),
            ),
            (
                "tool",
                format!(
                    "FROM base\n{marked}MOUNT --layers input /input\nMOUNT --file output /output/report\n\
                     CMD \"cat /input/*/srv/b /input/raptor.json > /output/report && sleep 0.02\"\n"
                ),
            ),
            (
                "many",
                format!(
                    "FROM base\n{marked}MOUNT --simple output /output\n\
                     CMD \"for i in 1 2 3 4 5 6 7 8 9; do cp /bin/busybox /output/$i || exit; done\"\n"
                ),
            ),
        ];
        for (name, text) in &layers {
            project.write(&format!("{name}.rapt"), text);
        }
        project.write("tmp/.keep", "");
        fs::remove_file(project.path("tmp/.keep")).unwrap();
        World { project, origin, mark }
    }

    pub fn make(&self) -> Command {
        let mut command = self.project.command(&["make", "--json"]);
        self.origin.serves(&mut command);
        command
            .env("PATH", format!("/usr/sbin:/usr/bin:/sbin:/bin:{}", self.mark))
            .env("TMPDIR", self.project.path("tmp"))
            .env("XDG_CACHE_HOME", self.project.path("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What comes of it when nobody is killed.
    pub fn undisturbed(&self) -> Value {
        let ran = common::ran(self.make().output().unwrap());
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        report["jobs"].clone()
    }

    /// As before the first build.
    pub fn forget(&self, the_lock_too: bool) {
        let mut gone = vec!["own-store", "out", "cache"];
        if the_lock_too {
            gone.push("Raptor.lock");
        }
        for name in gone {
            assert!(Command::new("rm").arg("-rf").arg(self.project.path(name)).status().unwrap().success());
        }
    }

    /// Starts a build and kills the engine or one of its processes.
    fn kill_at(&self, at: Duration, random: &mut StdRng) -> End {
        let (begin, mut child) = (Instant::now(), self.make().spawn().unwrap());
        while begin.elapsed() < at {
            if child.try_wait().unwrap().is_some() {
                let elapsed = begin.elapsed();
                let ran = common::ran(child.wait_with_output().unwrap());
                assert_eq!(ran.status, Some(0), "{}", ran.stderr);
                return End::Itself(elapsed);
            }
            std::thread::sleep(Duration::from_millis(1).min(at));
        }
        let engine = Pid::from_child(&child);
        let others = below(engine.as_raw_pid());
        let before = namespaces(&self.marked());
        let victim = match others.is_empty() || random.gen_bool(0.5) {
            true => "engine",
            false => "sandbox",
        };
        let pid = match victim {
            "engine" => engine,
            _ => Pid::from_raw(others[random.gen_range(0..others.len())]).unwrap(),
        };
        // It may be gone already; then nothing is killed, and nothing may happen.
        let _ = kill_process(pid, Signal::KILL);
        self.ended(child, victim);
        // Processes that end have no environment any more.
        let begin = Instant::now();
        while !before.is_disjoint(&namespaces(&all_processes())) {
            assert!(begin.elapsed() < PATIENCE, "a network namespace is left");
            std::thread::sleep(Duration::from_millis(2));
        }
        End::Killed(victim)
    }

    /// Waits until nothing of the build runs any more.
    fn ended(&self, mut child: Child, victim: &str) {
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "the build waits for a process that was killed");
            std::thread::sleep(Duration::from_millis(2));
        }
        let ran = common::ran(child.wait_with_output().unwrap());
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        if victim != "engine" {
            let told = ran.stderr.contains("error");
            assert!(
                ran.status == Some(0) || ran.status == Some(1) && told,
                "{:?}: {}",
                ran.status,
                ran.stderr
            );
        }
        while !self.marked().is_empty() {
            assert!(begin.elapsed() < PATIENCE, "processes outlive the build: {:?}", self.marked());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What must be true after every kill.
    fn check(&self, what: &str) {
        self.check_store(what);
        let store = self.project.store();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(store.to_str().unwrap()), "{what}:\n{mounts}");
    }

    /// Whether what is registered is right, and no temporary file is left.
    pub fn check_store(&self, what: &str) {
        let ran = self.project.run(&["store", "verify"]);
        assert_eq!(ran.status, Some(0), "{what}:\n{}{}", ran.stdout, ran.stderr);
        assert_eq!(names(&self.project.store().join("tmp")), [""; 0], "{what}");
        assert_eq!(names(&self.project.path("tmp")), [""; 0], "{what}");
    }

    /// The next build does the rest, and cleans up.
    pub fn complete(&self, expected: &Value) {
        assert_eq!(&self.undisturbed(), expected);
        self.check_store("the build that completes");
        assert_eq!(names(&self.project.path("out")), ["dir", "report"]);
        assert_eq!(names(&self.project.path("out/dir")).len(), 9);
        let hidden: Vec<String> =
            names(&self.project.path("")).into_iter().filter(|it| it.starts_with('.')).collect();
        assert_eq!(hidden, [""; 0]);
        assert_eq!(names(&self.project.store().join("partial")), [""; 0]);
    }

    /// Processes that have the mark in their environment.
    fn marked(&self) -> Vec<i32> {
        let mark = self.mark.as_bytes();
        let marked = |pid: &i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.windows(mark.len()).any(|it| it == mark)
        };
        all_processes().into_iter().filter(marked).collect()
    }
}

fn all_processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// The process's descendants.
fn below(root: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for pid in all_processes() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name before may hold anything.
        let parent = stat.rsplit(") ").next().and_then(|it| it.split(' ').nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    let mut found = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Network namespaces of processes, but for the test's own.
fn namespaces(pids: &[i32]) -> BTreeSet<PathBuf> {
    let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let mut found: BTreeSet<PathBuf> = pids.iter().filter_map(|pid| of(&pid.to_string())).collect();
    found.remove(&of("self").unwrap());
    found
}
