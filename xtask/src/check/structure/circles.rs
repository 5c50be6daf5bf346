//! Finds files whose modules import each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::check::structure::names::Target;
use crate::check::structure::tree::{Id, Tree};

/// Which file uses which, and by what names.
type Graph<'a> = BTreeMap<&'a Path, BTreeMap<&'a Path, BTreeSet<&'a str>>>;

/// Every group of files that import each other, as text; paths are relative to `base`.
pub(super) fn find(tree: &Tree, base: &Path) -> Vec<String> {
    let graph = graph(tree);
    let reach: BTreeMap<_, _> = graph.keys().map(|&file| (file, reachable(&graph, file))).collect();
    let reaches = |from: &Path, to: &Path| reach.get(from).is_some_and(|reached| reached.contains(to));
    let circles: BTreeSet<BTreeSet<&Path>> = reach
        .iter()
        .map(|(&file, reached)| reached.iter().copied().filter(|other| reaches(other, file)).collect())
        .filter(|circle: &BTreeSet<_>| circle.len() > 1)
        .collect();
    circles.iter().map(|circle| describe(circle, &graph, base)).collect()
}

fn describe(circle: &BTreeSet<&Path>, graph: &Graph, base: &Path) -> String {
    let show = |path: &Path| path.strip_prefix(base).unwrap_or(path).display().to_string();
    let mut text = format!("{} files import each other:", circle.len());
    for from in circle {
        for (to, names) in graph[from].iter().filter(|(to, _)| circle.contains(*to)) {
            let names: Vec<_> = names.iter().copied().collect();
            text += &format!("\n  {} -> {}: {}", show(from), show(to), names.join(", "));
        }
    }
    text
}

fn reachable<'a>(graph: &Graph<'a>, from: &'a Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut todo = vec![from];
    while let Some(file) = todo.pop() {
        let next = graph.get(file).into_iter().flat_map(BTreeMap::keys);
        todo.extend(next.filter(|next| reached.insert(**next)));
    }
    reached
}

fn graph(tree: &Tree) -> Graph<'_> {
    let mut graph = Graph::new();
    for (id, module) in tree.modules.iter().enumerate() {
        let file = module.file.as_path();
        for (target, name) in uses(tree, id) {
            let used = tree.modules[target].file.as_path();
            if used != file {
                graph.entry(file).or_default().entry(used).or_default().insert(name);
            }
        }
    }
    graph
}

