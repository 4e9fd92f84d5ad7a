//! Paths of a project: joined and normalised as text, without asking the file system.

use std::path::{Component, Path, PathBuf};

/// `path` as seen from `dir`: absolute paths stay, `.` and `..` are resolved lexically.
///
/// A leading `..` of a relative path is kept, and so is one directly below a package (`$name`), which is not what the
/// directory above it in the project is; `..` directly below the root is dropped, as the kernel does.
pub fn join(dir: &Path, path: &Path) -> PathBuf {
    let mut joined = PathBuf::new();
    for part in dir.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if is_package(&joined) => joined.push(".."),
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

/// Whether a path is a package, as far as a path can tell.
fn is_package(path: &Path) -> bool {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => name.as_encoded_bytes().starts_with(b"$"),
        _ => false,
    }
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
            ("$std/live", "../../x.sh", "$std/../x.sh"),
            ("$std/live", "../../a/../../x.sh", "$std/../../x.sh"),
            ("a/$b", "../x", "a/x"),
        ] {
            assert_eq!(join(Path::new(dir), Path::new(path)), Path::new(expected), "{dir} + {path}");
        }
    }
}
