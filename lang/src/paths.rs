//! Paths of a project: joined and normalised as text, without asking the file system.

use std::path::{Component, Path, PathBuf};

/// `path` as seen from `dir`: absolute paths stay, `.` and `..` are resolved lexically.
///
/// A leading `..` of a relative path is kept; `..` directly below the root is dropped, as the kernel does.
pub fn join(dir: &Path, path: &Path) -> PathBuf {
    let mut joined = PathBuf::new();
    for part in dir.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => match joined.components().next_back() {
                Some(Component::Normal(_)) => {
                    joined.pop();
                }
                Some(Component::RootDir | Component::Prefix(_)) => {}
                _ => joined.push(".."),
            },
            part => joined.push(part),
        }
    }
    joined
}

/// Directory that holds a file; empty for a file in the base directory.
pub fn dir_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_lexically() {
        for (dir, path, expected) in [
            ("", "a/b", "a/b"),
            ("a", "./b", "a/b"),
            ("a/b", "../c", "a/c"),
            ("a", "../../c", "../c"),
            ("../a", "../../c", "../../c"),
            ("a", "/etc/../hosts", "/hosts"),
            ("a", "/../x", "/x"),
            ("$std/live", "../x.sh", "$std/x.sh"),
        ] {
            assert_eq!(join(Path::new(dir), Path::new(path)), Path::new(expected), "{dir} + {path}");
        }
    }
}
