//! Flat tree of rendered text → typed statements and diagnostics.

use std::ops::Range;

use super::SyntaxFix;
use super::flat::Node;
use super::kind::SyntaxKind::*;
use super::parser::Parse;
use super::text;
use crate::def::ModuleName;
use crate::diag::{Diagnostic, Edit, Fix};
use crate::source::Span;
use crate::stmt::{
    Arg, Chown, Digest, Expr, FileOpts, FromSource, Inst, Literal, Mount, MountKind, Spanned, Statement,
};

/// Longest text that a fix replaces, in bytes.
const MAX_FIXED: usize = 4096;

/// Statements of a rendered text, and everything that is wrong with it. `to_span` says where a range of
/// the rendered text comes from. A line with an error yields its diagnostic and no statement.
pub fn statements(
    parse: &Parse,
    to_span: &dyn Fn(Range<usize>) -> Span,
) -> (Vec<Statement>, Vec<Diagnostic>) {
    let lower = Lower { to_span };
    let statements = parse
        .statements()
        .filter(|node| node.is_clear())
        .filter_map(|node| Some(Statement { inst: lower.inst(node)?, span: lower.span(node) }))
        .collect();
    let diagnostics = parse
        .errors
        .iter()
        .map(|error| {
            let span = to_span(error.range.clone());
            let mut diagnostic = Diagnostic::new(error.code, &*error.message, span, &*error.label);
            diagnostic.hint.clone_from(&error.hint);
            diagnostic.fix = error.fix.as_ref().and_then(|it| fix(it, to_span)).map(Box::new);
            diagnostic
        })
        .collect();
    (statements, diagnostics)
}

struct Heredoc {
    operator: Span,
    text: Spanned<String>,
}

/// A fix of the source; none if a template wrote what it would change.
fn fix(fix: &SyntaxFix, to_span: &dyn Fn(Range<usize>) -> Span) -> Option<Fix> {
    let edits = fix.edits.iter().map(|(range, text)| {
        let span = written(range.clone(), to_span)?;
        Some(Edit { span, text: text.clone() })
    });
    Some(Fix { applicability: fix.applicability, edits: edits.collect::<Option<_>>()? })
}

/// The span of a range that stands in the source as it is, byte for byte. A tag has more bytes than one, so what it
/// wrote cannot be taken for source text.
fn written(range: Range<usize>, to_span: &dyn Fn(Range<usize>) -> Span) -> Option<Span> {
    let insertion = range.is_empty();
    let bytes = if insertion { range.start.checked_sub(1)?..range.start } else { range };
    let first = to_span(bytes.start..bytes.start + 1);
    let follows = |(n, at): (usize, usize)| {
        let start = first.start as usize + n;
        to_span(at..at + 1) == Span::new(first.file, start, start + 1)
    };
    if bytes.len() > MAX_FIXED || !bytes.clone().enumerate().all(follows) {
        return None;
    }
    let (start, end) = (first.start as usize, first.start as usize + bytes.len());
    Some(Span::new(first.file, if insertion { end } else { start }, end))
}

struct Lower<'a> {
    to_span: &'a dyn Fn(Range<usize>) -> Span,
}

