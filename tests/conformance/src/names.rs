//! What files and directories are called: renaming, removing, listing.

use std::io;

use quipu_env::{Disk, Env, File, OpenOptions};

use crate::{
    World,
    support::{assert_pattern, file_with, open, pattern, read, write},
};

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

pub(crate) async fn a_rename_replaces<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    let old = file_with(&world, "name", &b"old"[..]).await;
    let new = file_with(&world, "name.new", &b"new"[..]).await;
    disk.rename(&directory.join("name.new"), &directory.join("name")).await.expect("rename");
    disk.sync_dir(directory).await.expect("sync");
    assert_eq!(disk.list(directory).await.expect("list"), ["name"]);
    assert_eq!(read(&open(&world, "name", OpenOptions::READ).await, 0, 10).await, &b"new"[..]);
    assert_eq!(read(&old, 0, 10).await, &b"old"[..], "an open file changed when another took its name");
    write(&new, 3, &b"er"[..]).await;
    assert_eq!(read(&open(&world, "name", OpenOptions::READ).await, 0, 10).await, &b"newer"[..]);
}

pub(crate) async fn a_rename_of_nothing_is_not_found<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    file_with(&world, "kept", &b"kept"[..]).await;
    let renamed = disk.rename(&directory.join("missing"), &directory.join("kept")).await;
    assert_eq!(kind(renamed), Some(io::ErrorKind::NotFound));
    let renamed = disk.rename(&directory.join("kept"), &directory.join("no directory").join("kept")).await;
    assert_eq!(kind(renamed), Some(io::ErrorKind::NotFound));
    assert_eq!(read(&open(&world, "kept", OpenOptions::READ).await, 0, 10).await, &b"kept"[..]);
}

pub(crate) async fn a_directory_can_be_renamed<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    disk.create_dir_all(&directory.join("from")).await.expect("make");
    let file = file_with(&world, "from/file", pattern(0, 5000)).await;
    disk.create_dir_all(&directory.join("below")).await.expect("make");
    disk.rename(&directory.join("from"), &directory.join("below/to")).await.expect("rename");
    disk.sync_dir(&directory.join("below")).await.expect("sync");
    disk.sync_dir(directory).await.expect("sync");
    assert_eq!(disk.list(directory).await.expect("list"), ["below"]);
    write(&file, 5000, pattern(5000, 10)).await;
    let found = open(&world, "below/to/file", OpenOptions::READ).await;
    assert_pattern(0, &read(&found, 0, 6000).await);
    assert_eq!(found.size().await.expect("size"), 5010);
}

pub(crate) async fn a_removed_file_lives_while_open<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    let removed = file_with(&world, "file", pattern(0, 10_000)).await;
    disk.remove(removed.path()).await.expect("remove");
    assert_eq!(kind(disk.remove(removed.path()).await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.file_size(removed.path()).await), Some(io::ErrorKind::NotFound));
    let new = file_with(&world, "file", &b"another"[..]).await;
    write(&removed, 10_000, pattern(10_000, 10)).await;
    removed.sync_data().await.expect("sync of a removed file");
    assert_pattern(0, &read(&removed, 0, 20_000).await);
    assert_eq!(read(&new, 0, 20_000).await, &b"another"[..]);
    assert_eq!(disk.list(directory).await.expect("list"), ["file"]);
}

pub(crate) async fn only_empty_directories_are_removed<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    let below = directory.join("below");
    disk.create_dir_all(&below).await.expect("make");
    file_with(&world, "below/file", &b"x"[..]).await;
    assert_eq!(kind(disk.remove_dir(&below).await), Some(io::ErrorKind::DirectoryNotEmpty));
    assert_eq!(disk.list(&below).await.expect("list"), ["file"]);
    disk.remove(&below.join("file")).await.expect("remove");
    assert!(disk.remove(&below).await.is_err(), "a directory was removed as a file");
    disk.remove_dir(&below).await.expect("remove an empty directory");
    assert_eq!(kind(disk.remove_dir(&below).await), Some(io::ErrorKind::NotFound));
    assert_eq!(kind(disk.list(&below).await), Some(io::ErrorKind::NotFound));
}

pub(crate) async fn directories_are_made_with_their_parents<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    let deep = directory.join("a/b/c");
    disk.create_dir_all(&deep).await.expect("make");
    disk.create_dir_all(&deep).await.expect("make what exists");
    file_with(&world, "a/b/c/file", &b"x"[..]).await;
    disk.create_dir_all(&deep).await.expect("make what exists and is in use");
    assert_eq!(disk.list(&deep).await.expect("list"), ["file"]);
    assert!(disk.create_dir_all(&deep.join("file")).await.is_err(), "a file is no directory");
    assert!(disk.create_dir_all(&deep.join("file/below")).await.is_err(), "nothing lies below a file");
}

pub(crate) async fn names_are_listed_in_order<W: World>(world: W) {
    let (disk, directory) = (world.env().disk(), world.directory());
    assert_eq!(disk.list(directory).await.expect("list"), [""; 0]);
    for name in ["b", "a", "B", "10", "9", "z.log", "a-long-name", "\u{e9}"] {
        file_with(&world, name, &b"x"[..]).await;
    }
    disk.create_dir_all(&directory.join("m/inner")).await.expect("make");
    let expected = ["10", "9", "B", "a", "a-long-name", "b", "m", "z.log", "\u{e9}"];
    assert_eq!(disk.list(directory).await.expect("list"), expected);
}

pub(crate) async fn files_tell_their_size<W: World>(world: W) {
    let disk = world.env().disk();
    let file = open(&world, "file", OpenOptions::CREATE_NEW).await;
    for length in [0_u64, 1, 4096, 100_000] {
        if length > 0 {
            write(&file, length - 1, &b"x"[..]).await;
        }
        assert_eq!(file.size().await.expect("size"), length);
        assert_eq!(disk.file_size(file.path()).await.expect("size"), length);
    }
    assert_eq!(kind(disk.file_size(&world.directory().join("missing")).await), Some(io::ErrorKind::NotFound));
}
