//! Diagnostics: what went wrong, where, and what to do about it. Rendering is the caller's business.

mod fix;

use serde::Serialize;

pub use fix::{Applicability, Edit, Fix};

use crate::source::Span;
use crate::suggest;

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What about it; may be empty.
    pub text: String,
}

/// One problem of the user's files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// Stable code, `E0101` or `W0101`; its kind in [`Code`].
    pub code: Code,
    /// One line, no full stop.
    pub message: String,
    /// The first is the primary place.
    pub labels: Vec<Label>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The same as edits, where it is mechanical. In a box, because results carry diagnostics.
    pub fix: Option<Box<Fix>>,
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

            /// A page on it, in Markdown: what it means, a wrong example, a right one, and why it is so.
            pub fn page(self) -> &'static str {
                match self { $(Code::$name => include_str!(concat!("diag/explain/", $code, ".md")),)* }
            }
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
    BadHeredoc = "E0110", Error, "A heredoc has no end, is too long, or stands in the wrong place.";
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
    BadPattern = "E0308", Error, "A pattern of COPY does not parse, finds nothing, or finds two files of one name.";
    NotLocked = "E0309", Error, "Raptor.lock lacks something of the network, and the options forbid to add it.";
    BadImage = "E0310", Error, "An image file is damaged, lacks something, or has no image that fits.";
    BadPackages = "E0311", Error, "Packages of a Debian base do not exist, or do not go together.";
    ManifestSyntax = "E0401", Error, "Raptor.toml does not parse.";
    ManifestValue = "E0402", Error, "A value in Raptor.toml has the wrong type or is missing.";
    StepFailed = "E0601", Error, "A step of a layer failed while it was built.";
    InputFailed = "E0602", Error, "What a statement needs could not be fetched or unpacked.";
    Ineffective = "W0501", Warning, "A statement has no effect.";
    DiffersFromUpstream = "W0502", Warning, "The older Raptor read this differently.";
    UnknownKey = "W0503", Warning, "Raptor.toml has a key that nothing reads.";
    Vanishes = "W0504", Warning, "What a statement writes is not kept in the layer.";
    UnusedLink = "W0505", Warning, "Nothing uses a package that Raptor.toml links.";
    HidesStd = "W0506", Warning, "A link hides the standard library.";
    MountClash = "W0507", Warning, "A mount of a module hides another one.";
    UnusedSource = "W0508", Warning, "A job gives sources for a mount that its target does not have.";
    OutsideProject = "W0509", Warning, "A statement reads a file that is not part of the project.";
    UnusedArgument = "W0510", Warning, "A file is given an argument that it never mentions.";
    LinkClash = "W0515", Warning, "The project and a package both link a name, to different places.";
    UnusedFetch = "W0516", Warning, "Nothing uses a file that [fetch] of Raptor.toml describes.";
}

impl Code {
    /// The code with this id, in upper or lower case.
    pub fn find(id: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.id().eq_ignore_ascii_case(id))
    }

    /// The code whose id most resembles this, best one of the same hundred.
    pub fn nearest(id: &str) -> Option<Code> {
        let id = id.to_ascii_uppercase();
        let hundred = id.get(..3).unwrap_or_default();
        let all = || Code::ALL.iter().map(|code| code.id());
        let near = suggest::nearest(&id, all().filter(|it| it.starts_with(hundred)));
        Code::find(near.or_else(|| suggest::nearest(&id, all()))?)
    }
}

impl Diagnostic {
    /// A diagnostic with one place.
    pub fn new(code: Code, message: impl Into<String>, span: Span, label: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            message: message.into(),
            labels: vec![Label { span, text: label.into() }],
            hint: None,
            fix: None,
            stack: Vec::new(),
        }
    }

    /// The same with a hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a place beside the primary one.
    pub fn with_label(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// The same with a fix.
    pub fn with_fix(mut self, fix: Fix) -> Diagnostic {
        self.fix = Some(Box::new(fix));
        self
    }

    /// The same with the statements that led here, outermost first.
    pub fn with_stack(mut self, stack: &[Span]) -> Diagnostic {
        self.stack = stack.to_vec();
        self
    }

    /// "Did you mean" as hint and fix, for a word that is all of the primary place.
    pub fn did_you_mean(self, near: &str) -> Diagnostic {
        let fix = self.labels.first().map(|label| Fix::guess(label.span, near));
        let problem = self.with_hint(format!("did you mean `{near}`?"));
        fix.into_iter().fold(problem, Diagnostic::with_fix)
    }

    /// Error or warning.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// The primary place.
    pub fn primary(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }
}

/// Brings diagnostics into the order of the files and their lines, each once: a loop or a file that is included
/// twice tells the same problem many times.
pub fn in_order(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    // Problems at one place stay in the order in which they were found, so duplicates are sought by value.
    let mut seen = std::collections::BTreeSet::new();
    problems.retain(|it| seen.insert(it.clone()));
    problems.sort_by_key(Diagnostic::primary);
    problems
}
