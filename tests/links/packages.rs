//! What packages are once they are here: their own links, their names, and how long the store keeps them.

use std::fs;

use crate::common::{As, Project, ran};
use crate::repository::{GitServer, Repository};
use crate::{library, project, realize, text};

fn tree_of(lock: &str, name: &str) -> String {
    let section = lock.split(&format!("[link.{name}]\n")).nth(1).expect("the package is in the lock");
    let tree = section.lines().find_map(|it| it.strip_prefix("tree = \"")).unwrap();
    tree.trim_end_matches('"').to_owned()
}

#[test]
fn packages_link_packages() {
    let (inner, outer) = (Repository::new(), Repository::new());
    let (inner_server, outer_server) = (GitServer::start(&inner), GitServer::start(&outer));
    let source = |server: &GitServer| format!("{{ git = \"{}\", branch = \"main\" }}", server.url());
    inner.write("Raptor.toml", &format!("[raptor.link]\nback = {}\n", source(&outer_server)));
    inner.write("x.rinc", "WRITE inner /srv/inner\nINCLUDE $back.last\n");
    inner.write("layer.rapt", "MKDIR /layer\n");
    inner.commit();
    outer.write(
        "Raptor.toml",
        &format!(
            "[raptor.link]\ninner = {}\npart = \"parts/a\"\n[run.nothing]\ntarget = \"t\"\n",
            source(&inner_server)
        ),
    );
    outer.write("base.rinc", "MKDIR /srv\nWRITE text /srv/text\nINCLUDE $inner.x\nINCLUDE $part.deep.y\n");
    outer.write("layer.rapt", "FROM $inner.layer\nMKDIR /other\n");
    outer.write("last.rinc", "WRITE back /srv/back\n");
    outer.write("parts/a/deep/y.rinc", "WRITE part /srv/part\n");
    outer.commit();

    let project = project(As::Root, &source(&outer_server));
    let built = realize(&project, &["t"]);
    let mut names: Vec<_> = fs::read_dir(built.join("srv"))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["back", "inner", "part", "text"]);
    let lock = project.read("Raptor.lock");
    let sections: Vec<_> = lock.lines().filter(|it| it.starts_with('[')).collect();
    assert_eq!(sections, ["[link.lib]", "[link.\"lib/inner\"]"]);
    // Names of layers are the same wherever the store is.
    let closure = project.ok(&["eval", "--closure", "$lib.layer"]);
    assert!(closure.contains("\"$lib/layer\"") && closure.contains("\"$lib$inner/layer\""), "{closure}");
    assert!(!closure.contains(project.store().to_str().unwrap()), "{closure}");
    // The project's own files know only its own links.
    project.write("own.rapt", "INCLUDE $inner.x\n");
    project.fails(&["build", "own"], &["error[E0305]", "own.rapt:1:1"]);

    // What the project links counts everywhere.
    let manifest = format!("[raptor.link]\nlib = {}\ninner = \"mine\"\n", source(&outer_server));
    project.write("Raptor.toml", &manifest);
    project.write("mine/x.rinc", "WRITE mine /srv/inner\n");
    let mut command = project.command(&["realize", "t"]);
    let warned = ran(command.output().unwrap());
    assert!(
        warned.stderr.contains("warning[W0515]") && warned.stderr.contains("Raptor.toml:3:9"),
        "{}",
        warned.stderr
    );
    let built = std::path::PathBuf::from(warned.stdout.trim());
    assert_eq!(fs::read_to_string(built.join("srv/inner")).unwrap(), "mine");
}

#[test]
fn packages_of_the_network_stay_in_it() {
    let repository = library("text");
    let server = GitServer::start(&repository);
    for link in [
        "\"../x\"",
        "\"/etc\"",
        "\"a/../../x\"",
        "{ git = \"/srv/x\", branch = \"main\" }",
        "{ git = \"file:///srv/x\", branch = \"main\" }",
        "{ git = \"x\", branch = \"main\" }",
    ] {
        repository.write("Raptor.toml", &format!("[raptor.link]\nx = {link}\n"));
        repository.commit();
        let project = project(As::Root, &format!("{{ git = \"{}\", branch = \"main\" }}", server.url()));
        project.fails(&["build", "t"], &["error[E0402]", "leads out of a package", "$lib/Raptor.toml:2:5"]);
    }
    // On disk all of this is the user's own business.
    let files = [
        ("Raptor.toml", "[raptor.link]\nlib = \"lib\"\n"),
        ("lib/Raptor.toml", "[raptor.link]\nother = \"../other\"\nbroken = 3\n"),
        ("lib/base.rinc", "MKDIR /srv\n"),
        ("t.rapt", "INCLUDE $lib.base\n"),
    ];
    let project = Project::new(&files).with_empty_store();
    realize(&project, &["t"]);
    project.write("lib/Raptor.toml", "[raptor.link]\nother = \"../other\"\nlib = \"nonsense\"\n");
    project.write("lib/base.rinc", "INCLUDE $other.it\n");
    project.write("other/it.rinc", "MKDIR /srv\nWRITE text /srv/text\n");
    assert_eq!(text(&realize(&project, &["t"])), "text");
}

