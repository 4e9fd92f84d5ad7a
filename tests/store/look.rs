//! Looking into the store.

use super::*;

#[test]
fn trees_are_found_by_all_their_names() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let top = realize(&project, "top");
        let id = json(&project, &["eval", "--json", "top"]);
        assert!(id.is_object(), "{id}");
        let path = project.ok(&["store", "path", "top"]);
        assert!(path.trim().ends_with(&top));
        let derivation = json(&project, &["store", "info", "--json", "top"]);
        let derivation = derivation["trees"][0]["derivations"][0]["derivation"].as_str().unwrap().to_owned();
        for name in [top.as_str(), &top[..8], path.trim(), "top", &derivation] {
            assert_eq!(project.ok(&["store", "path", name]), path, "{name}");
        }
        project.fails(&["store", "path", &top[..7]], &[&top[..7]]);
        project.fails(&["store", "path", &"0".repeat(64)], &["0000"]);
    }
}

#[test]
fn what_is_known_of_a_tree() {
    let project = project(As::Root);
    let (base, top) = (realize(&project, "base"), realize(&project, "top"));
    let info = json(&project, &["store", "info", "--json", &base]);
    let info = &info["trees"][0];
    assert_eq!((&info["hash"], &info["bytes"]), (&base.as_str().into(), &9.into()));
    assert_eq!(info["derivations"][0]["name"], "base");
    assert_eq!(info["inputs"][0]["kind"], "source");
    assert_eq!(info["used_by"][0]["output"], top.as_str());
    let roots = info["roots"].as_array().unwrap();
    assert_eq!(roots.len(), 2, "{roots:?}");
    let list = project.ok(&["store", "ls"]);
    let line = list.lines().find(|it| it.starts_with(&top)).unwrap();
    assert!(line.contains("layer") && line.ends_with("top") && line.contains("today"), "{line}");
    assert_eq!(trees(&project).len(), 3);
    let text = project.ok(&["store", "info", "top"]);
    assert!(text.contains("made by  layer top") && text.contains("from     layer base"), "{text}");
}

#[test]
fn files_of_a_tree_are_listed_printed_and_compared() {
    for who in [As::Root, As::User] {
        let project = project(who);
        realize(&project, "top");
        let list = project.ok(&["store", "tree", "base"]);
        assert!(
            list.lines().any(|it| it.starts_with("- 0600         7:8") && it.contains(" /etc/layer")),
            "{list}"
        );
        let entries = json(&project, &["store", "tree", "--json", "base"]);
        let paths: Vec<_> =
            entries["entries"].as_array().unwrap().iter().map(|it| it["path"].as_str().unwrap()).collect();
        assert_eq!(paths, ["/", "/etc", "/etc/layer", "/srv", "/srv/data", "/srv/data/one", "/srv/data/two"]);
        assert_eq!(project.ok(&["store", "cat", "base", "/etc/layer"]), "base\n");
        assert_eq!(project.ok(&["store", "cat", "base", "srv/data/two"]), "2\n");
        project.fails(&["store", "cat", "base", "srv"], &["srv is not a regular file"]);
        project.fails(&["store", "cat", "base", "../../../../etc/passwd"], &["etc/passwd"]);
        let ran = project.run(&["store", "diff", "base", "top"]);
        assert_eq!(ran.status, Some(1), "{}", ran.stderr);
        for line in ["- /srv/data\n", "- /srv/data/one\n", "+ /srv/more\n"] {
            assert!(ran.stdout.contains(line), "{}", ran.stdout);
        }
        let changed = ran.stdout.lines().find(|it| it.starts_with("! /etc/layer: ")).unwrap();
        assert!(changed.contains("size 5 -> 4, mode 0600 -> 0644, owner 7:8 -> 0:0"), "{changed}");
        let ran = project.run(&["store", "diff", "--json", "base", "top"]);
        let changes: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(changes["changes"].as_array().unwrap().len() >= 5);
        assert_eq!(project.ok(&["store", "diff", "top", "top"]), "");
        let usage = json(&project, &["store", "du", "--json"]);
        let usage = usage["trees"].as_array().unwrap();
        assert!(usage.len() == 3 && usage.iter().all(|it| it["own"].as_u64() > Some(0) && it["shared"] == 0));
    }
}

#[test]
fn equal_files_share_their_space_and_no_hash_changes() {
    for who in [As::Root, As::User] {
        let project = project(who);
        let text = "x".repeat(5000);
        project.write("big", &text);
        project.write("a.rapt", "COPY big /a\nCOPY big /b\nWRITE \"a\" /name\n");
        project.write("b.rapt", "COPY big /c\nCOPY --chmod 600 big /d\nWRITE \"b\" /name\n");
        let (a, b) = (realize(&project, "a"), realize(&project, "b"));
        let done = json(&project, &["store", "optimise", "--json"]);
        let shared = done["linked"].as_u64().unwrap() + done["reflinked"].as_u64().unwrap();
        // One file of `a` and one of `b` with the source; the second of `a` must stay apart, that of another mode too.
        assert!(shared >= 1, "{done}");
        assert_eq!(done["saved"].as_u64().unwrap(), shared * 5000);
        verify(&project);
        assert_eq!((realize(&project, "a"), realize(&project, "b")), (a.clone(), b));
        assert_eq!(project.ok(&["store", "cat", &a, "a"]), text);
        let again = json(&project, &["store", "optimise", "--json"]);
        assert_eq!(again["linked"], 0, "{again}");
        assert_eq!(names(&project.store().join("tmp")), [""; 0]);
        let usage = json(&project, &["store", "du", "--json"]);
        let shared: u64 =
            usage["trees"].as_array().unwrap().iter().map(|it| it["shared"].as_u64().unwrap()).sum();
        assert!(shared >= 2 * 4096 || done["reflinked"].as_u64() > Some(0), "{usage}");
    }
}
