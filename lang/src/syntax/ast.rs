//! Typed views of tree nodes, for tools that work on the source as it is written.
//!
//! Every accessor returns an `Option` or an iterator: a tree of wrong text lacks parts. What statements mean
//! is the business of [`super::statements`], which reads rendered text.

use std::ops::Range;

use super::kind::SyntaxKind::{self, *};
use super::kind::{SyntaxElement, SyntaxNode, SyntaxToken};
use super::text;

/// A typed view of a node.
pub trait AstNode: Sized {
    /// The view, if the node is of a fitting kind.
    fn cast(node: SyntaxNode) -> Option<Self>;

    /// The node below the view.
    fn syntax(&self) -> &SyntaxNode;

    /// Bytes of the text.
    fn range(&self) -> Range<usize> {
        let range = self.syntax().text_range();
        range.start().into()..range.end().into()
    }
}

macro_rules! nodes {
    ($($(#[$doc:meta])* $name:ident = $($kind:ident)|+;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Hash)]
            pub struct $name(SyntaxNode);

            impl AstNode for $name {
                fn cast(node: SyntaxNode) -> Option<$name> {
                    matches!(node.kind(), $($kind)|+).then_some($name(node))
                }

                fn syntax(&self) -> &SyntaxNode {
                    &self.0
                }
            }
        )*
    };
}

nodes! {
    /// The file.
    File = ROOT;
    /// A statement of any instruction.
    Statement = FROM_STMT | RUN_STMT | CMD_STMT | ENTRYPOINT_STMT | ENV_STMT | WORKDIR_STMT | WRITE_STMT
        | MKDIR_STMT | COPY_STMT | RENDER_STMT | INCLUDE_STMT | FETCH_STMT | KEEP_STMT | MOUNT_STMT;
    /// An operand.
    Word = WORD | VALUE;
    /// A string with its quotes.
    StringLit = STRING;
    /// `--name[=value]` or `-p`.
    StatementOption = OPTION;
    /// A name of a module, with its instance.
    Module = MODULE;
    /// `KEY[=value]`
    EnvVar = ENV_VAR;
    /// `name[=expression]`
    Argument = ARG;
    /// A name.
    Name = NAME;
    /// `{{ … }}`
    Hole = TEMPLATE_EXPR;
    /// `{% … %}` or `$ …`
    Tag = TEMPLATE_BLOCK | LINE_STATEMENT;
    /// A template section with what it governs.
    Block = BLOCK;
    /// One tag of a section and what stands up to the next.
    Clause = CLAUSE;
}

impl File {
    /// All statements in order, also those in sections.
    pub fn statements(&self) -> impl Iterator<Item = Statement> + use<> {
        descendants(&self.0)
    }

    /// All sections in order, outer before inner.
    pub fn blocks(&self) -> impl Iterator<Item = Block> + use<> {
        descendants(&self.0)
    }

    /// All holes in order, also those in strings and comments.
    pub fn holes(&self) -> impl Iterator<Item = Hole> + use<> {
        descendants(&self.0)
    }
}

impl Statement {
    /// Which instruction it is.
    pub fn kind(&self) -> SyntaxKind {
        self.0.kind()
    }

    /// The word that says so.
    pub fn keyword(&self) -> Option<SyntaxToken> {
        token(&self.0, KEYWORD)
    }

    /// Its operands; those of a JSON array too.
    pub fn words(&self) -> impl Iterator<Item = Word> + use<> {
        let is_operand = |word: &Word| {
            let parent = word.0.parent().map(|parent| parent.kind());
            !matches!(parent, Some(OPTION | ENV_VAR | LOOKUP))
        };
        descendants(&self.0).filter(is_operand)
    }

    /// Its options.
    pub fn options(&self) -> impl Iterator<Item = StatementOption> + use<> {
        descendants(&self.0)
    }

    /// The module that FROM or INCLUDE names.
    pub fn module(&self) -> Option<Module> {
        children(&self.0).next()
    }

    /// The variables of ENV.
    pub fn vars(&self) -> impl Iterator<Item = EnvVar> + use<> {
        descendants(&self.0)
    }

    /// The arguments of INCLUDE and RENDER.
    pub fn args(&self) -> impl Iterator<Item = Argument> + use<> {
        descendants(&self.0)
    }

    /// The `<<EOF`.
    pub fn heredoc(&self) -> Option<SyntaxToken> {
        token(&self.0, HEREDOC)
    }
}

impl Word {
    /// What it says, quotes and escapes removed; nothing if a template has a part in it.
    pub fn value(&self) -> Option<String> {
        let is_template = |node: SyntaxNode| node.kind().is_template();
        if self.0.descendants().any(is_template) {
            return None;
        }
        let pieces: Vec<_> = self.0.children_with_tokens().map(|it| (it.kind(), text_of(&it))).collect();
        Some(text::word(pieces.iter().map(|(kind, raw)| (*kind, raw.as_str()))))
    }

    /// Its quoted parts.
    pub fn strings(&self) -> impl Iterator<Item = StringLit> + use<> {
        descendants(&self.0)
    }
}

impl StringLit {
    /// Whether it ends with a quote.
    pub fn is_closed(&self) -> bool {
        self.0.children_with_tokens().filter(|it| it.kind() == QUOTE).count() == 2
    }

    /// The templates in it.
    pub fn holes(&self) -> impl Iterator<Item = Hole> + use<> {
        descendants(&self.0)
    }
}

impl StatementOption {
    /// `chmod` of `--chmod`.
    pub fn name(&self) -> Option<SyntaxToken> {
        token(&self.0, BAREWORD)
    }
}

impl EnvVar {
    /// Left of the `=`.
    pub fn name(&self) -> Option<Name> {
        children(&self.0).next()
    }

    /// Right of the `=`.
    pub fn value(&self) -> Option<Word> {
        children(&self.0).next()
    }
}

impl Argument {
    /// Left of the `=`.
    pub fn name(&self) -> Option<Name> {
        children(&self.0).next()
    }

    /// The literal or variable right of the `=`.
    pub fn value(&self) -> Option<SyntaxNode> {
        self.0.children().find(|child| child.kind() != NAME)
    }
}

impl Tag {
    /// `if`, `endif`, `set`…
    pub fn keyword(&self) -> Option<SyntaxToken> {
        let mut tokens = self.0.children_with_tokens().filter_map(SyntaxElement::into_token);
        let first = tokens.find(|token| !matches!(token.kind(), TEMPLATE_OPEN | WHITESPACE))?;
        (first.kind() == TEMPLATE_NAME).then_some(first)
    }
}

impl Block {
    /// Its clauses: one for `if`, `elif` and `else` each.
    pub fn clauses(&self) -> impl Iterator<Item = Clause> + use<> {
        children(&self.0)
    }

    /// What ends it.
    pub fn end(&self) -> Option<Tag> {
        children(&self.0).last()
    }
}

impl Clause {
    /// What begins it.
    pub fn tag(&self) -> Option<Tag> {
        children(&self.0).next()
    }

    /// The statements in it, also those in sections inside of it.
    pub fn statements(&self) -> impl Iterator<Item = Statement> + use<> {
        descendants(&self.0)
    }
}

fn children<N: AstNode>(node: &SyntaxNode) -> impl Iterator<Item = N> + use<N> {
    node.children().filter_map(N::cast)
}

fn descendants<N: AstNode>(node: &SyntaxNode) -> impl Iterator<Item = N> + use<N> {
    node.descendants().skip(1).filter_map(N::cast)
}

/// The first token of a kind directly below a node.
fn token(node: &SyntaxNode, kind: SyntaxKind) -> Option<SyntaxToken> {
    node.children_with_tokens().filter_map(SyntaxElement::into_token).find(|token| token.kind() == kind)
}

fn text_of(element: &SyntaxElement) -> String {
    match element {
        SyntaxElement::Node(node) => node.text().to_string(),
        SyntaxElement::Token(token) => token.text().to_string(),
    }
}
