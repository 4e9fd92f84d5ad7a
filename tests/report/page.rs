//! The timings page of real builds, drawn by a real browser.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// Uses the page as people do, and writes down what they would see.
const USE: &str = r##"
<script>
addEventListener("load", () => {
  const seen = {};
  const all = (query) => [...document.querySelectorAll(query)];
  seen.bars = all(".bar").map((it) => [it.dataset.id, it.getAttribute("aria-label"), it.querySelector(".label").textContent]);
  seen.widths = all(".bar").map((it) => it.getBoundingClientRect().width);
  seen.steps = all(".bar .step").length;
  seen.sum = Number(document.getElementById("critical-sum").dataset.millis);
  seen.chain = all("[data-critical]").map((it) => [it.dataset.critical, Number(it.dataset.millis)]);
  seen.marked = all(".bar.critical").map((it) => it.dataset.id);
  const times = () => all("#works tbody tr").map((it) => Number(all(".bar").find((bar) => bar.dataset.id === it.dataset.id).dataset.millis));
  seen.slowestFirst = times();
  all("#works th button").find((it) => it.textContent === "Time").click();
  seen.quickestFirst = times();
  if (all(".bar").length) all(".bar")[0].click();
  seen.details = document.getElementById("details").hidden ? null : document.getElementById("details").textContent;
  const theme = () => getComputedStyle(document.body).backgroundColor;
  const before = theme();
  all("header button")[0].click();
  seen.themes = [before, theme()];
  const zoom = all("input[type=range]")[0];
  const width = all(".inner")[0].offsetWidth;
  zoom.value = 3;
  zoom.dispatchEvent(new Event("input"));
  seen.zoomed = all(".inner")[0].offsetWidth / width;
  seen.reused = all(".reused li").map((it) => it.textContent);
  seen.status = all(".status")[0].textContent;
  // Nothing of the data may become an element of its own.
  seen.foreign = all("img, iframe, object, embed, link, base, form, svg").length;
  seen.scripts = document.scripts.length;
  seen.ran = Boolean(window.hostile);
  seen.requests = performance.getEntriesByType("resource").length;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(seen))));
  document.body.append(out);
});
</script>
"##;

/// What a browser makes of a page, and what it complains about.
struct Drawn {
    seen: Value,
    console: Vec<String>,
}

fn draw(file: &Path) -> Drawn {
    let page = fs::read_to_string(file).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let used = dir.path().join("used.html");
    fs::write(&used, page.replace("</body>", &format!("{USE}</body>"))).unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--window-size=1200,900",
        ])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .args(["--dump-dom", &format!("file://{}", used.display())])
        .output()
        .expect("package chromium is needed");
    let (dom, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let console = told.lines().filter(|it| it.contains("CONSOLE")).map(str::to_owned).collect();
    let seen = dom.split("<pre id=\"seen\">").nth(1).and_then(|it| it.split("</pre>").next());
    let seen = seen.map_or(Value::Null, |it| serde_json::from_slice(&base64(it)).unwrap());
    Drawn { seen, console }
}

/// A page that draws without a complaint.
fn drawn(file: &Path) -> Value {
    let drawn = draw(file);
    assert!(drawn.console.is_empty(), "{:?}", drawn.console);
    assert!(drawn.seen.is_object(), "the page of {} is not drawn", file.display());
    drawn.seen
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|b| DIGITS.iter().position(|it| *it == b));
    let (mut bytes, mut bits, mut n_bits) = (Vec::new(), 0_usize, 0);
    for digit in digits {
        (bits, n_bits) = (bits << 6 | digit, n_bits + 6);
        if n_bits >= 8 {
            n_bits -= 8;
            bytes.push((bits >> n_bits) as u8);
            bits &= (1 << n_bits) - 1;
        }
    }
    bytes
}