// Statements. The parser has checked the line, so what is missing here is missing in no clear line.
impl Lower<'_> {
    fn inst(&self, node: Node<'_>) -> Option<Inst> {
        let mut words = node.children_of(WORD).map(|word| self.text(word));
        Some(match node.kind() {
            FROM_STMT => Inst::From(self.from(node)?),
            RUN_STMT => Inst::Run(match self.heredoc(node) {
                Some(script) => self.script(script),
                None => self.argv(node),
            }),
            CMD_STMT => Inst::Cmd(self.argv(node)),
            ENTRYPOINT_STMT => Inst::Entrypoint(self.argv(node)),
            ENV_STMT => {
                Inst::Env(node.children_of(ENV_VAR).map(|var| self.env_var(var)).collect::<Option<_>>()?)
            }
            WORKDIR_STMT => Inst::Workdir(words.next()?),
            WRITE_STMT => {
                let value = match self.heredoc(node) {
                    Some(heredoc) => heredoc.text,
                    None => self.text(node.children_of(VALUE).next()?),
                };
                Inst::Write { value, path: words.next()?, opts: file_opts(node) }
            }
            MKDIR_STMT => {
                let parents = node.children_of(OPTION).any(|option| option_name(option) == Some("p"));
                Inst::Mkdir { path: words.next()?, parents, opts: file_opts(node) }
            }
            COPY_STMT => {
                let mut sources: Vec<_> = words.collect();
                let dest = sources.pop()?;
                let exclude = self.options(node, "exclude");
                Inst::Copy { sources, dest, exclude, opts: file_opts(node) }
            }
            FETCH_STMT => Inst::Fetch {
                url: words.next()?,
                dest: words.next()?,
                digest: self.digest(node),
                opts: file_opts(node),
            },
            KEEP_STMT => Inst::Keep(words.collect()),
            RENDER_STMT => Inst::Render {
                source: words.next()?,
                dest: words.next()?,
                opts: file_opts(node),
                args: self.args(node)?,
            },
            INCLUDE_STMT => Inst::Include { module: self.module(node)?, args: self.args(node)? },
            MOUNT_STMT => Inst::Mount(self.mount(node)?),
            _ => return None,
        })
    }

    fn from(&self, node: Node<'_>) -> Option<Spanned<FromSource>> {
        let is_reference = |kind| matches!(kind, DOCKER_REF | DEBIAN_REF | IMAGE_REF);
        let reference = node.children().find(|child| is_reference(child.kind()));
        let Some(reference) = reference else {
            let Spanned { value, span } = self.module(node)?;
            return Some(Spanned { value: FromSource::Module(value), span });
        };
        let text = self.text(reference.children_of(WORD).next()?).value;
        let value = match reference.kind() {
            IMAGE_REF => {
                let scheme: String =
                    reference.pieces().map_while(|(kind, raw)| (kind != COLON).then_some(raw)).collect();
                FromSource::Image(text::image_file(&scheme, &text)?)
            }
            DOCKER_REF => FromSource::Docker(text),
            _ => FromSource::Debian(text),
        };
        Some(Spanned { value, span: self.span(reference) })
    }

    fn argv(&self, node: Node<'_>) -> Vec<Spanned<String>> {
        let array = node.children_of(ARRAY).next();
        array.unwrap_or(node).children_of(WORD).map(|word| self.text(word)).collect()
    }

    /// A script as a program and its arguments; standard input stays free.
    fn script(&self, script: Heredoc) -> Vec<Spanned<String>> {
        let program = ["/bin/sh", "-eu", "-c"].map(|it| Spanned { value: it.into(), span: script.operator });
        program.into_iter().chain([script.text]).collect()
    }

    fn heredoc(&self, node: Node<'_>) -> Option<Heredoc> {
        let (operator, range) = node.piece(HEREDOC)?;
        let (raw, body) = node.piece(HEREDOC_BODY)?;
        let value = text::heredoc_operator(operator)?.body(raw);
        let text = Spanned { value, span: (self.to_span)(body) };
        Some(Heredoc { operator: (self.to_span)(range), text })
    }

    fn env_var(&self, node: Node<'_>) -> Option<(Spanned<String>, Spanned<String>)> {
        let key = self.text(node.children_of(NAME).next()?);
        let value = match (node.children_of(WORD).next(), node.piece(EQUALS)) {
            (Some(word), _) => self.text(word),
            (None, Some(_)) => {
                let end = node.range().end;
                Spanned { value: String::new(), span: (self.to_span)(end..end) }
            }
            (None, None) => key.clone(),
        };
        Some((key, value))
    }

    fn mount(&self, node: Node<'_>) -> Option<Mount> {
        let mut mount = Mount {
            kind: MountKind::Simple,
            each: None,
            name: self.text(node.children_of(NAME).next()?),
            path: self.text(node.children_of(WORD).next()?),
            readonly: false,
            optional: false,
        };
        for option in node.children_of(OPTION) {
            match option_name(option) {
                Some("simple") => mount.kind = MountKind::Simple,
                Some("file") => mount.kind = MountKind::File,
                Some("layers") => mount.kind = MountKind::Layers,
                Some("overlay") => mount.kind = MountKind::Overlay,
                Some("readonly") => mount.readonly = true,
                Some("readwrite") => mount.readonly = false,
                Some("optional") => mount.optional = true,
                Some("required") => mount.optional = false,
                _ => mount.each = Some(self.module(option)?),
            }
        }
        Some(mount)
    }

    /// Values of an option that may be repeated.
    fn options(&self, node: Node<'_>, name: &str) -> Vec<Spanned<String>> {
        let named = node.children_of(OPTION).filter(|it| option_name(*it) == Some(name));
        named.filter_map(|it| it.children_of(WORD).next()).map(|it| self.text(it)).collect()
    }

    /// The last digest counts.
    fn digest(&self, node: Node<'_>) -> Option<Spanned<Digest>> {
        let digest = |option: Node<'_>| {
            let Spanned { value, span } = self.text(option.children_of(WORD).next()?);
            let value = match option_name(option)? {
                "sha256" => Digest::Sha256(value.to_ascii_lowercase()),
                "blake3" => Digest::Blake3(value.to_ascii_lowercase()),
                _ => return None,
            };
            Some(Spanned { value, span })
        };
        node.children_of(OPTION).filter_map(digest).last()
    }

    /// The module that is a child of `node`.
    fn module(&self, node: Node<'_>) -> Option<Spanned<ModuleName>> {
        let module = node.children_of(MODULE).next()?;
        let value = text::module(module.pieces()).ok()?;
        Some(Spanned { value, span: self.span(module) })
    }
}

