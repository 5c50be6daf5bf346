//! Finds the module in which an item is defined, through imports and re-exports.

use crate::check::structure::tree::{Id, Tree};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Module(Id),
    /// An item of this module, by its name there.
    Item(Id, &'a str),
}

/// A name that is being looked for in a module.
type Asked<'a> = (Id, &'a str);

impl Tree {
    /// The target of `path` in the module `from`; `None` outside of the crate, or for a variable.
    pub(super) fn resolve<'a>(&'a self, from: Id, path: &'a [String]) -> Option<Target<'a>> {
        self.follow(from, path, true, &mut Vec::new())
    }

    /// `is_end`: no name follows after the path, so that its last one is an item rather than a module.
    /// `asked` ends the search where imports lead round in a circle.
    fn follow<'a>(
        &'a self,
        from: Id,
        path: &'a [String],
        is_end: bool,
        asked: &mut Vec<Asked<'a>>,
    ) -> Option<Target<'a>> {
        let (first, mut rest) = path.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(from),
            "super" => Target::Module(self.modules[from].parent?),
            name => self.find(from, name, is_end && rest.is_empty(), asked)?,
        };
        while let (Target::Module(module), Some((name, after))) = (target, rest.split_first()) {
            rest = after;
            target = match name.as_str() {
                "super" => Target::Module(self.modules[module].parent?),
                // A name that a macro defines is not found: it belongs to the module that the path names.
                name => self
                    .find(module, name, is_end && rest.is_empty(), asked)
                    .unwrap_or(Target::Item(module, name)),
            };
        }
        Some(target)
    }

    fn find<'a>(&'a self, id: Id, name: &'a str, is_end: bool, asked: &mut Vec<Asked<'a>>) -> Option<Target<'a>> {
        if asked.contains(&(id, name)) {
            return None;
        }
        asked.push((id, name));
        let found = self
            .defined(id, name, is_end)
            .or_else(|| self.imported(id, name, is_end, asked));
        asked.pop();
        found
    }

    fn defined<'a>(&'a self, id: Id, name: &'a str, is_end: bool) -> Option<Target<'a>> {
        let module = &self.modules[id];
        let child = module.children.get(name).copied().map(Target::Module);
        let item = module.items.contains(name).then_some(Target::Item(id, name));
        let defined = if is_end { item.or(child) } else { child.or(item) };
        defined.or_else(|| {
            let mut owners = self.modules.iter().map(|module| module.macros.contains(name));
            (id == 0)
                .then(|| owners.position(|is_owner| is_owner))?
                .map(|owner| Target::Item(owner, name))
        })
    }

    fn imported<'a>(&'a self, id: Id, name: &'a str, is_end: bool, asked: &mut Vec<Asked<'a>>) -> Option<Target<'a>> {
        let imports = &self.modules[id].imports;
        if let Some(import) = imports.iter().find(|import| import.name.as_deref() == Some(name)) {
            return self.follow(id, &import.path, is_end, asked);
        }
        let mut globs = imports.iter().filter(|import| import.name.is_none());
        globs.find_map(|glob| match self.follow(id, &glob.path, false, asked)? {
            Target::Module(module) => self.find(module, name, is_end, asked),
            Target::Item(..) => None,
        })
    }
}
