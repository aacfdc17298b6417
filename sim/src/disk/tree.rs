//! Operations on names: directories, renames, removals, and how a path is found.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

use quipu_env::SyncError;

use super::{
    Choices, Content, DirNode, DiskModel, Fault, FileNode, Inode, NameChange, Node, OpKind, ROOT, Verdict, names::Slot,
    ops::power_is_off,
};

/// The path without its root, `.` and `..`.
pub(super) fn normal_path(path: &Path) -> io::Result<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.to_str().is_some() => normal.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            Component::Normal(_) | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(normal)
}

fn names_of(path: &Path) -> impl Iterator<Item = &str> {
    path.components().map(|component| component.as_os_str().to_str().expect("normal paths are UTF-8"))
}

/// Where a path leads.
pub(super) struct Place {
    pub(super) slot: Slot,
    /// The directory of the slot and those above it.
    pub(super) chain: Vec<Inode>,
    /// What is there.
    pub(super) inode: Option<Inode>,
}

impl DiskModel {
    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    /// `NotADirectory` if a file is in the way.
    pub fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let path = normal_path(path)?;
        let mut dir = ROOT;
        for name in names_of(&path) {
            let next = self.dir(dir)?.cached.get(name).copied();
            dir = match next {
                Some(inode) => inode,
                None => self.operation(OpKind::Change, |disk| {
                    Ok(disk.create((dir, name.to_owned()), Content::Dir(DirNode::default())))
                })?,
            };
        }
        self.check_power()?;
        self.dir(dir).map(|_| ())
    }

    /// Renames a file or directory, replacing a file at `to`.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory` if `to` is a directory, `NotADirectory` if `from` is one and `to` a file, `InvalidInput` for
    /// a directory into itself.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(OpKind::Change, |disk| {
            let source = disk.find(from)?;
            let target = disk.find(to)?;
            let inode = source.inode.ok_or(io::ErrorKind::NotFound)?;
            if target.inode == Some(inode) {
                return Ok(());
            }
            if target.chain.contains(&inode) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            if let Some(replaced) = target.inode {
                if disk.dir_ref(replaced).is_some() {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                if disk.dir_ref(inode).is_some() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
            }
            disk.relink(inode, source.slot, target);
            Ok(())
        })
    }

    fn relink(&mut self, inode: Inode, from: Slot, target: Place) {
        let mut change = NameChange::new(inode, Some(from.clone()), Some(target.slot.clone()));
        change.target_chain = target.chain;
        self.cached_names(from.0).remove(&from.1);
        self.cached_names(target.slot.0).insert(target.slot.1, inode);
        self.pending.push(change);
        if let Some(replaced) = target.inode {
            self.unlink(replaced);
        }
    }

    /// Removes a file. Handles go on working.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.operation(OpKind::Change, |disk| {
            let place = disk.find(path)?;
            let inode = place.inode.ok_or(io::ErrorKind::NotFound)?;
            if disk.dir_ref(inode).is_some() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            disk.remove_name(inode, place.slot, false);
            Ok(())
        })
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `DirectoryNotEmpty`.
    pub fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        self.operation(OpKind::Change, |disk| {
            let place = disk.find(path)?;
            let inode = place.inode.ok_or(io::ErrorKind::NotFound)?;
            if !disk.dir(inode)?.cached.is_empty() {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            disk.remove_name(inode, place.slot, true);
            Ok(())
        })
    }

    fn remove_name(&mut self, inode: Inode, slot: Slot, removes_dir: bool) {
        self.cached_names(slot.0).remove(&slot.1);
        let mut change = NameChange::new(inode, Some(slot), None);
        change.removes_dir = removes_dir;
        self.pending.push(change);
        self.unlink(inode);
    }

    fn unlink(&mut self, inode: Inode) {
        self.nodes.get_mut(&inode).expect("what has a name is kept").linked = false;
        self.reap(inode);
    }

    /// Names in a directory, sorted by bytes.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.check_power()?;
        let inode = self.existing(path)?;
        Ok(self.dir(inode)?.cached.keys().cloned().collect())
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// A [`SyncError`] by a fault, by the power, or since there is no such directory.
    pub fn sync_dir(&mut self, path: &Path) -> Result<(), SyncError> {
        let synced = self.operation(OpKind::Sync, |disk| {
            let inode = disk.existing(path)?;
            disk.dir(inode)?;
            let normal = normal_path(path)?;
            if disk.faults.strikes(Fault::SyncFails, &normal) {
                disk.pending.abandon(inode);
                return Err(io::Error::other("simulated failure of a sync"));
            }
            if !disk.faults.strikes(Fault::SyncLies, &normal) {
                for change in disk.pending.sync(inode) {
                    disk.apply_durably(&change);
                }
            }
            Ok(())
        });
        synced.map_err(|error| quipu_env::sync_error_kind(path, &error))
    }

    /// Makes a node and its name.
    pub(super) fn create(&mut self, slot: Slot, content: Content) -> Inode {
        let inode = Inode(self.next_inode);
        self.next_inode += 1;
        let counted = matches!(content, Content::File(_));
        self.nodes.insert(inode, Node { content, linked: true, durably_linked: false, handles: 0, counted });
        self.cached_names(slot.0).insert(slot.1.clone(), inode);
        self.pending.push(NameChange::new(inode, None, Some(slot)));
        inode
    }

    fn cached_names(&mut self, dir: Inode) -> &mut imbl::OrdMap<String, Inode> {
        &mut self.dir_mut(dir).expect("the slot was found in a directory").cached
    }

    fn dir(&self, inode: Inode) -> io::Result<&DirNode> {
        self.dir_ref(inode).ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    /// Where `path` leads; its directory must exist.
    pub(super) fn find(&self, path: &Path) -> io::Result<Place> {
        let path = normal_path(path)?;
        let mut chain = Vec::new();
        let mut at: Option<Inode> = Some(ROOT);
        let mut slot = None;
        for name in names_of(&path) {
            let dir = at.ok_or(io::ErrorKind::NotFound)?;
            at = self.dir(dir)?.cached.get(name).copied();
            chain.push(dir);
            slot = Some((dir, name.to_owned()));
        }
        let slot = slot.ok_or(io::ErrorKind::IsADirectory)?;
        Ok(Place { slot, chain, inode: at })
    }

    /// What is at `path`.
    pub(super) fn existing(&self, path: &Path) -> io::Result<Inode> {
        if normal_path(path)?.as_os_str().is_empty() {
            return Ok(ROOT);
        }
        self.find(path)?.inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file_at(&mut self, path: &Path) -> io::Result<&mut FileNode> {
        let inode = self.existing(path)?;
        self.file_mut(inode).ok_or_else(|| io::ErrorKind::IsADirectory.into())
    }

    /// What is at `path`, if no power cut can change that.
    pub(super) fn durable_inode(&self, path: &Path) -> Option<Inode> {
        let path = normal_path(path).ok()?;
        let mut at = ROOT;
        for name in names_of(&path) {
            let dir = self.dir_ref(at)?;
            let seen = dir.cached.get(name)?;
            let slot = (at, name.to_owned());
            if dir.durable.get(name) != Some(seen) || self.pending.concerns(&slot) {
                return None;
            }
            at = *seen;
        }
        Some(at)
    }

    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(power_is_off()) }
    }

    /// Carries out one operation that the crash plan counts.
    pub(super) fn operation<T>(
        &mut self,
        kind: OpKind,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.check_power()?;
        let verdict = self.counter.judge(kind);
        if verdict == Verdict::CutBefore {
            self.powered = false;
            return Err(power_is_off());
        }
        let result = work(self);
        if verdict == Verdict::CutAfter {
            self.powered = false;
            return Err(power_is_off());
        }
        result
    }

    /// Lets a file's sync fail, see [`Fault::SyncFails`].
    pub(super) fn fail_file_sync(&mut self, inode: Inode, choices: &mut dyn Choices) {
        let Self { nodes, options, .. } = self;
        if let Some(Node { content: Content::File(file), .. }) = nodes.get_mut(&inode) {
            file.fail_sync(options, choices);
        }
    }
}
