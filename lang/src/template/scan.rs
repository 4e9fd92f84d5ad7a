//! Finds the tags of a template, and adds calls that tell which `{{ … }}` is about to write.
//!
//! It follows the lexer of minijinja with our syntax (`{{`, `{%`, `{#`, lines that start with `$ `). It is only
//! trusted for templates that compile, and only to place spans: a mistake here cannot change what is rendered,
//! because the instrumented text must compile too and its additions write nothing.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use super::bounds;

/// The function that the added calls name; templates that use the name themselves stay as they are.
pub(super) const PROBE: &str = "__raptor_at";

/// Most words and operators in one expression.
const MAX_TOKENS: usize = 3000;

/// Most `:` in square brackets of one tag: the engine reads slices of slices recursively.
const MAX_SLICES: usize = 16;

/// Most `elif` of one `if`.
const MAX_BRANCHES: usize = 500;

/// Whether the engine would copy the text as it is.
pub(super) fn is_plain(text: &str) -> bool {
    next_marker(text.as_bytes(), 0).is_none()
}

/// A template with probes, and the way back to what its author wrote.
#[derive(Debug)]
pub(super) struct Instrumented {
    /// Text for the template engine.
    pub(super) source: String,
    /// Ranges in the original that write values; the probe with number `first_id + n` announces the n-th.
    pub(super) writers: Vec<Range<usize>>,
    /// Names that the template assigns somewhere.
    pub(super) names: BTreeSet<String>,
    inserts: Vec<Insert>,
}

#[derive(Debug)]
struct Insert {
    /// Offset in the original.
    at: usize,
    /// Bytes of the original that it stands for.
    removed: usize,
    /// Offset in the instrumented text.
    pos: usize,
    len: usize,
}

/// A change of the text.
#[derive(Debug)]
pub(super) struct Edit {
    /// Where.
    pub(super) at: usize,
    /// Bytes that go.
    pub(super) removed: usize,
    /// What comes.
    pub(super) added: String,
    /// Order among changes at the same place.
    pub(super) rank: Rank,
}

/// Which change at a place comes first: inner brackets close before outer ones, and open after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// End of an operator or literal.
    Close,
    /// End of a whole expression.
    CloseWhole,
    /// An operator itself.
    Replace,
    /// Start of a whole expression, or a statement.
    OpenWhole,
    /// Start of an operator or literal that ends there.
    Open(usize),
}

impl Edit {
    fn order(&self) -> (usize, u8, Reverse<usize>) {
        let (rank, end) = match self.rank {
            Rank::Close => (0, 0),
            Rank::CloseWhole => (1, 0),
            Rank::Replace => (2, 0),
            Rank::OpenWhole => (3, 0),
            Rank::Open(end) => (4, end),
        };
        (self.at, rank, Reverse(end))
    }
}

impl Instrumented {
    /// The template as it is, without probes.
    pub(super) fn plain(text: &str) -> Instrumented {
        let names = BTreeSet::new();
        Instrumented { source: text.to_owned(), writers: Vec::new(), names, inserts: Vec::new() }
    }

    /// Offset in the original of an offset in the instrumented text.
    pub(super) fn original(&self, pos: usize) -> usize {
        let n_before = self.inserts.partition_point(|insert| insert.pos <= pos);
        match n_before.checked_sub(1).and_then(|idx| self.inserts.get(idx)) {
            Some(insert) if pos < insert.pos + insert.len => insert.at,
            Some(insert) => insert.at + insert.removed + (pos - insert.pos - insert.len),
            None => pos,
        }
    }
}

