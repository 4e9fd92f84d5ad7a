//! The examples of spec/stdlib work as they stand there.

use super::*;

/// The first block of a page in a language.
fn example(page: &Path, language: &str) -> Option<String> {
    let text = fs::read_to_string(page).unwrap();
    let block = text.split(&format!("```{language}\n")).nth(1)?;
    Some(block.split("```").next().unwrap().to_owned())
}

#[test]
fn every_builder_has_a_page_whose_example_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stems = |dir: &str, extension: &str| -> Vec<String> {
        let paths = fs::read_dir(root.join(dir)).unwrap().map(|it| it.unwrap().path());
        let mut stems: Vec<_> = paths
            .filter(|it| it.extension().is_some_and(|it| it == extension))
            .map(|it| it.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        stems.sort();
        stems
    };
    let builders = stems("stdlib", "rapt");
    assert_eq!(stems("spec/stdlib", "md"), builders);

    made(As::Root);
    let project = project(As::Root);
    project.write("Raptor.lock", &fs::read_to_string(output("Raptor.lock")).unwrap());
    for target in ["live", "rescue", "server", "web"] {
        project.write(&format!("{target}.rapt"), "FROM boot\n");
    }
    // That of kiwi-live needs a system that starts: tests/kiwi.rs makes it.
    for builder in builders.iter().filter(|it| *it != "kiwi-live") {
        let page = root.join(format!("spec/stdlib/{builder}.md"));
        project.write("Raptor.toml", &example(&page, "toml").expect("an example"));
        if let Some(module) = example(&page, "rapt") {
            project.write("layers.rapt", &module);
        }
        project.ok(&["make"]);
    }
}

#[test]
fn pages_list_all_parameters_of_their_builders() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for builder in ["deblive", "disk-image", "docker-image", "live-disk-image", "part-image", "tar"] {
        let source = fs::read_to_string(root.join(format!("stdlib/{builder}.rapt"))).unwrap();
        let page = fs::read_to_string(root.join(format!("spec/stdlib/{builder}.md"))).unwrap();
        let table = source.split("# Environment:").nth(1).expect("a table of the environment");
        let mut n = 0;
        for line in table.lines().skip(1).take_while(|it| it.starts_with('#')) {
            // Names stand in front of the first two blanks.
            let names = line[1..].trim_start().split("  ").next().unwrap_or_default();
            let words = names.split_whitespace();
            for name in words {
                assert!(page.contains(&format!("`{name}`")), "{builder}: {name}");
                n += 1;
            }
        }
        assert!(n > 0, "{builder}");
    }
}
