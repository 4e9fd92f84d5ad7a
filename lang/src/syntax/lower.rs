//! Tree of rendered text → typed statements and diagnostics.

use std::ops::Range;

use rowan::NodeOrToken;

use super::kind::SyntaxKind::{self, *};
use super::kind::SyntaxNode;
use super::parser::Parse;
use super::text;
use crate::def::ModuleName;
use crate::diag::Diagnostic;
use crate::source::Span;
use crate::stmt::{
    Arg, Chown, Expr, FileOpts, FromSource, Inst, Literal, Mount, MountKind, Spanned, Statement,
};

/// Statements of a rendered text, and everything that is wrong with it. `to_span` says where a range of
/// the rendered text comes from. A line with an error yields its diagnostic and no statement.
pub fn statements(
    parse: &Parse,
    to_span: &dyn Fn(Range<usize>) -> Span,
) -> (Vec<Statement>, Vec<Diagnostic>) {
    let lower = Lower { to_span };
    let statements = parse
        .syntax()
        .children()
        .filter(|node| node.kind().is_statement() && parse.is_clear(range(node).start))
        .filter_map(|node| Some(Statement { inst: lower.inst(&node)?, span: lower.span(&node) }))
        .collect();
    let diagnostics = parse
        .errors
        .iter()
        .map(|error| {
            let span = to_span(error.range.clone());
            let mut diagnostic = Diagnostic::new(error.code, &*error.message, span, &*error.label);
            diagnostic.hint.clone_from(&error.hint);
            diagnostic
        })
        .collect();
    (statements, diagnostics)
}

struct Lower<'a> {
    to_span: &'a dyn Fn(Range<usize>) -> Span,
}

// Statements. The parser has checked the line, so what is missing here is missing in no clear line.
impl Lower<'_> {
    fn inst(&self, node: &SyntaxNode) -> Option<Inst> {
        let mut words = children(node, WORD).map(|word| self.text(&word));
        Some(match node.kind() {
            FROM_STMT => Inst::From(self.from(node)?),
            RUN_STMT => Inst::Run(self.argv(node)),
            CMD_STMT => Inst::Cmd(self.argv(node)),
            ENTRYPOINT_STMT => Inst::Entrypoint(self.argv(node)),
            ENV_STMT => {
                Inst::Env(children(node, ENV_VAR).map(|var| self.env_var(&var)).collect::<Option<_>>()?)
            }
            WORKDIR_STMT => Inst::Workdir(words.next()?),
            WRITE_STMT => {
                let value = self.text(&children(node, VALUE).next()?);
                Inst::Write { value, path: words.next()?, opts: file_opts(node) }
            }
            MKDIR_STMT => {
                let parents = children(node, OPTION).any(|option| option.text() == "-p");
                Inst::Mkdir { path: words.next()?, parents, opts: file_opts(node) }
            }
            COPY_STMT => {
                let mut sources: Vec<_> = words.collect();
                let dest = sources.pop()?;
                Inst::Copy { sources, dest, opts: file_opts(node) }
            }
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

    fn from(&self, node: &SyntaxNode) -> Option<Spanned<FromSource>> {
        let reference = node.children().find(|child| matches!(child.kind(), DOCKER_REF | DEBIAN_REF));
        let Some(reference) = reference else {
            let Spanned { value, span } = self.module(node)?;
            return Some(Spanned { value: FromSource::Module(value), span });
        };
        let text = self.text(&children(&reference, WORD).next()?).value;
        let value = match reference.kind() {
            DOCKER_REF => FromSource::Docker(text),
            _ => FromSource::Debian(text),
        };
        Some(Spanned { value, span: self.span(&reference) })
    }

    fn argv(&self, node: &SyntaxNode) -> Vec<Spanned<String>> {
        let array = children(node, ARRAY).next();
        children(array.as_ref().unwrap_or(node), WORD).map(|word| self.text(&word)).collect()
    }

    fn env_var(&self, node: &SyntaxNode) -> Option<(Spanned<String>, Spanned<String>)> {
        let key = self.text(&children(node, NAME).next()?);
        let value = match (children(node, WORD).next(), tokens(node).find(|(kind, _)| *kind == EQUALS)) {
            (Some(word), _) => self.text(&word),
            (None, Some(_)) => {
                let end = range(node).end;
                Spanned { value: String::new(), span: (self.to_span)(end..end) }
            }
            (None, None) => key.clone(),
        };
        Some((key, value))
    }

    fn mount(&self, node: &SyntaxNode) -> Option<Mount> {
        let mut mount = Mount {
            kind: MountKind::Simple,
            each: None,
            name: self.text(&children(node, NAME).next()?),
            path: self.text(&children(node, WORD).next()?),
            readonly: false,
            optional: false,
        };
        for option in children(node, OPTION) {
            match option_name(&option).as_deref() {
                Some("simple") => mount.kind = MountKind::Simple,
                Some("file") => mount.kind = MountKind::File,
                Some("layers") => mount.kind = MountKind::Layers,
                Some("overlay") => mount.kind = MountKind::Overlay,
                Some("readonly") => mount.readonly = true,
                Some("readwrite") => mount.readonly = false,
                Some("optional") => mount.optional = true,
                Some("required") => mount.optional = false,
                _ => mount.each = Some(self.module(&option)?),
            }
        }
        Some(mount)
    }

    /// The module that is a child of `node`.
    fn module(&self, node: &SyntaxNode) -> Option<Spanned<ModuleName>> {
        let module = children(node, MODULE).next()?;
        let pieces: Vec<_> = tokens(&module).collect();
        let value = text::module(pieces.iter().map(|(kind, raw)| (*kind, raw.as_str()))).ok()?;
        Some(Spanned { value, span: self.span(&module) })
    }
}

// Arguments.
impl Lower<'_> {
    fn args(&self, node: &SyntaxNode) -> Option<Vec<Arg>> {
        children(node, ARG).map(|arg| self.arg(&arg)).collect()
    }

    fn arg(&self, node: &SyntaxNode) -> Option<Arg> {
        let name = self.text(&children(node, NAME).next()?);
        let value = match node.children().find(|child| child.kind() != NAME) {
            None => Spanned { value: Expr::Lookup(vec![name.clone()]), span: name.span },
            Some(value) if value.kind() == LOOKUP => {
                let path = children(&value, NAME).map(|name| self.text(&name)).collect();
                Spanned { value: Expr::Lookup(path), span: self.span(&value) }
            }
            Some(value) => Spanned { value: Expr::Literal(literal(&value)?), span: self.span(&value) },
        };
        Some(Arg { name, value })
    }
}

// Words.
impl Lower<'_> {
    fn text(&self, node: &SyntaxNode) -> Spanned<String> {
        let pieces: Vec<_> = tokens(node).collect();
        let value = text::word(pieces.iter().map(|(kind, raw)| (*kind, raw.as_str())));
        Spanned { value, span: self.span(node) }
    }

    fn span(&self, node: &SyntaxNode) -> Span {
        (self.to_span)(range(node))
    }
}