/// Adds probes outside of constructs that capture text (macro, call, filter and block set), whose inner writes
/// reach the output as one value; bounds what `set` keeps; and makes the `edits`.
pub(super) fn instrument(text: &str, first_id: u32, mut edits: Vec<Edit>) -> Instrumented {
    let mut result = Instrumented::plain(text);
    let has_probes = !text.contains(PROBE);
    let mut captures = 0usize;
    let whole = |at: usize, added: String| Edit { at, removed: 0, added, rank: Rank::OpenWhole };
    let close = |at: usize| Edit { at, removed: 0, added: ")".to_owned(), rank: Rank::CloseWhole };
    for tag in tags(text).0 {
        let inner = text.get(tag.inner.clone()).unwrap_or_default();
        let probe = format!("{PROBE}({},", first_id + result.writers.len() as u32);
        if tag.kind == Kind::Expr {
            if has_probes && captures == 0 && !writes_by_itself(inner) {
                edits.push(whole(tag.inner.start, probe));
                edits.push(close(tag.inner.end));
                result.writers.push(tag.whole);
            }
            continue;
        }
        let keyword = word(inner);
        collect_names(keyword, inner, &mut result.names);
        match keyword {
            "call" | "filter" => {
                if has_probes && captures == 0 {
                    let statement = match tag.kind {
                        Kind::Line => format!("$ do {probe}0)\n"),
                        _ => format!("{}do {probe}0)%}}", &text[tag.whole.start..tag.inner.start]),
                    };
                    edits.push(whole(tag.whole.start, statement));
                    result.writers.push(tag.whole);
                }
                captures += 1;
            }
            "macro" => captures += 1,
            "set" => match tag.assigns {
                Some(at) => {
                    edits.push(whole(at, format!("{}(", bounds::HOLD)));
                    edits.push(close(tag.inner.end));
                }
                None => captures += 1,
            },
            "endcall" | "endfilter" | "endmacro" | "endset" => captures = captures.saturating_sub(1),
            _ => {}
        }
    }
    edits.sort_by_key(Edit::order);
    result.apply(text, edits);
    result
}

impl Instrumented {
    fn apply(&mut self, text: &str, edits: Vec<Edit>) {
        let mut source = String::with_capacity(text.len() + edits.len() * 16);
        let mut done = 0;
        for Edit { at, removed, added, .. } in edits {
            source.push_str(&text[done..at]);
            self.inserts.push(Insert { at, removed, pos: source.len(), len: added.len() });
            source.push_str(&added);
            done = at + removed;
        }
        source.push_str(&text[done..]);
        self.source = source;
    }
}

/// `super()`, `loop(…)` and `self.block()` write raw text when they are the whole expression; wrapped into a
/// call they would be captured first, and the places of that text lost.
fn writes_by_itself(expr: &str) -> bool {
    let name = word(expr);
    let rest = expr.trim_start()[name.len()..].trim_start();
    match name {
        "super" | "loop" => rest.starts_with('('),
        "self" => rest.starts_with('.'),
        _ => false,
    }
}

fn word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

