//! How a Debian root comes into being inside a sandbox: pure planning, from a list of packages to steps.
//!
//! Nothing of the host is used. The essential packages are unpacked by the sandbox itself; then their own dpkg
//! installs them properly, and after them the rest. Specified in `spec/debian.md`.

use std::collections::BTreeMap;

use debversion::Version;

use super::apt;
use crate::derivation::{Bootstrap, KeyFile, Outputs};
use crate::lock::DebianPackage;
use crate::sandbox::{Attrs, CopySource, Mount, MountSource, Step};

/// Where the packages are mounted.
const DEBS: &str = "/run/raptor/debs";
/// Where run files appear.
const RUN: &str = "/run/raptor";
/// Name of the run file with [`FINISH`].
const FINISH_NAME: &str = "bootstrap-finish.sh";
/// Name of the run file with [`INCLUDE`].
const INCLUDE_NAME: &str = "bootstrap-include.sh";
/// Where apt looks for keys that no package brings.
const KEYRINGS: &str = "/etc/apt/keyrings";

/// Installs what is included: apt knows best in which order. Services are for the machine that the root becomes, so
/// none is started here.
const INCLUDE: &str = r#"set -e
policy=/usr/sbin/policy-rc.d
printf '#!/bin/sh\nexit 101\n' > $policy
chmod 755 $policy
apt-get install --yes --no-install-recommends --no-remove --allow-downgrades -o APT::Sandbox::User=root "$@"
if ! dpkg --search $policy > /dev/null 2>&1; then
    rm -f $policy
fi
"#;

/// Checks the result and writes down which packages are there only because others need them, so that
/// `apt-get autoremove` knows.
const FINISH: &str = r#"set -e
problems=$(dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n' | grep -v '^ii ' || true)
if [ -n "$problems" ]; then
    printf 'these packages are not properly installed:\n%s\n' "$problems" >&2
    exit 1
fi
architecture=$(dpkg --print-architecture)
dpkg-query -W -f '${Essential} ${Priority} ${Package}\n' | while read -r essential priority package; do
    case "$essential $priority $package" in
        "yes "* | *" required "* | *" apt") continue ;;
    esac
    # The arguments are what was asked for by name.
    case " $* " in
        *" $package "*) ;;
        *) printf 'Package: %s\nArchitecture: %s\nAuto-Installed: 1\n\n' "$package" "$architecture" ;;
    esac