/// The modules whose items `id` uses. A module's name alone is no use.
fn uses(tree: &Tree, id: Id) -> impl Iterator<Item = (Id, &str)> {
    let item = move |path| match tree.resolve(id, path)? {
        Target::Item(module, name) => Some((module, name)),
        Target::Module(_) => None,
    };
    let module = &tree.modules[id];
    let imports = module.imports.iter().filter_map(move |import| {
        // A re-export of a child's item is no use of it.
        let found = item(&import.path)?;
        (!(import.exported && tree.is_within(found.0, id))).then_some(found)
    });
    imports.chain(module.paths.iter().filter_map(move |path| item(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::structure::tree::Built;

    /// The lines that describe the circles of a library made of these files.
    fn circles(files: &[(&str, &str)]) -> Vec<String> {
        circles_of(files, Built::WithoutTests)
    }

    fn circles_of(files: &[(&str, &str)], built: Built) -> Vec<String> {
        let source = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|&(_, text)| text.to_owned())
        };
        let tree = Tree::read(Path::new(files[0].0), built, &source).unwrap();
        let text = find(&tree, Path::new("")).join("\n");
        let uses = text.lines().filter(|line| line.starts_with(' '));
        uses.map(|line| line.trim().to_owned()).collect()
    }

    /// The circles of two files beside `lib.rs`.
    fn circles_of_two(a: &str, b: &str) -> Vec<String> {
        circles(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", b)])
    }

    #[test]
    fn two_modules_that_use_each_other_are_a_circle() {
        let cases = [
            "use crate::b::B; pub struct A; | use crate::a::A; pub struct B;",
            "use super::b::{self, B}; pub struct A; | use super::a::A; pub struct B;",
            "use crate::b; pub struct A; fn f(_: b::B) {} | pub struct B; type T = crate::a::A;",
            "pub struct A; fn f() { let x = crate::b::B; } | pub struct B(crate::a::A);",
            "pub struct A; fn f() { use crate::b::B; } | pub struct B; impl super::a::A {}",
            "pub struct A; fn f() { assert!(x == crate::b::B); } | use crate::a::A; pub const B: u8 = 1;",
            "pub struct A; #[arg(default = crate::b::B)] fn f() {} | use crate::a::A; pub const B: u8 = 1;",
            "use crate::b::*; pub struct A(B); | use crate::a::*; pub struct B; fn f(_: A) {}",
            "pub use crate::b::B; pub struct A; | use crate::a::A; pub struct B;",
            "use crate::{b::B as C}; pub struct A; | mod c { use crate::a::A; } pub struct B;",
        ];
        for case in cases {
            let (a, b) = case.split_once(" | ").unwrap();
            assert_eq!(circles_of_two(a, b), ["a.rs -> b.rs: B", "b.rs -> a.rs: A"], "{case}");
        }
    }

    #[test]
    fn a_test_or_bench_counts_what_only_tests_compile() {
        for use_of_a in [
            "use crate::a::A;",
            "#[test] fn f() { crate::a::A; }",
            "#[cfg(test)] mod tests { use crate::a::A; }",
            "#[cfg(any(test, unix))] use crate::a::A;",
        ] {
            let b = format!("{use_of_a} pub struct B;");
            let files = [
                ("benches/main.rs", "mod a; mod b;"),
                ("benches/a.rs", "use crate::b::B; pub struct A;"),
                ("benches/b.rs", &b),
            ];
            assert_eq!(
                circles_of(&files, Built::WithTests),
                ["benches/a.rs -> benches/b.rs: B", "benches/b.rs -> benches/a.rs: A"],
                "{b}"
            );
        }
        let without = "#[cfg(not(test))] use crate::a::A; pub struct B;";
        let files = [
            ("main.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", without),
        ];
        assert_eq!(circles_of(&files, Built::WithTests), [""; 0]);
    }

    #[test]
    fn a_use_in_one_direction_is_no_circle() {
        let cases = [
            "use crate::b::B; | pub struct B;",
            "use crate::b::B; pub struct A; | #[cfg(test)] mod tests { use crate::a::A; } pub struct B;",
            "use crate::b::B; pub struct A; | #[cfg(all(test, unix))] use crate::a::A; pub struct B;",
            "use crate::b::B; pub struct A; | #[test] fn f() { crate::a::A; } pub struct B;",
            "use crate::b::B; pub struct A; | pub struct B; fn f(a: u8) { a.a(); let b = a; }",
            "use crate::b::B; pub struct A; | use a::A; pub struct B; mod a { pub struct A; }",
            "use crate::b::B; pub struct A; | use ::a::A; pub struct B;",
            "use crate::b::B; pub(in crate::b) struct A; | pub(in crate::a) struct B;",
            // A module's name alone uses none of its items.
            "use crate::b::B; pub struct A; | use crate::a; pub struct B;",
        ];
        for case in cases {
            let (a, b) = case.split_once(" | ").unwrap();
            assert_eq!(circles_of_two(a, b), [""; 0], "{case}");
        }
    }

    #[test]
    fn a_parent_may_declare_and_re_export_its_children() {
        let cases: [(&str, &str, &[&str]); 7] = [
            ("mod c; pub use c::C; pub struct P;", "use super::P; pub struct C;", &[]),
            (
                "mod c; pub(crate) use c::*; pub struct P;",
                "use super::P; pub struct C;",
                &[],
            ),
            ("mod c; use c::C; pub struct P;", "pub struct C;", &[]),
            (
                "mod c; use c::C; pub struct P;",
                "use super::P; pub struct C;",
                &["c", "p"],
            ),
            (
                "mod c; pub use c::C; pub struct P(C);",
                "use super::P; pub struct C;",
                &["c", "p"],
            ),
            (
                "mod c; pub use c::*; pub struct P; fn f(_: C) {}",
                "use super::P; pub struct C;",
                &["c", "p"],
            ),
            (
                "mod c; pub struct P; fn f() { c::f(); }",
                "use super::*; fn f(_: P) {}",
                &["c", "p"],
            ),
        ];
        for (parent, child, want) in cases {
            let found = circles(&[("lib.rs", "mod p;"), ("p.rs", parent), ("p/c.rs", child)]);
            assert_eq!(found.is_empty(), want.is_empty(), "{parent} / {child}: {found:?}");
        }
    }

    #[test]
    fn a_name_is_traced_to_where_it_is_defined() {
        // `a` has `B` through two re-exports; `p` itself uses nothing.
        let files = [
            ("lib.rs", "mod a; mod p; pub use p::B;"),
            ("a.rs", "use crate::B; pub struct A;"),
            ("p/mod.rs", "mod b; pub mod f; pub use b::B;"),
            ("p/b.rs", "pub struct B; fn f() -> super::super::a::A {}"),
            ("p/f.rs", "pub fn f(_: super::B) {}"),
        ];
        assert_eq!(circles(&files), ["a.rs -> p/b.rs: B", "p/b.rs -> a.rs: A"]);
    }

    #[test]
    fn a_function_and_a_module_may_share_a_name() {
        let p = "pub mod c; pub fn c() {} pub struct P;";
        let files = |d| {
            [
                ("lib.rs", "mod p; mod d;"),
                ("p.rs", p),
                ("p/c.rs", "use crate::d::D; pub fn f() {}"),
                ("d.rs", d),
            ]
        };
        assert_eq!(
            circles(&files("use crate::p::c; pub struct D; fn g() { c::f() }")),
            ["d.rs -> p/c.rs: f", "p/c.rs -> d.rs: D"]
        );
        assert_eq!(
            circles(&files("use crate::p; pub struct D; fn g() { p::c() }")),
            [""; 0]
        );
    }

    #[test]
    fn files_are_found_where_rustc_finds_them() {
        let files = [
            (
                "src/main.rs",
                r#"mod a; #[path = "../other/b.rs"] mod b; mod i { pub mod c; }"#,
            ),
            ("src/a/mod.rs", "pub mod n; pub struct A;"),
            ("src/a/n.rs", "use crate::b::x::X; pub struct N;"),
            ("src/../other/b.rs", "pub mod x;"),
            ("src/../other/x.rs", "use crate::i::c::C; pub struct X;"),
            ("src/i/c.rs", "use crate::a::n::N; pub struct C;"),
        ];
        let want = [
            "src/../other/x.rs -> src/i/c.rs: C",
            "src/a/n.rs -> src/../other/x.rs: X",
            "src/i/c.rs -> src/a/n.rs: N",
        ];
        assert_eq!(circles(&files), want);
    }

    #[test]
    fn an_exported_macro_belongs_to_its_module() {
        let a = "pub struct A; fn f() { crate::m!(); }";
        let b = "#[macro_export] macro_rules! m { () => { $crate::a::A } }";
        assert_eq!(circles_of_two(a, b), ["a.rs -> b.rs: m", "b.rs -> a.rs: A"]);
    }

    #[test]
    fn an_unreadable_file_is_an_error() {
        for text in ["mod missing;", "fn {"] {
            let source = |path: &Path| (path == Path::new("lib.rs")).then(|| text.to_owned());
            assert!(Tree::read(Path::new("lib.rs"), Built::WithoutTests, &source).is_err());
        }
    }
}
