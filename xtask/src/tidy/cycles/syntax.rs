//! Reads from a file the modules that it declares, its imports, and the paths in its code.
//!
//! This scans tokens instead of parsing Rust: it recognises `mod`, `use`, paths, attributes and brackets, which
//! suffices to find dependencies. Code under `#[cfg(test)]` is skipped.

use super::super::source::Source;

/// The names between the `::` of a path.
pub(super) type Path = Vec<String>;

/// A statement of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// The enclosing inline modules, outermost first.
    pub(super) scope: Path,
    pub(super) line: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `mod name { ... }`. A module in a file of its own is found by its file.
    InlineModule { name: String },
    /// `#[cfg(test)] mod name;`, and the file given by `#[path]`.
    TestModule { name: String, path: Option<String> },
    /// One name of a `use`.
    Import { path: Path, name: String, is_re_export: bool },
    /// `use path::*`.
    Glob { path: Path, is_re_export: bool },
    /// `fn name`, `struct name` and the like.
    Definition { name: String },
    /// A path, or a single word, in code.
    Mention { path: Path },
}

/// All statements of a file outside its tests.
pub(super) fn read(source: &Source) -> Vec<Statement> {
    let mut reader = Reader { source, tokens: tokens(source), at: 0, scopes: Vec::new(), depth: 0, found: Vec::new() };
    while reader.at < reader.tokens.len() {
        reader.step();
    }
    reader.found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Separator,
    Mark(char),
}

fn tokens(source: &Source) -> Vec<(usize, Token<'_>)> {
    source.code().flat_map(|(number, line)| tokens_of(line).into_iter().map(move |token| (number, token))).collect()
}

