//! A project of any size, the same every time: chains of FROM over a few bases, shared INCLUDEs, instances, copied
//! files, templates and rendered files, as grown projects have them.

use std::fs;
use std::io;
use std::path::Path;

/// Modules in one chain of FROM, the top of which is an input of the job.
const CHAIN: usize = 10;
/// Modules that only define what others share.
const BASES: usize = 10;
/// Shared files to include, to copy and to render.
const SHARED: usize = 50;

/// Name of the job that reaches every module.
pub const JOB: &str = "all";

/// Writes a project of `n_modules` modules into a directory; gives the number of bytes in all its files.
pub fn generate(dir: &Path, n_modules: usize) -> io::Result<u64> {
    let mut bytes = 0;
    let mut write = |path: String, text: String| -> io::Result<()> {
        let file = dir.join(path);
        fs::create_dir_all(file.parent().unwrap_or(dir))?;
        bytes += text.len() as u64;
        fs::write(file, text)
    };
    for n in 0..SHARED {
        write(format!("lib/inc{n}.rinc"), include(n))?;
        write(format!("files/etc/file{n}"), format!("setting-{n} = yes\n").repeat(20))?;
        write(
            format!("files/page{n}.j2"),
            "host {{ host }}\n{% for n in ports %}port {{ n }}\n{% endfor %}".to_owned(),
        )?;
    }
    for n in 0..BASES {
        let text = format!(
            "# A base that others share.\nMKDIR -p /srv/{n}\nINCLUDE lib.inc{n} service=\"base-{n}\" n={n}\n"
        );
        write(format!("bases/base{n}.rapt"), text.replace("lib.", "$.lib."))?;
    }
    write(
        "tool.rapt".to_owned(),
        "MOUNT --layers input /input\nMOUNT --file output /output\nCMD true\n".to_owned(),
    )?;
    let n_chained = n_modules.saturating_sub(BASES + 1);
    let mut inputs = Vec::new();
    for n in 0..n_chained {
        let (chain, depth) = (n / CHAIN, n % CHAIN);
        // Every fifth module is a template for instances.
        let name = |depth: usize| match depth % 5 {
            4 => (format!("d{depth}@"), format!("d{depth}@i{chain}")),
            _ => (format!("d{depth}"), format!("d{depth}")),
        };
        let from = match depth {
            0 => format!("$.bases.base{}", chain % BASES),
            _ => name(depth - 1).1,
        };
        let (stem, called) = name(depth);
        write(format!("c{chain}/{stem}.rapt"), module(n, &from, stem.ends_with('@')))?;
        if depth + 1 == CHAIN || n + 1 == n_chained {
            inputs.push(format!("\"c{chain}.{called}\""));
        }
    }
    let manifest = format!(
        "[run.{JOB}]\ntarget = \"tool\"\noutput = \"out\"\ninput = [\n  {},\n]\n",
        inputs.join(",\n  ")
    );
    write("Raptor.toml".to_owned(), manifest)?;
    Ok(bytes)
}

/// One module: about thirty lines, with comments, continuations and a loop.
pub fn module(n: usize, from: &str, has_instance: bool) -> String {
    let who = if has_instance { "{{ instance }}" } else { "main" };
    let (one, two) = (n % SHARED, (n * 7 + 3) % SHARED);
    format!(
        "# Module {n}: a service with its users, settings and packages.\n\
         FROM {from}\n\n\
         $ set name = \"service-{n}\"\n\
         $ set ports = [80, 443, {n}]\n\n\
         ENV SERVICE=\"service-{n}\" LANG=C\n\
         WORKDIR /srv\n\
         RUN apt-get install -y \\\n    nginx-light \\\n    openssh-server \\\n    ca-certificates \\\n\n\
         RUN useradd --create-home --shell /bin/bash \"user-{n}\"\n\
         {{% for port in ports %}}\n\
         RUN /usr/bin/open-port --port={{{{ port }}}} --name \"{{{{ name }}}}-{who}\"\n\
         {{% endfor %}}\n\
         $ if ports | length > 2\n\
         WRITE --chmod 0644 \"many\\n\" /srv/ports-{n}\n\
         $ endif\n\
         MKDIR -p /srv/www/{n}/html\n\
         COPY --chmod 0644 ../files/etc/file{one} ../files/etc/file{two} /etc/\n\
         RENDER ../files/page{one}.j2 /srv/www/{n}/index host=name ports=ports\n\
         INCLUDE $.lib.inc{two} service=name n={n}\n\
         RUN systemctl enable getty@tty1.service\n\
         RUN sed -i \"s/^#Port 22/Port 2222/\" /etc/ssh/sshd_config\n\
         # The last words.\n\
         RUN rm -rf /var/lib/apt/lists\n"
    )
}

fn include(n: usize) -> String {
    format!(
        "# Shared part {n}.\nMKDIR --chmod 0755 /etc/{{{{ service }}}}\nWRITE \"number {{{{ n }}}} of {n}\\n\" /etc/{{{{ service }}}}/number-{n}\n\
         RUN chown -R root:root /etc/{{{{ service }}}}\n"
    )
}
