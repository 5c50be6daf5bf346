//! The modules of a crate: what each defines, imports and mentions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::visit::Visit;
use syn::{Attribute, Expr, Ident, Item, Meta, Token, UseTree, Visibility};

use crate::check::structure::paths;

/// The index of a module in its [`Tree`].
pub(super) type Id = usize;

/// Whether `cfg(test)` and `#[test]` hold where a crate is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Built {
    WithTests,
    #[default]
    WithoutTests,
}

/// The crate's root is the first.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) modules: Vec<Module>,
    built: Built,
}

#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) file: PathBuf,
    pub(super) parent: Option<Id>,
    pub(super) children: BTreeMap<String, Id>,
    /// The names of the items defined here, modules excepted.
    pub(super) items: BTreeSet<String>,
    pub(super) imports: Vec<Import>,
    /// Macros that are seen at the crate's root: `#[macro_export]`.
    pub(super) macros: BTreeSet<String>,
    /// The paths that its code mentions.
    pub(super) paths: BTreeSet<Vec<String>>,
    built: Built,
}

/// One name that a `use` brings into a module.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// `None`: all names (`*`).
    pub(super) name: Option<String>,
    /// Whether other modules may see it: `pub use`, `pub(crate) use`.
    pub(super) exported: bool,
}

/// Reads a file, if it exists.
type Source<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Tree {
    /// Follows `mod` from the crate's root file.
    pub(super) fn read(root: &Path, built: Built, source: Source) -> Result<Self> {
        let modules = Vec::new();
        let mut tree = Self { modules, built };
        tree.read_file(None, root, directory_of(root), source)?;
        Ok(tree)
    }

    pub(super) fn is_within(&self, module: Id, ancestor: Id) -> bool {
        let mut parents = std::iter::successors(Some(module), |&id| self.modules[id].parent);
        parents.any(|id| id == ancestor)
    }

    fn read_file(&mut self, parent: Option<Id>, file: &Path, children: PathBuf, source: Source) -> Result<()> {
        let text = source(file).with_context(|| format!("cannot read {}", file.display()))?;
        let parsed = syn::parse_file(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        self.read_module(parent, file, children, &parsed.items, source)
    }

    /// `children` is the directory of child modules.
    fn read_module(
        &mut self,
        parent: Option<Id>,
        file: &Path,
        children: PathBuf,
        items: &[Item],
        source: Source,
    ) -> Result<()> {
        let id = self.modules.len();
        let mut module = Module {
            file: file.to_owned(),
            parent,
            built: self.built,
            ..Module::default()
        };
        items.iter().for_each(|item| module.visit_item(item));
        self.modules.push(module);
        for item in items {
            let Some(name) = self.built.name_of(item) else { continue };
            let Item::Mod(child) = item else {
                self.modules[id].items.insert(name);
                continue;
            };
            let child_id = self.modules.len();
            self.modules[id].children.insert(name.clone(), child_id);
            let inner = children.join(&name);
            if let Some((_, items)) = &child.content {
                self.read_module(Some(id), file, inner, items, source)?;
            } else if let Some(path) = path_attribute(&child.attrs) {
                let is_inline = parent.is_some_and(|parent| self.modules[parent].file == file);
                let path = if is_inline {
                    children.join(path)
                } else {
                    directory_of(file).join(path)
                };
                self.read_file(Some(id), &path, directory_of(&path), source)?;
            } else {
                let candidates = [inner.with_extension("rs"), inner.join("mod.rs")];
                let found = candidates.iter().find(|path| source(path).is_some());
                self.read_file(Some(id), found.unwrap_or(&candidates[0]), inner, source)?;
            }
        }
        Ok(())
    }
}

fn directory_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(file).to_owned()
}

impl Module {
    fn import(&mut self, tree: &UseTree, mut path: Vec<String>, exported: bool) {
        let mut add = |path: Vec<String>, name: Option<String>| {
            self.imports.push(Import { path, name, exported });
        };
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.unraw().to_string());
                self.import(&part.tree, path, exported);
            }
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.import(tree, path.clone(), exported)),
            UseTree::Glob(_) => add(path, None),
            UseTree::Name(part) => {
                if part.ident != "self" {
                    path.push(part.ident.unraw().to_string());
                }
                let name = path.last().cloned();
                add(path, name);
            }
            UseTree::Rename(part) => {
                if part.ident != "self" {
                    path.push(part.ident.unraw().to_string());
                }
                add(path, Some(part.rename.unraw().to_string()));
            }
        }
    }
}