// Arguments.
impl Lower<'_> {
    fn args(&self, node: Node<'_>) -> Option<Vec<Arg>> {
        node.children_of(ARG).map(|arg| self.arg(arg)).collect()
    }

    fn arg(&self, node: Node<'_>) -> Option<Arg> {
        let name = self.text(node.children_of(NAME).next()?);
        let value = match node.children().find(|child| child.kind() != NAME) {
            None => Spanned { value: Expr::Lookup(vec![name.clone()]), span: name.span },
            Some(value) if value.kind() == LOOKUP => {
                let path = value.children_of(NAME).map(|name| self.text(name)).collect();
                Spanned { value: Expr::Lookup(path), span: self.span(value) }
            }
            Some(value) => Spanned { value: Expr::Literal(literal(value)?), span: self.span(value) },
        };
        Some(Arg { name, value })
    }
}

// Words.
impl Lower<'_> {
    fn text(&self, node: Node<'_>) -> Spanned<String> {
        let is_string = |(kind, _)| kind == STRING;
        let value = match node.pieces().any(is_string) {
            true => text::word(node.pieces()),
            false => node.text().to_owned(),
        };
        Spanned { value, span: self.span(node) }
    }

    fn span(&self, node: Node<'_>) -> Span {
        (self.to_span)(node.range())
    }
}

fn literal(node: Node<'_>) -> Option<Literal> {
    Some(match node.kind() {
        LIST => Literal::List(node.children().map(literal).collect::<Option<_>>()?),
        MAP => Literal::Map(
            node.children()
                .map(|entry| {
                    let mut sides = entry.children();
                    Some((literal(sides.next()?)?, literal(sides.next()?)?))
                })
                .collect::<Option<_>>()?,
        ),
        _ => match node.pieces().next()? {
            (TRUE, _) => Literal::Bool(true),
            (FALSE, _) => Literal::Bool(false),
            (STRING, raw) => Literal::Str(text::unquote(raw)),
            (_, raw) => Literal::Int(raw.parse().ok()?),
        },
    })
}

/// `--chmod` and `--chown`; the last of each wins.
fn file_opts(node: Node<'_>) -> FileOpts {
    let mut opts = FileOpts::default();
    for option in node.children_of(OPTION) {
        match option_name(option) {
            Some("chmod") => {
                let mode = option.piece(NUMBER);
                opts.chmod = mode.and_then(|(mode, _)| u32::from_str_radix(mode, 8).ok());
            }
            Some("chown") => {
                let owner = option.children_of(OWNER).next().and_then(|owner| text::owner(owner.pieces()));
                opts.chown = owner.map(|(user, group)| Chown { user, group });
            }
            _ => {}
        }
    }
    opts
}

/// `name` of `--name` or `-name`.
fn option_name(node: Node<'_>) -> Option<&str> {
    node.piece(BAREWORD).map(|(raw, _)| raw)
}
