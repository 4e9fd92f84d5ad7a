//! The large image, and the registry that has it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A registry on loopback.
pub struct Registry {
    server: Child,
    /// `host:port`
    pub host: String,
}

impl Registry {
    pub fn start(dir: &Path) -> Registry {
        let config = dir.join("registry.yml");
        let data = dir.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\n",
            data.display()
        );
        fs::write(&config, text).unwrap();
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = registry.spawn().expect("package docker-registry is needed");
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let host = loop {
            let line = lines.next().expect("the registry ended").unwrap();
            if let Some(rest) = line.split("listening on ").nth(1) {
                break rest.split([',', '"', ' ']).next().unwrap().to_owned();
            }
        };
        // It must not wait for somebody to read what else it says.
        std::thread::spawn(move || lines.for_each(drop));
        Registry { server, host }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Bytes of an image.
pub struct Size {
    pub files: u64,
    pub stored: u64,
}

/// Layers, and about how many bytes of files each of them has.
const LAYERS: usize = 4;
const LAYER: u64 = 256 << 20;

/// Makes an image of files of this machine and gives it to the registry as `large:1`.
pub fn push(dir: &Path, registry: &Registry) -> Size {
    let mut files = Vec::new();
    for root in ["/usr/lib", "/usr/share", "/usr/bin", "/usr/include"] {
        collect(Path::new(root), &mut files);
    }
    let layout = dir.join("large");
    run(Command::new("umoci").args(["init", "--layout"]).arg(&layout));
    let image = format!("{}:1", layout.display());
    run(Command::new("umoci").args(["new", "--image", &image]));
    let mut size = Size { files: 0, stored: 0 };
    let mut files = files.into_iter();
    for n in 0..LAYERS {
        let mut tar = tar::Builder::new(fs::File::create(dir.join("layer.tar")).unwrap());
        tar.follow_symlinks(false);
        let mut bytes = 0;
        while bytes < LAYER {
            let Some((path, len)) = files.next() else { break };
            // Some may not be readable, or go away.
            if tar.append_path_with_name(&path, path.strip_prefix("/").unwrap()).is_ok() {
                bytes += len;
            }
        }
        tar.finish().unwrap();
        assert!(bytes > 0, "there are too few files for layer {n}");
        size.files += bytes;
        run(Command::new("umoci").args(["raw", "add-layer", "--image", &image]).arg(dir.join("layer.tar")));
    }
    for blob in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        size.stored += blob.unwrap().metadata().unwrap().len();
    }
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]);
    run(skopeo.arg(format!("oci:{image}")).arg(format!("docker://{}/large:1", registry.host)));
    fs::remove_dir_all(&layout).unwrap();
    size
}

/// Files and links below a directory, in order of their names, with their sizes.
fn collect(dir: &Path, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut entries: Vec<_> = entries.flatten().map(|it| it.path()).collect();
    entries.sort();
    for path in entries {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => collect(&path, files),
            Ok(meta) if meta.is_file() || meta.is_symlink() => files.push((path, meta.len())),
            _ => {}
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("packages umoci and skopeo are needed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
