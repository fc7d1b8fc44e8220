//! The modules of a crate, and the file that a path leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::super::source::Source;
use super::syntax::{self, Kind, Path, Statement};

/// The root of a library, and of a binary.
const LIBRARY: &str = "lib.rs";
const BINARY: &str = "main.rs";

/// A dependency: the code of one file names an item that another one defines.
pub(super) struct Dependency<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) line: usize,
}

/// The modules of a crate by path; the root's path is empty.
pub(super) struct Modules {
    modules: BTreeMap<Path, Module>,
    references: Vec<Reference>,
}

#[derive(Default)]
struct Module {
    /// Relative to the crate's folder.
    file: String,
    /// Names that `use` declares, with their paths.
    imports: BTreeMap<String, Path>,
    globs: Vec<Path>,
    /// The names that `use path::*` of this module imports: items, and re-exports by name.
    exports: BTreeSet<String>,
}

/// A path in the code of a module.
struct Reference {
    module: Path,
    path: Path,
    line: usize,
    /// `use path::*`: a dependency on the module itself.
    is_glob: bool,
}

/// The target of a path.
enum Target<'a> {
    Module(&'a Module),
    /// An item that this module defines.
    Item(&'a Module),
    /// An item of another crate, or a local one: not a dependency.
    Unknown,
}

impl Modules {
    /// The modules of the files under a crate's folder, without test modules.
    pub(super) fn read(folder: &str, sources: &[Source]) -> Self {
        let files = sources.iter().filter_map(|source| Some((source.path.strip_prefix(folder)?, source)));
        let has_library = files.clone().any(|(path, _)| path == LIBRARY);
        // The files of the package's binary see the library as another crate.
        let files = files.filter(|(path, _)| !has_library || *path != BINARY);
        let files: Vec<File> = files.map(|(path, source)| File::new(path, syntax::read(source))).collect();
        let tests: Vec<TestModule> = files.iter().flat_map(File::test_modules).collect();
        let mut crate_ = Self { modules: BTreeMap::new(), references: Vec::new() };
        for file in files.into_iter().filter(|file| !tests.iter().any(|test| test.contains(file))) {
            crate_.add(file);
        }
        crate_
    }

    /// All dependencies in the order of files and lines; there may be several between the same two files.
    pub(super) fn dependencies(&self) -> Vec<Dependency<'_>> {
        let found = self.references.iter().filter_map(|reference| {
            let from = self.modules.get(&reference.module)?;
            let to = match self.resolve(&reference.module, &reference.path, &mut BTreeSet::new()) {
                Target::Item(module) => module,
                Target::Module(module) if reference.is_glob => module,
                Target::Module(_) | Target::Unknown => return None,
            };
            Some(Dependency { from: &from.file, to: &to.file, line: reference.line })
        });
        found.collect()
    }

    fn add(&mut self, file: File) {
        self.module(&file.module, &file.path);
        for Statement { scope, line, kind } in file.statements {
            let at = [file.module.as_slice(), &scope].concat();
            let module = self.module(&at, &file.path);
            let reference = match kind {
                Kind::InlineModule { name } => {
                    self.module(&[at.as_slice(), &[name]].concat(), &file.path);
                    None
                }
                Kind::Definition { name } => {
                    module.exports.insert(name);
                    None
                }
                Kind::Import { path, name, is_re_export } => {
                    if is_re_export {
                        module.exports.insert(name.clone());
                    }
                    module.imports.insert(name, path.clone());
                    // A re-exported item counts where it is used.
                    (!is_re_export).then_some((path, false))
                }
                Kind::Glob { path, is_re_export } => {
                    module.globs.push(path.clone());
                    (!is_re_export).then_some((path, true))
                }
                Kind::Mention { path } => Some((path, false)),
                Kind::TestModule { .. } => None,
            };
            self.references.extend(reference.map(|(path, is_glob)| Reference { module: at, path, line, is_glob }));
        }
    }

    fn module(&mut self, path: &[String], file: &str) -> &mut Module {
        let module = self.modules.entry(path.to_vec()).or_default();
        file.clone_into(&mut module.file);
        module
    }

    /// Resolves a path in a module. `seen` contains the names on the way, which may be cyclic.
    fn resolve<'a>(&'a self, module: &[String], path: &[String], seen: &mut BTreeSet<(Path, String)>) -> Target<'a> {
        let (mut at, mut rest) = (module.to_vec(), path);
        let mut is_known = false;
        while let Some((word, remaining)) = rest.split_first() {
            match word.as_str() {
                "crate" => at.clear(),
                "super" => drop(at.pop()),
                "self" => (),
                _ => break,
            }
            (rest, is_known) = (remaining, true);
        }
        while let Some((name, remaining)) = rest.split_first() {
            let Some(current) = self.modules.get(&at) else { return Target::Unknown };
            let child = [at.as_slice(), std::slice::from_ref(name)].concat();
            let is_child = self.modules.contains_key(&child);
            let import = current.imports.get(name).filter(|_| remaining.is_empty() || !is_child);
            if let Some(import) = import.filter(|_| seen.insert((at.clone(), name.clone()))) {
                return self.resolve(&at, &[import, remaining].concat(), seen);
            }
            if !is_child {
                return match self.resolve_through_globs(&at, current, rest, seen) {
                    Some(target) => target,
                    // An item of the same module is not a dependency; a name that is not defined here is unknown.
                    None if is_known => Target::Item(current),
                    None => Target::Unknown,
                };
            }
            (at, rest, is_known) = (child, remaining, true);
        }
        self.modules.get(&at).map_or(Target::Unknown, Target::Module)
    }

    /// Resolves a path through the `use path::*` of a module that does not define its first name itself.
    fn resolve_through_globs<'a>(
        &'a self,
        at: &[String],
        current: &'a Module,
        path: &[String],
        seen: &mut BTreeSet<(Path, String)>,
    ) -> Option<Target<'a>> {
        let name = path.first().filter(|name| !current.exports.contains(*name))?;
        current.globs.iter().find_map(|glob| {
            let Target::Module(module) = self.resolve(at, glob, seen) else { return None };
            module.exports.contains(name).then(|| self.resolve(at, &[glob.as_slice(), path].concat(), seen))
        })
    }
}

/// A file and its syntax.
struct File {
    path: String,
    module: Path,
    statements: Vec<Statement>,
}

impl File {
    fn new(path: &str, statements: Vec<Statement>) -> Self {
        let module = path.strip_suffix(".rs").unwrap_or(path);
        let module = module.strip_suffix("/mod").unwrap_or(module);
        let module = match path {
            LIBRARY | BINARY => Path::new(),
            _ => module.split('/').map(str::to_owned).collect(),
        };
        Self { path: path.to_owned(), module, statements }
    }

    fn test_modules(&self) -> impl Iterator<Item = TestModule> {
        let folder = self.path.rfind('/').map_or("", |slash| &self.path[..=slash]);
        self.statements.iter().filter_map(move |statement| {
            let Kind::TestModule { name, path } = &statement.kind else { return None };
            let module = [self.module.as_slice(), &statement.scope, std::slice::from_ref(name)].concat();
            Some(TestModule { module, file: path.as_ref().map(|path| format!("{folder}{path}")) })
        })
    }
}

/// Excludes a test module: itself, its submodules, and the file named by `#[path]`.
struct TestModule {
    module: Path,
    file: Option<String>,
}

impl TestModule {
    fn contains(&self, file: &File) -> bool {
        file.module.starts_with(&self.module) || self.file.as_ref() == Some(&file.path)
    }
}