done > /var/lib/apt/extended_states
rm -f /var/lib/dpkg/*-old
"#;

/// A root to be made: parts of a sandbox request with no lower trees.
#[derive(Clone, Debug)]
pub struct BootstrapPlan {
    /// What to do.
    pub steps: Vec<Step>,
    /// The packages, for dpkg.
    pub mounts: Vec<Mount>,
    /// Scripts that the steps use.
    pub run_files: BTreeMap<String, String>,
}

/// Plans a root; `debs` are the names of the trees that hold its packages, in their order.
pub fn steps(it: &Bootstrap<Outputs>, debs: &[String]) -> BootstrapPlan {
    let packages = &it.packages;
    let essential = |wanted: bool| packages.iter().filter(move |it| it.essential == wanted);
    let mut steps = merged_usr(packages);
    let unpacked = packages.iter().zip(debs).filter(|(package, _)| package.essential);
    steps.push(Step::UnpackDebs { debs: unpacked.map(|(_, deb)| deb.clone()).collect() });
    // dpkg wants its database to exist, even if nothing is in it.
    steps.push(write("/var/lib/dpkg/status", ""));
    // Users and groups first: scripts of other essential packages use them without saying so.
    let users = |it: &&DebianPackage| it.name == "base-passwd";
    steps.extend(dpkg("--install", true, essential(true).filter(users)));
    steps.extend(dpkg("--install", true, essential(true).filter(|it| !users(it))));
    // Unpacking does not wait for pre-dependencies to be configured; configuring does wait for dependencies.
    steps.extend(dpkg("--unpack", true, essential(false)));
    steps.push(run(dpkg_argv(&["--configure", "--pending"])));
    // Tools that make images expect the file; the text is debootstrap's.
    steps.push(write("/etc/fstab", "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n"));
    let mut run_files = BTreeMap::from([(FINISH_NAME.to_string(), FINISH.to_string())]);
    if !it.included.is_empty() {
        steps.push(script(INCLUDE_NAME, it.included.iter().map(mounted).collect()));
        run_files.insert(INCLUDE_NAME.to_string(), INCLUDE.to_string());
        run_files.insert("apt.conf".to_string(), apt::apt_conf().to_string());
    }
    steps.extend(keys(it));
    steps.extend(apt::sources(it).iter().map(|(path, text)| write(path, text)));
    steps.push(script(FINISH_NAME, it.all().filter(|it| it.wanted).map(|it| it.name.clone()).collect()));

    let mount = |(package, deb): (&DebianPackage, &String)| Mount {
        dest: mounted(package),
        source: MountSource::Tree(deb.clone()),
    };
    BootstrapPlan { steps, mounts: it.all().zip(debs).map(mount).collect(), run_files }
}

/// Keys of the project, each once, where the apt sources look for them.
fn keys(it: &Bootstrap<Outputs>) -> Vec<Step> {
    let all = it.keyring.iter().chain(it.repositories.iter().filter_map(|it| it.key.as_ref()));
    let by_name: BTreeMap<&str, &KeyFile<Outputs>> = all.map(|it| (it.name.as_str(), it)).collect();
    let mut steps = Vec::new();
    for (name, key) in by_name {
        let source =
            |tree: &crate::tree::TreeHash| CopySource { tree: tree.to_string(), name: name.to_owned() };
        steps.push(Step::Mkdir { path: KEYRINGS.to_owned(), parents: true, attrs: Attrs::default() });
        steps.push(Step::Copy {
            sources: key.source.0.last().map(source).into_iter().collect(),
            dest: format!("{KEYRINGS}/"),
            attrs: Attrs { mode: Some(0o644), ..Attrs::default() },
        });
    }
    steps
}

fn script(name: &str, arguments: Vec<String>) -> Step {
    let mut argv = vec!["sh".to_string(), format!("{RUN}/{name}")];
    argv.extend(arguments);
    run(argv)
}

/// `/bin` → `usr/bin` and so on. Since version 13 base-files brings the links; they must exist before
/// whatever is unpacked through them, so they are made in any case.
fn merged_usr(packages: &[DebianPackage]) -> Vec<Step> {
    let thirteen = "13".parse::<Version>().ok();
    let base_files = packages.iter().find(|it| it.name == "base-files");
    let old = base_files.is_some_and(|it| it.version.parse::<Version>().ok() < thirteen);
    let names: &[&str] = match old {
        true => &["bin", "lib", "lib32", "lib64", "libx32", "sbin"],
        false => &["bin", "lib", "lib64", "sbin"],
    };
    let link = |name: &&str| {
        let mkdir = Step::Mkdir { path: format!("/usr/{name}"), parents: true, attrs: Attrs::default() };
        let symlink = Step::Symlink { target: format!("usr/{name}"), path: format!("/{name}") };
        [mkdir, symlink]
    };
    names.iter().flat_map(link).collect()
}

/// A run of dpkg over packages; none without packages.
fn dpkg<'a>(action: &str, force: bool, packages: impl Iterator<Item = &'a DebianPackage>) -> Option<Step> {
    let mut argv = if force { dpkg_argv(&["--force-depends", action]) } else { dpkg_argv(&[action]) };
    let options = argv.len();
    argv.extend(packages.map(mounted));
    (argv.len() > options).then(|| run(argv))
}

/// No log (it holds times), and no waiting for the disk: an unfinished root is thrown away anyway.
fn dpkg_argv(options: &[&str]) -> Vec<String> {
    ["dpkg", "--log=/dev/null", "--force-unsafe-io"].iter().chain(options).map(|it| it.to_string()).collect()
}

fn run(argv: Vec<String>) -> Step {
    let env = [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("DEBCONF_NOWARNINGS", "yes"),
    ];
    let mut env = BTreeMap::from(env.map(|(name, value)| (name.to_string(), value.to_string())));
    if argv.iter().any(|it| it.ends_with(INCLUDE_NAME)) {
        env.insert("APT_CONFIG".to_string(), apt::APT_CONF.to_string());
    }
    Step::Run { argv, env, cwd: "/".to_string() }
}

fn write(path: &str, text: &str) -> Step {
    let attrs = Attrs { mode: Some(0o644), ..Attrs::default() };
    Step::Write { text: text.to_string(), path: path.to_string(), attrs }
}

/// Path of a package inside, named as apt names its downloads.
fn mounted(package: &DebianPackage) -> String {
    let DebianPackage { name, version, architecture, .. } = package;
    format!("{DEBS}/{name}_{}_{architecture}.deb", version.replace(':', "%3a"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derivation::{Repository, SANDBOX, SYSTEM};

    fn package(name: &str, version: &str, essential: bool) -> DebianPackage {
        DebianPackage {
            name: name.to_string(),
            version: version.to_string(),
            architecture: "amd64".to_string(),
            path: format!("pool/{name}.deb"),
            sha256: "0".repeat(64),
            size: 1,
            essential,
            from: None,
            wanted: false,
        }
    }

    fn plan(base_files: &str) -> BootstrapPlan {
        let packages = vec![
            package("libc6", "2.41-12", true),
            package("base-files", base_files, true),
            package("base-passwd", "3.6", true),
            package("apt", "1:3.0", false),
        ];
        steps(&root(packages), &["d0", "d1", "d2", "d3", "d4"].map(str::to_string))
    }

    fn root(packages: Vec<DebianPackage>) -> Bootstrap<Outputs> {
        Bootstrap {
            name: "debian-trixie".to_string(),
            system: SYSTEM.to_string(),
            sandbox: SANDBOX,
            distribution: None,
            suite: "trixie".to_string(),
            components: vec!["main".to_string()],
            mirror: "http://mirror.example/debian".to_string(),
            keyring: None,
            repositories: Vec::new(),
            packages,
            included: Vec::new(),
            epoch: 0,
        }
    }

    fn repository(name: Option<&str>, url: &str, suite: &str, key_of: Option<&str>) -> Repository<Outputs> {
        let key = |it: &str| KeyFile {
            name: it.to_string(),
            source: Outputs(vec!["0".repeat(64).parse().unwrap()]),
        };
        Repository {
            name: name.map(str::to_string),
            url: url.to_string(),
            suite: suite.to_string(),
            components: if suite.ends_with('/') { Vec::new() } else { vec!["main".to_string()] },
            key: key_of.map(key),
        }
    }

    fn links(plan: &BootstrapPlan) -> String {
        let link = |it: &Step| match it {
            Step::Symlink { target, path } => Some(format!("{path}={target}")),
            _ => None,
        };
        plan.steps.iter().filter_map(link).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn merged_usr_links() {
        let new = "/bin=usr/bin /lib=usr/lib /lib64=usr/lib64 /sbin=usr/sbin";
        for version in ["13", "13.8+deb13u2", "100"] {
            assert_eq!(links(&plan(version)), new);
        }
        let old =
            "/bin=usr/bin /lib=usr/lib /lib32=usr/lib32 /lib64=usr/lib64 /libx32=usr/libx32 /sbin=usr/sbin";
        for version in ["12.4+deb12u12", "9", "12.99"] {
            assert_eq!(links(&plan(version)), old);
        }
    }

    #[test]
    fn order_of_steps() {
        let plan = plan("13.8");
        let text = |it: &Step| match it {
            Step::UnpackDebs { debs } => Some(format!("unpack {}", debs.join(" "))),
            Step::Write { path, .. } => Some(format!("write {path}")),
            Step::Run { argv, .. } => Some(argv.join(" ").replace(" --log=/dev/null --force-unsafe-io", "")),
            _ => None,
        };
        let steps: Vec<_> = plan.steps.iter().filter_map(text).collect();
        assert_eq!(
            steps,
            [
                "unpack d0 d1 d2",
                "write /var/lib/dpkg/status",
                "dpkg --force-depends --install /run/raptor/debs/base-passwd_3.6_amd64.deb",
                "dpkg --force-depends --install /run/raptor/debs/libc6_2.41-12_amd64.deb \
                 /run/raptor/debs/base-files_13.8_amd64.deb",
                "dpkg --force-depends --unpack /run/raptor/debs/apt_1%3a3.0_amd64.deb",
                "dpkg --configure --pending",
                "write /etc/fstab",
                "write /etc/apt/sources.list.d/debian.sources",
                "sh /run/raptor/bootstrap-finish.sh",
            ]
        );
        assert!(plan.run_files.contains_key("bootstrap-finish.sh"));
        let mounts: Vec<_> = plan.mounts.iter().map(|it| (it.dest.as_str(), &it.source)).collect();
        assert_eq!(mounts.len(), 4);
        assert!(
            matches!(&mounts[3], ("/run/raptor/debs/apt_1%3a3.0_amd64.deb", MountSource::Tree(deb)) if deb == "d3")
        );
    }

    #[test]
    fn included_packages() {
        let mut root = root(vec![package("libc6", "2", true), package("apt", "3", false)]);
        root.included =
            vec![package("libx", "1", false), DebianPackage { wanted: true, ..package("x", "1:2", false) }];
        root.keyring = repository(None, "", "", Some("trixie.asc")).key;
        let plan = steps(&root, &["d0", "d1", "d2", "d3"].map(str::to_string));
        let text = |it: &Step| match it {
            Step::Copy { sources, dest, .. } => Some(format!("copy {} {dest}", sources[0].name)),
            Step::Run { argv, env, .. } if argv[0] == "sh" => {
                Some(format!("{} {}", argv[1..].join(" "), env.contains_key("APT_CONFIG")))
            }
            _ => None,
        };
        let debs = "/run/raptor/debs/libx_1_amd64.deb /run/raptor/debs/x_1%3a2_amd64.deb";
        assert_eq!(
            plan.steps.iter().filter_map(text).collect::<Vec<_>>(),
            [
                &format!("/run/raptor/bootstrap-include.sh {debs} true"),
                "copy trixie.asc /etc/apt/keyrings/",
                "/run/raptor/bootstrap-finish.sh x false",
            ]
        );
        assert_eq!(plan.mounts.len(), 4);
        assert_eq!(plan.run_files.len(), 3);
    }

    #[test]
    fn apt_sources_of_several_archives() {
        let mut root = root(Vec::new());
        let security = "http://mirror.example/debian-security";
        root.repositories = vec![
            repository(None, &root.mirror, "trixie-updates", None),
            repository(None, security, "trixie-security", None),
            repository(Some("tools"), "http://packages.example", "trixie", Some("tools.gpg")),
            repository(Some("flat"), "http://packages.example/flat", "./", None),
        ];
        let found: Vec<_> =
            apt::sources(&root).into_iter().map(|(path, text)| format!("{path}\n{text}")).collect();
        let keys = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        let dir = "/etc/apt/sources.list.d";
        assert_eq!(
            found,
            [
                format!(
                    "{dir}/debian.sources\nTypes: deb\nURIs: http://mirror.example/debian\n\
                     Suites: trixie trixie-updates\nComponents: main\n{keys}\nTypes: deb\nURIs: {security}\n\
                     Suites: trixie-security\nComponents: main\n{keys}"
                ),
                format!(
                    "{dir}/tools.sources\nTypes: deb\nURIs: http://packages.example\nSuites: trixie\n\
                     Components: main\nSigned-By: /etc/apt/keyrings/tools.gpg\n"
                ),
                format!(
                    "{dir}/flat.sources\nTypes: deb\nURIs: http://packages.example/flat\nSuites: ./\n{keys}"
                ),
            ]
        );
        root.distribution = Some("other".to_string());
        root.keyring = repository(None, "", "", Some("other.asc")).key;
        let (path, text) = apt::sources(&root).remove(0);
        assert_eq!(path, format!("{dir}/other.sources"));
        assert!(text.ends_with("Signed-By: /etc/apt/keyrings/other.asc\n"), "{text}");
    }

    #[test]
    fn apt_sources() {
        let plan = plan("13.8");
        let text = plan.steps.iter().find_map(|it| match it {
            Step::Write { path, text, .. } if path.ends_with("debian.sources") => Some(text.as_str()),
            _ => None,
        });
        let expected = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n\
                        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
        assert_eq!(text, Some(expected));
    }
}
