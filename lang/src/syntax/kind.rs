//! Kinds of tokens and nodes of the syntax tree.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Kind of a token or node.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)]
        #[repr(u16)]
        pub enum SyntaxKind { $($(#[$doc])* $name,)* }

        impl SyntaxKind {
            const ALL: &[SyntaxKind] = &[$(SyntaxKind::$name,)*];
        }
    };
}

kinds! {
    /// Blanks, tabs, continuations.
    WHITESPACE,
    /// Whitespace, newlines too, that a template beside it removes.
    STRIPPED,
    /// LF or CR LF.
    NEWLINE,
    /// `#` up to the end of the line.
    COMMENT_TEXT,
    /// First word of a statement.
    KEYWORD,
    /// A letter or `_`, then anything but punctuation.
    BAREWORD,
    /// Decimal digits.
    NUMBER,
    /// A run that starts with any other character, `&&` or `+x`.
    OPERATOR,
    /// `true`
    TRUE,
    /// `false`
    FALSE,
    /// `[`
    L_BRACKET,
    /// `]`
    R_BRACKET,
    /// `{`
    L_BRACE,
    /// `}`
    R_BRACE,
    /// `:`
    COLON,
    /// `=`
    EQUALS,
    /// `,`
    COMMA,
    /// `/`
    SLASH,
    /// `.`
    DOT,
    /// `-`
    MINUS,
    /// `$`
    DOLLAR,
    /// `@`
    AT,
    /// `"`
    QUOTE,
    /// Text of a string that stands for itself.
    STRING_TEXT,
    /// An escape in a string, also a wrong one.
    ESCAPE,
    /// `<<EOF`, `<<-EOF`, `<<"EOF"`: a text follows behind the line.
    HEREDOC,
    /// Lines of that text.
    HEREDOC_TEXT,
    /// The line that ends it, without its newline.
    HEREDOC_END,
    /// `{{`, `{%`, `{#` with `-` or `+`, or the `$ ` of a line statement.
    TEMPLATE_OPEN,
    /// `}}`, `%}`, `#}` with `-` or `+`.
    TEMPLATE_CLOSE,
    /// Name or keyword in a template.
    TEMPLATE_NAME,
    /// String in a template.
    TEMPLATE_STRING,
    /// Number in a template.
    TEMPLATE_NUMBER,
    /// Operator or bracket in a template.
    TEMPLATE_OPERATOR,
    /// Text of a template comment.
    TEMPLATE_TEXT,
    /// A character that templates have no use for, or a string that does not end.
    TEMPLATE_ERROR,
    /// After the last token; never in a tree.
    EOF,

    /// The file.
    ROOT,
    /// A comment, with the templates in it.
    COMMENT,
    /// A string literal with its quotes.
    STRING,
    /// The text of a heredoc, with the templates in it.
    HEREDOC_BODY,
    /// `{{ … }}`
    TEMPLATE_EXPR,
    /// `{% … %}`
    TEMPLATE_BLOCK,
    /// `{# … #}`
    TEMPLATE_COMMENT,
    /// `$ …` with its newline.
    LINE_STATEMENT,
    /// A template section from its first to its last tag, with what it governs.
    BLOCK,
    /// One of its tags and what stands up to the next.
    CLAUSE,
    /// `FROM`
    FROM_STMT,
    /// `RUN`
    RUN_STMT,
    /// `CMD`
    CMD_STMT,
    /// `ENTRYPOINT`
    ENTRYPOINT_STMT,
    /// `ENV`
    ENV_STMT,
    /// `WORKDIR`
    WORKDIR_STMT,
    /// `WRITE`
    WRITE_STMT,
    /// `MKDIR`
    MKDIR_STMT,
    /// `COPY`
    COPY_STMT,
    /// `RENDER`
    RENDER_STMT,
    /// `INCLUDE`
    INCLUDE_STMT,
    /// `FETCH`
    FETCH_STMT,
    /// `KEEP`
    KEEP_STMT,
    /// `MOUNT`
    MOUNT_STMT,
    /// A line that starts with no instruction, or with a template.
    UNKNOWN_STMT,
    /// What no rule had a place for.
    ERROR,
    /// Adjacent tokens that make one word.
    WORD,
    /// Text that WRITE writes.
    VALUE,
    /// JSON form of an argv.
    ARRAY,
    /// `docker://…`
    DOCKER_REF,
    /// `debian://…`
    DEBIAN_REF,
    /// `oci:…`, `oci-archive:…` or `docker-archive:…`
    IMAGE_REF,
    /// Name of a module.
    MODULE,
    /// Name of a variable, argument, mount or segment.
    NAME,
    /// `--chmod`, `--chown`, `-p`, `--exclude`, digests of FETCH, options of MOUNT.
    OPTION,
    /// Value of `--chown`.
    OWNER,
    /// `KEY[=value]` of ENV.
    ENV_VAR,
    /// `name[=expression]` of INCLUDE and RENDER.
    ARG,
    /// `a.b.c`
    LOOKUP,
    /// Number, bool or string.
    LITERAL,
    /// `[…]`
    LIST,
    /// `{…}`
    MAP,
    /// `key: value`
    MAP_ENTRY,
}

impl SyntaxKind {
    /// Whether a node of this kind is a statement that starts with an instruction.
    pub fn is_statement(self) -> bool {
        (SyntaxKind::FROM_STMT..=SyntaxKind::MOUNT_STMT).contains(&self)
    }

    /// Whether it is one of the four kinds of template nodes.
    pub fn is_template(self) -> bool {
        (SyntaxKind::TEMPLATE_EXPR..=SyntaxKind::LINE_STATEMENT).contains(&self)
    }
}

/// Ties [`SyntaxKind`] to rowan's trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RaptLanguage {}

impl rowan::Language for RaptLanguage {
    type Kind = SyntaxKind;

    fn kind_from_raw(raw: rowan::SyntaxKind) -> SyntaxKind {
        SyntaxKind::ALL.get(usize::from(raw.0)).copied().unwrap_or(SyntaxKind::ERROR)
    }

    fn kind_to_raw(kind: SyntaxKind) -> rowan::SyntaxKind {
        rowan::SyntaxKind(kind as u16)
    }
}

/// A node of the tree.
pub type SyntaxNode = rowan::SyntaxNode<RaptLanguage>;
/// A token of the tree.
pub type SyntaxToken = rowan::SyntaxToken<RaptLanguage>;
/// A node or a token.
pub type SyntaxElement = rowan::SyntaxElement<RaptLanguage>;