fn collect_names(keyword: &str, inner: &str, names: &mut BTreeSet<String>) {
    let rest = &inner.trim_start()[keyword.len()..];
    let targets = match keyword {
        "set" | "with" => rest.split('=').next(),
        "for" => rest.split(" in ").next(),
        "macro" => rest.split('(').next(),
        "import" | "from" => rest.rsplit(['"', '\'']).next(),
        _ => None,
    };
    let words = targets.unwrap_or_default().split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    names.extend(
        words.filter(|it| !matches!(*it, "" | "import" | "as" | "with" | "context")).map(str::to_owned),
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Expr,
    Block,
    Line,
}

#[derive(Debug)]
struct Tag {
    kind: Kind,
    /// With delimiters.
    whole: Range<usize>,
    /// Between the delimiters and their whitespace marks.
    inner: Range<usize>,
    /// Behind the first `=` outside of all brackets.
    assigns: Option<usize>,
    /// Words and operators of the longest expression between commas.
    longest: usize,
    /// `:` in square brackets.
    n_slices: usize,
}

/// The first tag that would exhaust the stack: the engine works recursively through chains of operators, and
/// through the branches of an `if`, and has no limit for either.
pub(super) fn overlong(text: &str) -> Option<Range<usize>> {
    let mut branches: Vec<usize> = Vec::new();
    for tag in tags(text).0 {
        let keyword = if tag.kind == Kind::Expr { "" } else { word(text.get(tag.inner.clone())?) };
        match keyword {
            "if" => branches.push(0),
            "endif" => drop(branches.pop()),
            "elif" => branches.iter_mut().next_back().into_iter().for_each(|it| *it += 1),
            _ => {}
        }
        if tag.longest > MAX_TOKENS
            || tag.n_slices > MAX_SLICES
            || branches.last().is_some_and(|it| *it > MAX_BRANCHES)
        {
            return Some(tag.whole);
        }
    }
    None
}

/// Where the first comment, raw block or tag begins that is never closed.
pub(super) fn unclosed(text: &str) -> Option<usize> {
    tags(text).1
}

/// Ranges of which only rendering tells what they become, widened to whole lines and what continues them.
pub(super) fn uncertain(text: &str) -> Vec<Range<usize>> {
    let (tags, unclosed, mut ranges) = tags(text);
    let mut open = Vec::new();
    for tag in tags {
        let keyword =
            if tag.kind == Kind::Expr { "" } else { word(text.get(tag.inner.clone()).unwrap_or_default()) };
        match keyword {
            "extends" => ranges.push(0..text.len()),
            "call" | "filter" | "macro" => open.push(tag.whole.start),
            "set" if tag.assigns.is_none() => open.push(tag.whole.start),
            "endcall" | "endfilter" | "endmacro" | "endset" => {
                ranges.extend(open.pop().map(|start| start..tag.whole.end));
            }
            _ => {}
        }
        ranges.push(tag.whole);
    }
    ranges.extend(open.into_iter().chain(unclosed).map(|start| start..text.len()));
    ranges.into_iter().map(|it| lines_of(text, it)).collect()
}

/// The lines that a range touches, with those that a `\` at their end joins to them.
fn lines_of(text: &str, range: Range<usize>) -> Range<usize> {
    let continues = |line: &str| line.trim_end_matches('\r').ends_with('\\');
    let mut start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    while start > 0 && continues(&text[..start - 1]) {
        start = text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
    }
    let line_end = |from: usize| text[from..].find('\n').map_or(text.len(), |len| from + len);
    let mut end = line_end(range.end);
    while end < text.len() && continues(&text[..end]) {
        end = line_end(end + 1);
    }
    start..end
}

/// Every expression, block and line statement, in order, up to one that is never closed; where that begins; and
/// where comments and raw blocks are.
fn tags(text: &str) -> (Vec<Tag>, Option<usize>, Vec<Range<usize>>) {
    let mut tags = Vec::new();
    let mut skipped = Vec::new();
    let mut pos = 0;
    while let Some((start, marker)) = next_marker(text.as_bytes(), pos) {
        let rest = &text[start + 2..];
        let mark = usize::from(rest.starts_with(['-', '+']));
        let tag = match marker {
            b'#' => match rest[mark..].find("#}") {
                Some(len) => {
                    pos = start + 2 + mark + len + 2;
                    skipped.push(start..pos);
                    continue;
                }
                None => None,
            },
            b'%' => match after_basic_tag(&rest[mark..], "raw") {
                Some(body) => match after_raw(body) {
                    Some(after) => {
                        pos = text.len() - after.len();
                        skipped.push(start..pos);
                        continue;
                    }
                    None => None,
                },
                None => tag(text, Kind::Block, start, start + 2 + mark),
            },
            b'{' => tag(text, Kind::Expr, start, start + 2 + mark),
            _ => tag(text, Kind::Line, start, start + 2),
        };
        let Some(tag) = tag else { return (tags, Some(start), skipped) };
        pos = tag.whole.end;
        tags.push(tag);
    }
    (tags, None, skipped)
}

/// Next place where raw text ends, and the byte that tells how: `{`, `%`, `#` after a brace, or `$`.
fn next_marker(bytes: &[u8], from: usize) -> Option<(usize, u8)> {
    let pairs = bytes.get(from..)?.windows(2).enumerate();
    let mut found = pairs.filter_map(|(offset, pair)| match pair {
        [b'{', second @ (b'{' | b'%' | b'#')] => Some((from + offset, *second)),
        b"$ " => {
            let line = bytes[..from + offset].iter().rev().find(|c| !matches!(c, b' ' | b'\t'));
            matches!(line, None | Some(b'\n' | b'\r')).then_some((from + offset, b'$'))
        }
        _ => None,
    });
    found.next()
}

/// Text after `name %}` (with blanks and a whitespace mark), if that is what stands here.
fn after_basic_tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let blank = |c: char| c.is_ascii_whitespace();
    let rest = text.trim_start_matches(blank).strip_prefix(name)?.trim_start_matches(blank);
    rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")
}