fn literal(node: &SyntaxNode) -> Option<Literal> {
    Some(match node.kind() {
        LIST => Literal::List(node.children().map(|item| literal(&item)).collect::<Option<_>>()?),
        MAP => Literal::Map(
            node.children()
                .map(|entry| {
                    let mut sides = entry.children();
                    Some((literal(&sides.next()?)?, literal(&sides.next()?)?))
                })
                .collect::<Option<_>>()?,
        ),
        _ => match tokens(node).next()? {
            (TRUE, _) => Literal::Bool(true),
            (FALSE, _) => Literal::Bool(false),
            (STRING, raw) => Literal::Str(text::unquote(&raw)),
            (_, raw) => Literal::Int(raw.parse().ok()?),
        },
    })
}

/// `--chmod` and `--chown`; the last of each wins.
fn file_opts(node: &SyntaxNode) -> FileOpts {
    let mut opts = FileOpts::default();
    for option in children(node, OPTION) {
        if let Some(owner) = children(&option, OWNER).next() {
            let pieces: Vec<_> = tokens(&owner).collect();
            opts.chown = text::owner(pieces.iter().map(|(kind, raw)| (*kind, raw.as_str())))
                .map(|(user, group)| Chown { user, group });
        } else if let Some((_, mode)) = tokens(&option).find(|(kind, _)| *kind == NUMBER) {
            opts.chmod = u32::from_str_radix(&mode, 8).ok();
        }
    }
    opts
}

/// `name` of `--name`.
fn option_name(node: &SyntaxNode) -> Option<String> {
    tokens(node).find(|(kind, _)| *kind == BAREWORD).map(|(_, raw)| raw)
}

fn children(node: &SyntaxNode, kind: SyntaxKind) -> impl Iterator<Item = SyntaxNode> {
    node.children().filter(move |child| child.kind() == kind)
}

/// Kind and text of the children, tokens and nodes alike.
fn tokens(node: &SyntaxNode) -> impl Iterator<Item = (SyntaxKind, String)> {
    node.children_with_tokens().map(|element| match element {
        NodeOrToken::Node(node) => (node.kind(), node.text().to_string()),
        NodeOrToken::Token(token) => (token.kind(), token.text().to_string()),
    })
}

fn range(node: &SyntaxNode) -> Range<usize> {
    let range = node.text_range();
    usize::from(range.start())..usize::from(range.end())
}
