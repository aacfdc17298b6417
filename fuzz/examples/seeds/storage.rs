//! The files of a small data directory, whole and damaged, and small changes to them.

use quipu_fuzz::pristine_files;

use crate::Seeds;

pub(crate) fn add(seeds: &mut Seeds) {
    for (target, file) in pristine_files() {
        let with = |mode: u8, content: &[u8]| [&[mode], content].concat();
        seeds.good(target, "as-it-is", with(0, &file));
        seeds.good(target, "sealed-again", with(1, &file));
        seeds.add(target, "empty".to_owned(), with(0, b""));
        seeds.add(target, "half".to_owned(), with(0, &file[..file.len() / 2]));
        let mut flipped = file.clone();
        flipped[file.len() / 3] ^= 4;
        seeds.add(target, "flipped".to_owned(), with(0, &flipped));
        seeds.add(target, "flipped-and-sealed".to_owned(), with(1, &flipped));
        let mut newer = file.clone();
        newer[8] = 2;
        seeds.add(target, "newer-and-sealed".to_owned(), with(1, &newer));
    }
    for ending in 0..2 {
        let name = ["stopped", "cut-off"][usize::from(ending)];
        seeds.good("directory", name, vec![ending]);
        for file in 0..12 {
            seeds.add("directory", format!("{name}-flip-in-file-{file:02}"), vec![ending, file, 0, 1, 7, 1]);
            seeds.add("directory", format!("{name}-cut-file-{file:02}"), vec![ending, file, 0, 2, 0, 0]);
        }
    }
}