#[test]
fn names_of_layers_hold_no_path_of_this_machine() {
    let ids = ["one", "two"].map(|place| {
        let files = [
            ("t.rapt", "FROM $lib.base\nMKDIR /b\n"),
            ("p/base.rapt", "MKDIR /a\nCOPY ../beside /a/\n"),
            ("beside", "b"),
        ];
        let project = Project::new(&files).with_empty_store();
        fs::rename(project.path("p"), project.path(place)).unwrap();
        let dir = project.path(place);
        let closure = project.ok(&["-L", "lib", dir.to_str().unwrap(), "eval", "--closure", "t"]);
        assert!(closure.contains("\"$lib/base\""), "{closure}");
        // A relative path is one of the project, and its name stays.
        let closure_of_relative = project.ok(&["-L", "lib", place, "eval", "--closure", "t"]);
        assert!(closure_of_relative.contains(&format!("\"{place}/base\"")), "{closure_of_relative}");
        closure
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn the_store_keeps_what_projects_use() {
    let repository = library("text");
    let server = GitServer::start(&repository);
    let project = project(As::Root, &format!("{{ git = \"{}\", branch = \"main\" }}", server.url()));
    let eval = |args: &[&str]| {
        let mut command = project.command(&[&["eval"], args, &["t"]].concat());
        ran(command.env("XDG_CACHE_HOME", project.path("cache")).output().unwrap())
    };
    let first = eval(&[]);
    let tree = tree_of(&project.read("Raptor.lock"), "lib");
    let dir = project.store().join("trees").join(&tree);
    assert!(dir.join("base.rinc").exists());
    // Nothing is built yet that needs it; then it comes again, and the remembered evaluation does not hide that.
    project.ok(&["store", "gc"]);
    assert!(!dir.exists());
    let offline = eval(&["--offline"]);
    assert!(offline.status == Some(1) && offline.stderr.contains("error[E0602]"), "{}", offline.stderr);
    let second = eval(&["--locked"]);
    assert_eq!((second.status, second.stdout), (Some(0), first.stdout), "{}", second.stderr);
    project.ok(&["build", "t"]);
    project.ok(&["store", "gc"]);
    assert!(dir.exists());
    project.ok(&["store", "verify"]);
    let asked = server.seen();
    project.ok(&["build", "--frozen", "t"]);
    assert_eq!(server.seen(), asked);
    // Nothing writes to it.
    project.write("b.rapt", "CMD true\nMOUNT --file output /o\n");
    let manifest = project.read("Raptor.toml") + "[run.j]\ntarget = \"b\"\noutput = \"$lib/out\"\n";
    project.write("Raptor.toml", &manifest);
    project.fails(&["make", "j"], &["package of the network"]);
    project.fails(&["run", "-O", "$lib/out", "b"], &["package of the network"]);
}

#[test]
fn processes_fetch_a_package_once() {
    let repository = library("text");
    let server = GitServer::start(&repository);
    let alone = project(As::Root, &format!("{{ git = \"{}\", branch = \"main\" }}", server.url()));
    alone.ok(&["eval", "t"]);
    let n_requests = server.seen();
    let shared = project(As::Root, &format!("{{ git = \"{}\", branch = \"main\" }}", server.url()));
    let mut children: Vec<_> = (0..3).map(|_| shared.start(&["build", "t"])).collect();
    assert!(children.iter_mut().all(|it| it.wait().unwrap().success()));
    assert_eq!(server.seen(), 2 * n_requests);
    assert_eq!(shared.read("Raptor.lock"), alone.read("Raptor.lock"));
}
