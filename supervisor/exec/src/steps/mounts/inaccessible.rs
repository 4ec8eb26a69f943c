//! What paths are covered with that nobody is to open: an empty folder and an empty file without any right.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use watt_os::mount::{self, Forbid, Tree};

/// Where the file system with both is mounted for a moment: a folder that every system has. Nobody else sees this mount
/// namespace.
const PLACE: &str = "/proc";

/// Both. All covers are of one file system: each of its own would cost the kernel more.
#[derive(Debug)]
pub(super) struct Inaccessible {
    folder: Cover,
    file: Cover,
}

#[derive(Debug)]
struct Cover {
    tree: Tree,
    /// Only what is attached can be taken hold of again.
    is_attached: bool,
}

impl Inaccessible {
    /// Makes them.
    pub(super) fn make() -> io::Result<Inaccessible> {
        let place = Path::new(PLACE);
        let forbid = Forbid { devices: true, executing: true, writing: false };
        // Room for three: its own root and these two.
        mount::filesystem("tmpfs", place, "mode=0755,nr_inodes=4,size=4k", forbid)?;
        let made = Inaccessible::make_in(place);
        mount::unmount(place)?;
        made
    }

    fn make_in(place: &Path) -> io::Result<Inaccessible> {
        let (folder, file) = (place.join("folder"), place.join("file"));
        fs::create_dir(&folder)?;
        File::create(&file)?;
        for path in [&folder, &file] {
            fs::set_permissions(path, Permissions::from_mode(0o000))?;
        }
        // Here, where no other path leads. What is taken hold of is so as well.
        mount::make_read_only(place)?;
        let cover = |path| Ok::<_, io::Error>(Cover { tree: Tree::of(path)?, is_attached: false });
        Ok(Inaccessible { folder: cover(&folder)?, file: cover(&file)? })
    }

    /// Covers a path with the one that is of its kind.
    pub(super) fn cover(&mut self, path: &Path, is_folder: bool) -> io::Result<()> {
        let cover = if is_folder { &mut self.folder } else { &mut self.file };
        cover.attach(path)
    }
}

impl Cover {
    fn attach(&mut self, path: &Path) -> io::Result<()> {
        if self.is_attached {
            return self.tree.again()?.attach(path);
        }
        self.is_attached = true;
        self.tree.attach(path)
    }
}