fn tokens_of(line: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (token, length) = match (word, rest.starts_with("::")) {
            (0, true) => (Token::Separator, 2),
            (0, false) => (Token::Mark(first), first.len_utf8()),
            (word, _) => (Token::Word(&rest[..word]), word),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Keywords that start an item, after its visibility and qualifiers.
const DEFINING: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];
const BEGINS_AN_ITEM: [&str; 7] = ["pub", "mod", "use", "impl", "async", "unsafe", "extern"];

/// The attributes before an item that matter here.
#[derive(Default)]
struct Attributes {
    is_test: bool,
    path: Option<String>,
}

struct Reader<'a> {
    source: &'a Source,
    tokens: Vec<(usize, Token<'a>)>,
    at: usize,
    /// The enclosing inline modules, each with its bracket depth.
    scopes: Vec<(String, usize)>,
    depth: usize,
    found: Vec<Statement>,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).map(|(_, token)| *token)
    }

    fn before(&self) -> Option<Token<'a>> {
        self.at.checked_sub(1).and_then(|index| self.tokens.get(index)).map(|(_, token)| *token)
    }

    fn record(&mut self, line: usize, kind: Kind) {
        let scope = self.scopes.iter().map(|(name, _)| name.clone()).collect();
        self.found.push(Statement { scope, line, kind });
    }

    fn step(&mut self) {
        let line = self.tokens[self.at].0;
        match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some(Token::Mark('#')), Some(Token::Mark('[' | '!')), _) => self.attributed(),
            (Some(Token::Word("mod")), Some(Token::Word(name)), Some(Token::Mark('{'))) => {
                self.record(line, Kind::InlineModule { name: name.to_owned() });
                self.scopes.push((name.to_owned(), self.depth));
                self.depth += 1;
                self.at += 3;
            }
            (Some(Token::Word("mod")), Some(Token::Word(_)), _) => self.at += 2,
            (Some(Token::Word("use")), Some(Token::Word(_) | Token::Separator | Token::Mark('{')), _) => {
                self.import(line)
            }
            (Some(Token::Word(word)), Some(Token::Word(name)), _) if self.defines(word, name) => {
                self.record(line, Kind::Definition { name: name.to_owned() });
                self.at += 2;
            }
            (Some(Token::Word(_)), ..) => self.mention(line),
            _ => self.mark(),
        }
    }

    /// Whether these two words start an item of the module itself, not one in a function or an `impl`.
    fn defines(&self, word: &str, name: &str) -> bool {
        let level = self.scopes.last().map_or(0, |(_, depth)| depth + 1);
        self.depth == level && DEFINING.contains(&word) && !DEFINING.contains(&name) && !BEGINS_AN_ITEM.contains(&name)
    }

    /// Tracks opening and closing brackets.
    fn mark(&mut self) {
        match self.peek(0) {
            Some(Token::Mark('{')) => self.depth += 1,
            Some(Token::Mark('}')) => {
                self.depth = self.depth.saturating_sub(1);
                self.scopes.pop_if(|(_, depth)| *depth == self.depth);
            }
            _ => (),
        }
        self.at += 1;
    }

    /// Skips attributes, and the item after them if they mark it as a test.
    fn attributed(&mut self) {
        let mut attributes = Attributes::default();
        while let (Some(Token::Mark('#')), Some(Token::Mark('[' | '!'))) = (self.peek(0), self.peek(1)) {
            self.attribute(&mut attributes);
        }
        if attributes.is_test {
            self.skip_item(attributes.path);
        }
    }

    fn attribute(&mut self, attributes: &mut Attributes) {
        let start = self.at;
        while self.peek(0).is_some_and(|token| token != Token::Mark('[')) {
            self.at += 1;
        }
        self.skip_group();
        let is = |expected: &[Token<'_>]| {
            let tokens = self.tokens[start..self.at].iter().map(|(_, token)| *token);
            tokens
                .skip_while(|token| *token != Token::Mark('['))
                .skip(1)
                .take(expected.len())
                .eq(expected.iter().copied())
        };
        attributes.is_test |= is(&[Token::Word("cfg"), Token::Mark('('), Token::Word("test"), Token::Mark(')')]);
        if is(&[Token::Word("path"), Token::Mark('=')]) {
            // The value is a string, which is blanked in the code, so it is read from the text.
            let line = self.source.text.lines().nth(self.tokens[start].0 - 1);
            attributes.path = line.and_then(|line| line.split('"').nth(1)).map(str::to_owned);
        }
    }

    /// Skips from an opening bracket past the closing one.
    fn skip_group(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.peek(0) {
            self.at += 1;
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => (),
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips an item: to its `;` or past its block. A field, variant or argument ends before the `,` or the closing
    /// bracket.
    fn skip_item(&mut self, path: Option<String>) {
        let line = self.tokens.get(self.at).map_or(0, |(line, _)| *line);
        let is_item = matches!(self.peek(0), Some(Token::Word(word))
            if DEFINING.contains(&word) || BEGINS_AN_ITEM.contains(&word));
        let mut is_import = false;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Word("use") => is_import = true,
                Token::Word("mod") => {
                    if let Some(Token::Word(name)) = self.peek(1) {
                        self.record(line, Kind::TestModule { name: name.to_owned(), path: path.clone() });
                    }
                }
                Token::Mark(';') => {
                    self.at += 1;
                    return;
                }
                Token::Mark('{') if !is_import => return self.skip_group(),
                Token::Mark('(' | '[' | '{') => {
                    self.skip_group();
                    continue;
                }
                Token::Mark(',') if !is_item => return,
                Token::Mark(')' | ']' | '}') => return,
                _ => (),
            }
            self.at += 1;
        }
    }

    /// The path that starts here, and the position after it.
    fn path(&self) -> (Path, usize) {
        let (mut path, mut ahead) = (Path::new(), 0);
        while let Some(Token::Word(word)) = self.peek(ahead) {
            path.push(word.to_owned());
            match (self.peek(ahead + 1), self.peek(ahead + 2)) {
                (Some(Token::Separator), Some(Token::Word(_))) => ahead += 2,
                _ => return (path, ahead + 1),
            }
        }
        (path, ahead)
    }

    /// A path of this crate or a single word; not a field, a method, or the end of another path.
    fn mention(&mut self, line: usize) {
        let (path, length) = self.path();
        let continues = matches!(self.before(), Some(Token::Separator | Token::Mark('.' | '\'')));
        self.at += length;
        let is_field = path.len() == 1 && self.peek(0) == Some(Token::Mark(':'));
        if !continues && !is_field {
            self.record(line, Kind::Mention { path });
        }
    }

    fn import(&mut self, line: usize) {
        let is_re_export = matches!(self.before(), Some(Token::Word("pub") | Token::Mark(')')));
        self.at += 1;
        if self.peek(0) == Some(Token::Separator) {
            // `::name` is a path of another crate.
            while self.peek(0).is_some_and(|token| token != Token::Mark(';')) {
                self.at += 1;
            }
        } else {
            self.import_tree(line, &[], is_re_export);
        }
    }

    /// One path of a `use`, with its prefix.
    fn import_tree(&mut self, line: usize, parents: &[String], is_re_export: bool) {
        let (own, length) = self.path();
        self.at += length;
        let mut path = [parents, &own].concat();
        match self.peek(0) {
            Some(Token::Separator) => {
                self.at += 1;
                self.import_group(line, &path, is_re_export);
                return;
            }
            Some(Token::Mark('{' | '*')) => return self.import_group(line, &path, is_re_export),
            _ => (),
        }
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        let mut name = path.last().cloned().unwrap_or_default();
        if let (Some(Token::Word("as")), Some(Token::Word(alias))) = (self.peek(0), self.peek(1)) {
            alias.clone_into(&mut name);
            self.at += 2;
        }
        self.record(line, Kind::Import { path, name, is_re_export });
    }

    /// `{...}` or `*`.
    fn import_group(&mut self, line: usize, path: &[String], is_re_export: bool) {
        let opening = self.peek(0);
        self.at += 1;
        if opening == Some(Token::Mark('*')) {
            self.record(line, Kind::Glob { path: path.to_vec(), is_re_export });
            return;
        }
        while let Some(token) = self.peek(0) {
            match token {
                Token::Mark('}') => {
                    self.at += 1;
                    return;
                }
                Token::Word(_) | Token::Mark('{' | '*') => self.import_tree(self.tokens[self.at].0, path, is_re_export),
                _ => self.at += 1,
            }
        }
    }
}