fn after_raw(mut body: &str) -> Option<&str> {
    loop {
        body = &body[body.find("{%")? + 2..];
        let inner = body.strip_prefix(['-', '+']).unwrap_or(body);
        if let Some(after) = after_basic_tag(inner, "endraw") {
            return Some(after);
        }
    }
}

/// Reads the tokens of a tag up to its end.
fn tag(text: &str, kind: Kind, start: usize, inner: usize) -> Option<Tag> {
    let bytes = text.as_bytes();
    let mut depth = 0i32;
    let mut assigns = None;
    let mut pos = inner;
    // Words and operators since the last comma, for each open bracket.
    let mut tokens = vec![0];
    let mut longest = 0;
    let mut in_square = vec![false];
    let mut n_slices = 0;
    loop {
        if depth == 0
            && let Some(close) = end_mark(text, kind, pos)
        {
            return Some(Tag {
                kind,
                whole: start..pos + close,
                inner: inner..pos,
                assigns,
                longest,
                n_slices,
            });
        }
        let byte = *bytes.get(pos)?;
        let is_word = |it: &u8| it.is_ascii_alphanumeric() || *it == b'_';
        let goes_on = is_word(&byte) && pos > inner && bytes.get(pos - 1).is_some_and(is_word);
        if let Some(n) = tokens.last_mut().filter(|_| !goes_on && !byte.is_ascii_whitespace()) {
            *n = if byte == b',' { 0 } else { *n + 1 };
            longest = longest.max(*n);
        }
        match byte {
            quote @ (b'"' | b'\'') => pos += string_len(&bytes[pos..], quote)?,
            b'(' | b'[' | b'{' => {
                depth += 1;
                tokens.push(0);
                in_square.push(byte == b'[');
                pos += 1;
            }
            b')' | b']' | b'}' => {
                depth -= 1;
                tokens.truncate(tokens.len().saturating_sub(1).max(1));
                in_square.truncate(in_square.len().saturating_sub(1).max(1));
                pos += 1;
            }
            b'=' | b'!' | b'<' | b'>' if bytes.get(pos + 1) == Some(&b'=') => pos += 2,
            b'=' => {
                pos += 1;
                if depth == 0 {
                    assigns = assigns.or(Some(pos));
                }
            }
            b':' => {
                n_slices += usize::from(in_square.last() == Some(&true));
                pos += 1;
            }
            _ => pos += 1,
        }
    }
}

/// Length of what closes the tag at `pos`, if it ends there.
fn end_mark(text: &str, kind: Kind, pos: usize) -> Option<usize> {
    // Between the bytes of a character nothing ends.
    let rest = text.get(pos..)?;
    let close = match kind {
        Kind::Expr => "}}",
        Kind::Block => "%}",
        Kind::Line => {
            return (rest.is_empty() || rest.starts_with(['\n', '\r'])).then_some(rest.len().min(1));
        }
    };
    let marked = rest.strip_prefix(['-', '+']).is_some_and(|it| it.starts_with(close));
    (marked || rest.starts_with(close)).then_some(close.len() + usize::from(marked))
}

fn string_len(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut pos = 1;
    loop {
        match *bytes.get(pos)? {
            b'\\' => pos += 2,
            c if c == quote => return Some(pos + 1),
            _ => pos += 1,
        }
    }
}