/// Visits a node if it is compiled.
macro_rules! visit_compiled {
    ($($visit:ident: $node:ident,)*) => {
        $(fn $visit(&mut self, node: &'ast syn::$node) {
            if self.built.compiles(&node.attrs) {
                syn::visit::$visit(self, node);
            }
        })*
    };
}

impl<'ast> Visit<'ast> for Module {
    visit_compiled! {
        visit_item_const: ItemConst,
        visit_item_enum: ItemEnum,
        visit_item_fn: ItemFn,
        visit_item_foreign_mod: ItemForeignMod,
        visit_item_impl: ItemImpl,
        visit_item_static: ItemStatic,
        visit_item_struct: ItemStruct,
        visit_item_trait: ItemTrait,
        visit_item_type: ItemType,
        visit_item_union: ItemUnion,
        visit_impl_item_const: ImplItemConst,
        visit_impl_item_fn: ImplItemFn,
        visit_trait_item_fn: TraitItemFn,
        visit_field: Field,
        visit_field_value: FieldValue,
        visit_variant: Variant,
        visit_arm: Arm,
        visit_local: Local,
        visit_stmt_macro: StmtMacro,
        visit_expr_block: ExprBlock,
    }

    /// Modules are read one by one.
    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}

    /// `pub(super)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if self.built.compiles(&item.attrs) && item.leading_colon.is_none() {
            let exported = match &item.vis {
                Visibility::Inherited => false,
                Visibility::Restricted(to) => !to.path.is_ident("self"),
                Visibility::Public(_) => true,
            };
            self.import(&item.tree, Vec::new(), exported);
        }
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if self.built.compiles(&item.attrs) {
            let mut attributes = item.attrs.iter().map(Attribute::path);
            if attributes.any(|path| path.is_ident("macro_export")) {
                self.macros.extend(item.ident.as_ref().map(Ident::to_string));
            }
            syn::visit::visit_item_macro(self, item);
        }
    }

    /// A single word in lower case may be a variable, unless it is called.
    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func
            && let Some(name) = function.path.get_ident()
        {
            self.paths.insert(vec![name.unraw().to_string()]);
        }
        syn::visit::visit_expr_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|part| part.ident.unraw().to_string());
            let names: Vec<_> = names.collect();
            if paths::is_no_variable(&names) {
                self.paths.insert(names);
            }
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.paths.extend(paths::in_tokens(call.tokens.clone()));
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.paths.extend(paths::in_tokens(list.tokens.clone()));
    }
}

impl Built {
    /// The name that an item gives itself, if it is compiled.
    fn name_of(self, item: &Item) -> Option<String> {
        let (name, attributes) = match item {
            Item::Const(item) => (&item.ident, &item.attrs),
            Item::Enum(item) => (&item.ident, &item.attrs),
            Item::Fn(item) => (&item.sig.ident, &item.attrs),
            Item::Macro(item) => (item.ident.as_ref()?, &item.attrs),
            Item::Mod(item) => (&item.ident, &item.attrs),
            Item::Static(item) => (&item.ident, &item.attrs),
            Item::Struct(item) => (&item.ident, &item.attrs),
            Item::Trait(item) => (&item.ident, &item.attrs),
            Item::Type(item) => (&item.ident, &item.attrs),
            Item::Union(item) => (&item.ident, &item.attrs),
            _ => return None,
        };
        self.compiles(attributes).then(|| name.unraw().to_string())
    }

    /// Whether the build can contain a node with these attributes.
    fn compiles(self, attributes: &[Attribute]) -> bool {
        attributes.iter().all(|attribute| {
            if attribute.path().is_ident("cfg") {
                return attribute
                    .parse_args::<Meta>()
                    .is_ok_and(|condition| self.holds(&condition) != Some(false));
            }
            self == Self::WithTests || !attribute.path().is_ident("test")
        })
    }

    /// Whether a `cfg` condition holds, where that is certain.
    fn holds(self, condition: &Meta) -> Option<bool> {
        let inner = |list: &syn::MetaList| -> Vec<_> {
            let conditions = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            conditions
                .iter()
                .flatten()
                .map(|condition| self.holds(condition))
                .collect()
        };
        match condition {
            Meta::Path(path) if path.is_ident("test") => Some(self == Self::WithTests),
            Meta::List(list) if list.path.is_ident("not") => inner(list).first().copied().flatten().map(|holds| !holds),
            Meta::List(list) if list.path.is_ident("all") => inner(list).contains(&Some(false)).then_some(false),
            Meta::List(list) if list.path.is_ident("any") => {
                inner(list).iter().all(|&holds| holds == Some(false)).then_some(false)
            }
            _ => None,
        }
    }
}

/// The file that `#[path = "…"]` names.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(path),
            ..
        }) => Some(path.value()),
        _ => None,
    }
}
