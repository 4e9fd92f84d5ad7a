//! Statements as JSON: what `raptor parse` prints and what conformance cases compare.

use serde_json::{Map, Value, json};

use crate::source::Span;
use crate::stmt::{Arg, Expr, FileOpts, FromSource, Inst, Literal, Mount, Spanned, Statement};

/// `{"statements":[{"inst":"RUN","argv":["id"],"span":[0,6]}, …]}`
pub fn statements_json(statements: &[Statement]) -> Value {
    json!({ "statements": statements.iter().map(statement).collect::<Vec<_>>() })
}

fn statement(statement: &Statement) -> Value {
    let (name, mut value) = inst(&statement.inst);
    let Span { start, end, .. } = statement.span;
    if let Value::Object(map) = &mut value {
        map.insert("inst".into(), name.into());
        map.insert("span".into(), json!([start, end]));
    }
    value
}

fn inst(inst: &Inst) -> (&'static str, Value) {
    match inst {
        Inst::From(source) => {
            let source = match &source.value {
                FromSource::Docker(reference) => json!({ "docker": reference }),
                FromSource::Debian(suite) => json!({ "debian": suite }),
                FromSource::Image(image) => json!({ "image": image.to_string() }),
                FromSource::Module(name) => json!({ "module": name.to_string() }),
            };
            ("FROM", json!({ "source": source }))
        }
        Inst::Run(argv) => ("RUN", json!({ "argv": strings(argv) })),
        Inst::Cmd(argv) => ("CMD", json!({ "argv": strings(argv) })),
        Inst::Entrypoint(argv) => ("ENTRYPOINT", json!({ "argv": strings(argv) })),
        Inst::Env(vars) => {
            let vars: Vec<_> = vars.iter().map(|(key, value)| json!([key.value, value.value])).collect();
            ("ENV", json!({ "vars": vars }))
        }
        Inst::Workdir(path) => ("WORKDIR", json!({ "path": path.value })),
        Inst::Write { value, path, opts } => {
            ("WRITE", with_opts(json!({ "value": value.value, "path": path.value }), opts))
        }
        Inst::Mkdir { path, parents, opts } => {
            ("MKDIR", with_opts(json!({ "path": path.value, "parents": parents }), opts))
        }
        Inst::Copy { sources, dest, exclude, opts } => {
            let mut value = json!({ "sources": strings(sources), "dest": dest.value });
            if let (Value::Object(map), false) = (&mut value, exclude.is_empty()) {
                map.insert("exclude".into(), json!(strings(exclude)));
            }
            ("COPY", with_opts(value, opts))
        }
        Inst::Fetch { url, dest, digest, opts } => {
            let digest = digest.as_ref().map(|it| &it.value);
            let value = json!({ "url": url.value, "dest": dest.value, "digest": digest });
            ("FETCH", with_opts(value, opts))
        }
        Inst::Keep(paths) => ("KEEP", json!({ "paths": strings(paths) })),
        Inst::Render { source, dest, opts, args: list } => {
            let value = json!({ "source": source.value, "dest": dest.value, "args": args(list) });
            ("RENDER", with_opts(value, opts))
        }
        Inst::Include { module, args: list } => {
            ("INCLUDE", json!({ "module": module.value.to_string(), "args": args(list) }))
        }
        Inst::Mount(mount) => ("MOUNT", mount_json(mount)),
    }
}

fn mount_json(mount: &Mount) -> Value {
    let mut value = json!({
        "kind": mount.kind,
        "name": mount.name.value,
        "path": mount.path.value,
        "readonly": mount.readonly,
        "optional": mount.optional,
    });
    if let (Value::Object(map), Some(each)) = (&mut value, &mount.each) {
        map.insert("each".into(), each.value.to_string().into());
    }
    value
}

fn with_opts(mut value: Value, opts: &FileOpts) -> Value {
    if let Value::Object(map) = &mut value {
        map.insert("chmod".into(), opts.chmod.map(|mode| format!("{mode:04o}")).into());
        map.insert("chown".into(), json!(opts.chown));
    }
    value
}

fn strings(words: &[Spanned<String>]) -> Vec<&str> {
    words.iter().map(|word| word.value.as_str()).collect()
}

fn args(args: &[Arg]) -> Value {
    let mut map = Map::new();
    for arg in args {
        let value = match &arg.value.value {
            Expr::Literal(value) => literal(value),
            Expr::Lookup(path) => json!({ "lookup": strings(path).join(".") }),
        };
        map.insert(arg.name.value.clone(), value);
    }
    Value::Object(map)
}

fn literal(value: &Literal) -> Value {
    match value {
        Literal::Int(value) => json!(value),
        Literal::Bool(value) => json!(value),
        Literal::Str(value) => json!(value),
        Literal::List(items) => items.iter().map(literal).collect(),
        Literal::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    let key = match key {
                        Literal::Str(key) => key.clone(),
                        key => literal(key).to_string(),
                    };
                    (key, literal(value))
                })
                .collect(),
        ),
    }
}
