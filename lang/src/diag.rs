//! Diagnostics: what went wrong, where, and what to do about it. Rendering is the caller's business.

use serde::Serialize;

use crate::source::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The result is still what the author wrote.
    Warning,
    /// No result.
    Error,
}

/// A place with a remark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What about it; may be empty.
    pub text: String,
}

/// One problem of the user's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, `E0101` or `W0101`; its kind in [`Code`].
    pub code: Code,
    /// One line, no full stop.
    pub message: String,
    /// The first is the primary place.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub hint: Option<String>,
    /// INCLUDE, FROM and RENDER statements that led here, outermost first.
    pub stack: Vec<Span>,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $summary:literal;)*) => {
        /// Every kind of problem; the number never changes meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $summary] $name,)* }

        impl Code {
            /// All of them, in order.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// `E0101`
            pub fn id(self) -> &'static str { match self { $(Code::$name => $code,)* } }

            /// Error or warning.
            pub fn severity(self) -> Severity { match self { $(Code::$name => Severity::$severity,)* } }

            /// One line on what the code stands for.
            pub fn summary(self) -> &'static str { match self { $(Code::$name => $summary,)* } }
        }
    };
}

codes! {
    UnknownInstruction = "E0101", Error, "A line does not start with an instruction.";
    UnexpectedToken = "E0102", Error, "A token stands where the grammar has no place for it.";
    UnterminatedString = "E0103", Error, "A string literal is not closed on its line.";
    BadEscape = "E0104", Error, "A string literal has an escape other than \\n, \\t, \\\" and \\\\.";
    MissingOperand = "E0105", Error, "An instruction lacks a word that it needs.";
    BadOption = "E0106", Error, "An option is unknown or its value is malformed.";
    BadModuleName = "E0107", Error, "A module name is malformed.";
    BadExpression = "E0108", Error, "The value of an argument is malformed.";
    TooDeep = "E0109", Error, "Literals are nested too deeply.";
    TemplateSyntax = "E0201", Error, "The template language does not parse here.";
    UndefinedValue = "E0202", Error, "A template uses a value that is not defined.";
    TemplateError = "E0203", Error, "A template failed while it was rendered.";
    UndefinedVariable = "E0204", Error, "An argument names a variable that the file does not define.";
    FileNotFound = "E0301", Error, "A file that a statement names cannot be read.";
    NotUtf8 = "E0302", Error, "A source file is not UTF-8.";
    IncludeTooDeep = "E0303", Error, "INCLUDE is nested more than 20 deep, most likely in a cycle.";
    FromCycle = "E0304", Error, "FROM leads back to the file itself.";
    UnknownPackage = "E0305", Error, "A module names a package that is not linked.";
    BadReference = "E0306", Error, "An image or base reference is malformed.";
    BadMount = "E0307", Error, "A mount lacks its source, or has one that it cannot take.";
    ManifestSyntax = "E0401", Error, "Raptor.toml does not parse.";
    ManifestValue = "E0402", Error, "A value in Raptor.toml has the wrong type or is missing.";
    StepFailed = "E0601", Error, "A step of a layer failed while it was built.";
    Ineffective = "W0501", Warning, "A statement has no effect.";
    DiffersFromUpstream = "W0502", Warning, "The older Raptor read this differently.";
    UnknownKey = "W0503", Warning, "Raptor.toml has a key that nothing reads.";
}

impl Diagnostic {
    /// A diagnostic with one place.
    pub fn new(code: Code, message: impl Into<String>, span: Span, label: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            message: message.into(),
            labels: vec![Label { span, text: label.into() }],
            hint: None,
            stack: Vec::new(),
        }
    }

    /// The same with a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}
