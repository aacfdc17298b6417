//! Files that should not be there any more: of topics that were deleted, and of replicas that were moved to other nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use quipu_base::TopicId;
use quipu_sim::{Node, disk::DiskModel};

use crate::{
    history::{Recorder, What},
    inside::LogId,
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

/// What is left of logs that others hold, and this node of a cluster does not, as messages.
pub(super) fn check_moved(node: &Node, number: u32, holders: &BTreeMap<LogId, Vec<u32>>) -> Vec<String> {
    let is_moved = |path: &&PathBuf| {
        let directory = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let log = directory.and_then(|name| name.rsplit_once('-')).and_then(|(topic, partition)| {
            let topic: TopicId = topic.parse().ok()?;
            Some((topic.low(), partition.parse().ok()?))
        });
        log.and_then(|log| holders.get(&log)).is_some_and(|nodes| !nodes.contains(&number))
    };
    node.with_disk(|disk| {
        let mut files = Vec::new();
        collect(disk, &Path::new(DATA_DIR).join("seg"), &mut files);
        let left = files.iter().filter(is_moved);
        left.map(|path| format!("{} belongs to a replica that is elsewhere", path.display())).collect()
    })
}

/// All files below a directory.
pub(super) fn collect(disk: &DiskModel, directory: &Path, files: &mut Vec<PathBuf>) {
    for name in disk.list(directory).unwrap_or_default() {
        let path = directory.join(name);
        match disk.list(&path) {
            Ok(_) => collect(disk, &path, files),
            Err(_) => files.push(path),
        }
    }
}
