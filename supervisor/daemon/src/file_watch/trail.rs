//! The way to files: every folder in which a part of their paths is looked up, as the kernel does it (path_resolution(7)).

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

/// How many symbolic links a path may lead through: the kernel's own bound.
const LINKS_MAX: usize = 40;

/// Something that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder, for these names in it; with the number of the file that a name is the last part of.
    Folder(BTreeMap<OsString, Option<usize>>),
    /// The file of this number.
    File(usize),
}

/// All of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trail {
    folders: BTreeMap<PathBuf, BTreeMap<OsString, Option<usize>>>,
    files: BTreeMap<PathBuf, usize>,
}

impl Trail {
    /// The ways to these files, as far as they are there.
    pub(super) fn of(files: &[PathBuf]) -> Trail {
        let mut trail = Trail::default();
        for (number, file) in files.iter().enumerate() {
            trail.follow(file, number);
        }
        trail
    }

    /// Every place with its path.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Path, Place)> {
        let folders = self.folders.iter().map(|(path, names)| (path.as_path(), Place::Folder(names.clone())));
        folders.chain(self.files.iter().map(|(path, number)| (path.as_path(), Place::File(*number))))
    }

    fn follow(&mut self, file: &Path, number: usize) {
        let mut at = PathBuf::from("/");
        let mut rest = parts(file);
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let link = std::fs::read_link(&next).ok();
            let is_last = link.is_none() && rest.is_empty();
            let names = self.folders.entry(at.clone()).or_default();
            let of = names.entry(part).or_default();
            *of = of.or(is_last.then_some(number));
            match link {
                Some(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    let mut through = parts(&target);
                    through.append(&mut rest);
                    rest = through;
                }
                Some(_) => return,
                // What is not there yet is awaited in the folder that it would be in.
                None if !next.exists() => return,
                None => at = next,
            }
        }
        if at.is_file() {
            self.files.insert(at, number);
        }
    }
}

/// The parts of a path that are looked up.
fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// The names in folders below this one, with the number of the file that each is the end of.
    fn below(root: &Path, file: &Path) -> Vec<String> {
        let trail = Trail::of(&[file.to_path_buf()]);
        let found = trail.folders.iter().flat_map(|(folder, names)| {
            names.iter().filter_map(move |(name, file)| {
                let path = folder.join(name);
                let path = path.strip_prefix(root).ok()?.display().to_string();
                Some(format!("{path}{}", if file.is_some() { " =" } else { "" }))
            })
        });
        found.filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn every_folder_on_the_way_is_there_also_through_links() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("releases/5")).unwrap();
        fs::write(root.join("releases/5/watt.yaml"), "").unwrap();
        symlink("releases/5", root.join("current")).unwrap();
        let file = root.join("current/watt.yaml");
        assert_eq!(below(&root, &file), ["current", "releases", "releases/5", "releases/5/watt.yaml ="]);
        assert_eq!(Trail::of(&[file]).files, [(root.join("releases/5/watt.yaml"), 0)].into());
        // By an absolute one, and back.
        symlink(root.join("releases/5/../5/watt.yaml"), root.join("watt.yaml")).unwrap();
        let expected = ["watt.yaml", "releases", "releases/5", "releases/5/watt.yaml ="];
        let mut found = below(&root, &root.join("watt.yaml"));
        found.sort();
        let mut expected = expected.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_there_is_awaited_where_it_would_be() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        assert_eq!(below(&root, &root.join("none/watt.yaml")), ["none"]);
        assert_eq!(below(&root, &root.join("watt.yaml")), ["watt.yaml ="]);
        // A circle has no end, and is not followed to it.
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert_eq!(below(&root, &root.join("a")), ["a", "b"]);
    }
}