/// The longest chain of what was built, from the derivations and events alone.
fn longest(project: &Project, target: &str, events: &[Value]) -> u64 {
    let closure: Value = serde_json::from_str(&project.ok(&["eval", "--closure", target])).unwrap();
    let closure = closure.as_object().unwrap();
    let own: BTreeMap<&str, u64> = of(events, "done")
        .iter()
        .filter(|it| it["reused"] == false)
        .map(|it| (it["derivation"].as_str().unwrap(), it["millis"].as_u64().unwrap()))
        .collect();
    fn sum(id: &str, closure: &serde_json::Map<String, Value>, own: &BTreeMap<&str, u64>) -> u64 {
        let text = closure[id].to_string();
        let inputs = closure.keys().filter(|it| *it != id && text.contains(it.as_str()));
        let longest = inputs.map(|it| sum(it, closure, own)).max().unwrap_or(0);
        longest + own.get(id).copied().unwrap_or(0)
    }
    closure.keys().map(|id| sum(id, closure, &own)).max().unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[test]
fn a_page_shows_the_build() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let (ran, told) = events(&project, &["-j", "2", "build", "top", "right", "--timings", "t.html"]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let file = project.path("t.html");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let seen = drawn(&file);
        let built: BTreeSet<&str> =
            of(&told, "done").iter().map(|it| it["derivation"].as_str().unwrap()).collect();
        let bars: Vec<&str> = list(&seen["bars"]).iter().map(|it| it[0].as_str().unwrap()).collect();
        assert_eq!(bars.len(), 5);
        assert_eq!(bars.iter().copied().collect::<BTreeSet<_>>(), built);
        assert_eq!(seen["steps"], of(&told, "step").len());
        // The sum is what the chain adds up to, and what anybody can compute.
        let sum = seen["sum"].as_u64().unwrap();
        assert_eq!(sum, longest(&project, "top", &told).max(longest(&project, "right", &told)));
        assert_eq!(sum, list(&seen["chain"]).iter().map(|it| it[1].as_u64().unwrap()).sum::<u64>());
        assert_eq!(sum, told.last().unwrap()["critical_path"]["millis"].as_u64().unwrap());
        assert_eq!(list(&seen["chain"]).len(), list(&seen["marked"]).len());
        // Sorted, sorted the other way, opened, in both lights, and larger.
        let numbers =
            |field: &str| list(&seen[field]).iter().map(|it| it.as_u64().unwrap()).collect::<Vec<_>>();
        assert!(numbers("slowestFirst").iter().rev().is_sorted() && numbers("quickestFirst").is_sorted());
        assert_eq!(numbers("slowestFirst").len(), 5);
        assert!(seen["details"].as_str().unwrap().contains(bars[0]));
        assert_ne!(seen["themes"][0], seen["themes"][1]);
        assert!((seen["zoomed"].as_f64().unwrap() - 8.0).abs() < 0.1, "{}", seen["zoomed"]);
        assert_eq!((&seen["status"], &seen["requests"]), (&"done".into(), &0.into()));
        // A second build reuses everything.
        project.ok(&["realize", "-q", "top", "--timings", "t.html"]);
        let seen = drawn(&file);
        assert_eq!((list(&seen["bars"]).len(), list(&seen["reused"]).len()), (0, 4));
        let left: Vec<_> =
            fs::read_dir(project.path("")).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert!(!left.iter().any(|it| it.to_string_lossy().starts_with(".raptor")), "{left:?}");
    }
}

