//! Files that should not be there any more: of topics that were deleted, and whatever no part of the data directory's layout
//! explains.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use quipu_sim::{Node, disk::DiskModel};

use crate::{
    history::{Recorder, What},
    plan::DATA_DIR,
};

/// What is left of topics that are gone, as messages.
pub(super) fn check(node: &Node, recorder: &Recorder) -> Vec<String> {
    let Some(ids) = recorder.last(|op| match &op.what {
        What::Topics { ids } => Some(ids.iter().cloned().collect::<BTreeSet<String>>()),
        _ => None,
    }) else {
        return Vec::new();
    };
    node.with_disk(|disk| {
        let mut files = Vec::new();
        collect(disk, &Path::new(DATA_DIR).join("seg"), &mut files);
        let gone = |path: &&PathBuf| {
            let text = path.display().to_string();
            let is_of = |id: &String| text.contains(id.as_str());
            !ids.iter().any(is_of) && !text.contains(&quipu_base::TopicId::METADATA.to_string())
        };
        files.iter().filter(gone).map(|path| format!("{} belongs to no topic that is there", path.display())).collect()
    })
}

fn collect(disk: &DiskModel, directory: &Path, files: &mut Vec<PathBuf>) {
    for name in disk.list(directory).unwrap_or_default() {
        let path = directory.join(name);
        match disk.list(&path) {
            Ok(_) => collect(disk, &path, files),
            Err(_) => files.push(path),
        }
    }
}