#[test]
fn hostile_names_are_text() {
    let names = [
        "</script><script>hostile=1</script>",
        "<img src=x onerror=hostile=1>",
        "</script ><img src=x onerror=hostile=1>",
        "<!--<script> <script ",
        "\"'&amp;`${hostile=1}`",
        "\u{2028}\u{202e}x",
    ];
    let project = Project::busybox(As::Root, &[]);
    let mut steps = String::from("FROM base\nMKDIR /d\n");
    for (idx, name) in names.iter().enumerate() {
        // A name with a slash would be a path.
        let file = name.replace('/', "\u{2215}");
        // Another content for each: what is equal is imported once.
        project.write(&format!("d{idx}/{file}"), &idx.to_string());
        let quoted = |it: &str| it.replace('\\', "\\\\").replace('"', "\\\"");
        steps.push_str(&format!("COPY \"d{idx}/{}\" /d/{idx}\n", quoted(&file)));
        steps.push_str(&format!("RUN echo \"{}\"\n", quoted(name)));
    }
    project.write("t.rapt", &steps);
    let (ran, told) = events(&project, &["build", "t", "--timings", "t.html"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let seen = drawn(&project.path("t.html"));
    assert_eq!((&seen["foreign"], &seen["scripts"], &seen["ran"]), (&0.into(), &3.into(), &false.into()));
    let mut shown: Vec<&str> = list(&seen["bars"]).iter().map(|it| it[2].as_str().unwrap()).collect();
    let mut expected = texts(&of(&told, "done"), "name");
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown, expected);
    assert!(expected.iter().any(|it| it.contains("onerror")), "{expected:?}");
    assert!(texts(&of(&told, "step"), "text").iter().any(|it| it.contains("</script>")));
}

#[test]
fn a_thousand_derivations_are_no_trouble() {
    let project = Project::new(&[]);
    // A thousand imports would wait for the disk a thousand times.
    let store = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut steps = String::from("MKDIR /d\n");
    for n in 0..999 {
        fs::write(project.path(&format!("f{n}")), n.to_string()).unwrap();
        steps.push_str(&format!("COPY f{n} /d/{n}\n"));
    }
    project.write("t.rapt", &steps);
    let dir = store.path().to_str().unwrap();
    project.ok(&["--store", dir, "build", "-q", "t", "--timings", "t.html"]);
    let seen = drawn(&project.path("t.html"));
    assert_eq!(list(&seen["bars"]).len(), 1000);
    assert_eq!(list(&seen["slowestFirst"]).len(), 1000);
    assert!(list(&seen["widths"]).iter().all(|it| it.as_f64().unwrap() >= 1.0));
}

#[test]
fn failures_and_interruptions_have_a_page() {
    let project = project(As::Root);
    project.write("left.rapt", "FROM base\nRUN false\n");
    let ran = project.run(&["-k", "build", "top", "--timings", "t.html"]);
    assert_eq!(ran.status, Some(1));
    let seen = drawn(&project.path("t.html"));
    assert_eq!((&seen["status"], list(&seen["bars"]).len()), (&"failed".into(), 3));
    // Interrupted while it waits.
    project.write("left.rapt", "FROM base\nRUN sleep 1000\n");
    let mut command = project.command(&["--message-format", "json", "build", "top", "--timings", "t.html"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|it| it.unwrap().contains("RUN sleep 1000")), "it did not begin");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("\"type\":\"report\"") && last.contains("\"status\":\"interrupted\""), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let seen = drawn(&project.path("t.html"));
    assert_eq!((&seen["status"], list(&seen["bars"]).len()), (&"interrupted".into(), 1));
    assert!(seen["details"].as_str().unwrap().contains("RUN sleep 1000"), "{}", seen["details"]);
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_build() {
    let project = project(As::Root);
    for (file, message) in
        [("no/t.html", "does not exist"), ("base.rapt/t.html", "is no directory"), (".", "a directory")]
    {
        let ran = project.run(&["build", "top", "--timings", file]);
        assert_eq!(ran.status, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(message) && !ran.stderr.contains("building"), "{}", ran.stderr);
    }
    assert!(!project.store().exists());
}

/// The checks above would notice.
#[test]
fn complaints_of_the_browser_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.html");
    fs::write(&file, "<!doctype html><body><script>nothing.there</script></body>").unwrap();
    let drawn = draw(&file);
    assert!(drawn.console.iter().any(|it| it.contains("nothing is not defined")), "{:?}", drawn.console);
    assert!(drawn.seen.is_null());
}
