//! Reads the log back after a stop or a crash: which groups count, where it ends, what is torn, what is damaged.
//!
//! ```text
//! group N where it is expected, whole                     -> it counts; expect N+1 behind it, or at the start of another file
//! not there, or not whole: look ahead in this file, and in the others if the rest of it is short:
//!   a copy of N's header, and all payloads good           -> it counts
//!   a later group, a checkpoint or the superblock proves
//!   that N was synced                                     -> damage: go on behind it, or at the next group found
//!   nothing proves it                                     -> the log ends before N; what is there of N and later ones is cut
//! ```
//!
//! Invariants
//! - Nothing that was synced and proven is cut silently. How far to look ahead is bounded by `reach`, see `format`: groups N and
//!   N+1 may be torn, and group N+2, if it was formed, proves group N.
//! - The same files give the same answer, and nothing is changed but `cut/`: the cut becomes final when the superblock names the
//!   next generation with its first group. So a crash anywhere in a recovery leads to the same recovery.
//! - Recovery tells of nothing that is not durable: files are synced and taken out of the page cache before they are read.
//!
//! Not here: what the frames mean, and the checkpoint that covers groups (`store`).

mod cut;
mod damage;
mod files;
mod report;
mod search;

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use quipu_env::{Env, Probe};
use rand::Rng as _;

pub use self::report::{Affected, CutReport, Damage, ScanEnd, ScanError, ScannedFrame, ScannedGroup};
use self::{
    damage::DamageList,
    files::{Place, WalFile},
};
use super::{
    GroupSequence, WalGeneration,
    format::{BodyReading, GroupHeader, PAGE_BYTES, decode_body},
    resume::{Resume, ResumeFile},
    space::REACH_BYTES,
    writer::Touched,
};
use crate::superblock::Superblock;

/// How far to look ahead at least. Far more than `reach` asks for, so that damage much larger than a group is recognised.
const LOOK_AHEAD_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes that are rather walked through than searched.
const SKIP_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Generations in one file, after which the next start takes another file: bounds what the superblock must hold.
const FILE_GENERATIONS_MAX: usize = 32;

/// What the scan is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanMode {
    /// To go on with the log. What is cut is kept in `cut/`.
    Recover,
    /// To look at it. Nothing is written.
    Inspect,
}

/// Settings of a scan.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// The data directory.
    pub dir: PathBuf,
    /// Whether to bypass the page cache where the file system can.
    pub direct: bool,
    /// What it is for.
    pub mode: ScanMode,
}

/// The live part of a file, as far as it has been read.
#[derive(Default)]
struct Walked {
    groups: Option<(GroupSequence, GroupSequence)>,
    end: u64,
    generations: Vec<u64>,
}

/// Why the log does not simply go on.
enum Trouble {
    /// No group is where the next one is expected.
    Missing,
    /// A group is there, but not whole.
    Broken(GroupHeader, Option<BodyReading>),
}

enum Step {
    Group(ScannedGroup),
    /// Something was skipped; go on.
    Again,
    End,
}

/// A scan under way. Call [`Scanner::next_group`] until it answers none, then [`Scanner::finish`].
pub struct Scanner<E: Env> {
    env: E,
    options: ScanOptions,
    generations: Vec<WalGeneration>,
    /// The data directory, as its groups name it.
    directory_tag: u64,
    files: Vec<WalFile<E>>,
    /// Groups up to this one are covered by a durable checkpoint.
    covered: GroupSequence,
    /// Groups up to this one had been synced.
    proven: GroupSequence,
    /// The log is known to end with this group.
    clean_end: Option<GroupSequence>,
    expected: GroupSequence,
    /// Where it is expected, if that is known.
    at: Option<Place>,
    last_hash: Option<u32>,
    last_reach: u64,
    walked: BTreeMap<u32, Walked>,
    touched: Touched,
    damage: DamageList,
    cut: Vec<GroupHeader>,
    uncovered_bytes: u64,
    ended: bool,
}

impl<E: Env> Scanner<E> {
    /// Opens the WAL of a data directory. `covered` is the last group that its durable checkpoint covers.
    ///
    /// # Errors
    /// [`ScanError`]; `OtherDirectory` if a file begins with a group of another data directory.
    pub async fn open(
        env: E,
        options: ScanOptions,
        superblock: &Superblock,
        covered: GroupSequence,
    ) -> Result<Self, ScanError> {
        let mut files = files::open_all(&env, &options).await?;
        for file in &mut files {
            search::check_directory(file, superblock.tag()).await?;
        }
        let mut scanner = Self {
            env,
            options,
            generations: superblock.wal_generations.clone(),
            directory_tag: superblock.tag(),
            files,
            covered,
            proven: covered.max(superblock.synced_up_to),
            clean_end: superblock.clean.then_some(superblock.synced_up_to),
            expected: covered.next(),
            at: None,
            last_hash: None,
            // Before the first group is read, nothing says how far the next one may stretch.
            last_reach: u64::MAX,
            walked: BTreeMap::new(),
            touched: Touched::default(),
            damage: DamageList::default(),
            cut: Vec::new(),
            uncovered_bytes: 0,
            ended: false,
        };
        if !scanner.is_clean_end() && !scanner.find_start().await? && holds_groups(superblock) {
            scanner.check_lost().await?;
        }
        Ok(scanner)
    }

    /// The next group that no checkpoint covers, with its frames; none at the end of the log.
    ///
    /// # Errors
    /// [`ScanError`]; the scan can't be continued then.
    pub async fn next_group(&mut self) -> Result<Option<ScannedGroup>, ScanError> {
        while !self.ended {
            match self.step().await? {
                Step::Group(group) if group.sequence > self.covered => {
                    self.uncovered_bytes += group.length;
                    return Ok(Some(group));
                }
                Step::Group(_) | Step::Again => {}
                Step::End => self.ended = true,
            }
        }
        Ok(None)
    }

    /// Keeps what was cut, and tells how to go on.
    ///
    /// # Errors
    /// [`ScanError`].
    ///
    /// # Panics
    /// If [`Self::next_group`] has not answered none.
    pub async fn finish(mut self) -> Result<ScanEnd, ScanError> {
        assert!(self.ended, "the log has been read to its end");
        let cut = self.keep_cut().await?;
        let mut generation = self.new_generation();
        let next = self.expected;
        let mut place = self.at;
        // A file of which no group counts is free, though the log was looked for in it.
        let goes_on = |walked: &Walked| walked.groups.is_some() && walked.generations.len() < FILE_GENERATIONS_MAX;
        if let Some(Place { file, .. }) = place
            && !self.walked.get(&file).is_some_and(goes_on)
        {
            place = None;
        }
        let mut generations = self.live_generations(place);
        match generations.last() {
            Some(last) if self.env.probe().planted("wal.earlier-life-accepted") => generation = last.generation,
            _ => generations.push(WalGeneration { generation, first: next }),
        }
        let files = self
            .files
            .iter()
            .map(|file| {
                let walked = self.walked.get(&file.number);
                let groups = walked.and_then(|walked| walked.groups.map(|groups| (groups, walked.end)));
                let here = place.is_some_and(|place| place.file == file.number);
                let live = groups.filter(|((_, last), _)| here || *last > self.covered);
                ResumeFile { number: file.number, size: file.size, live }
            })
            .collect();
        let resume = Resume {
            generation,
            generations,
            next,
            previous_hash: self.last_hash,
            place: place.map(|place| (place.file, place.position)),
            files,
            covered: self.covered,
            touched: self.touched,
            directory_tag: self.directory_tag,
            was_clean: self.clean_end.is_some(),
        };
        Ok(ScanEnd { resume, cut, damage: self.damage.finish(), uncovered_bytes: self.uncovered_bytes })
    }

    /// The last group that is known, so far, to have been synced.
    pub(crate) const fn proven(&self) -> GroupSequence {
        self.proven
    }

    fn is_clean_end(&self) -> bool {
        self.clean_end.is_some_and(|end| self.expected > end)
    }

    fn file(&mut self, number: u32) -> &mut WalFile<E> {
        self.files.iter_mut().find(|file| file.number == number).expect("places lie in known files")
    }

    /// Finds the group from which to walk to the first one that counts: the last one at or before it that starts a file, or that
    /// is the first readable one of a file. Answers whether any group was seen, at or behind that place.
    async fn find_start(&mut self) -> Result<bool, ScanError> {
        let mut best: Option<GroupHeader> = None;
        let mut unknown = Vec::new();
        let mut any = false;
        for (index, file) in self.files.iter_mut().enumerate() {
            match search::front(file, &self.generations, 0).await? {
                Some(header) => {
                    any = true;
                    best = self::later(best, header, self.expected);
                }
                None => unknown.push(index),
            }
        }
        for index in unknown {
            let file = &mut self.files[index];
            let found = search::headers(file, &self.generations, 0, LOOK_AHEAD_BYTES, true).await?;
            for header in found {
                any = true;
                best = self::later(best, header, self.expected);
            }
        }
        if let Some(first) = best {
            let header = self.skip_covered(first).await?;
            self.expected = header.sequence;
            self.at = Some(Place { file: header.file, position: header.position });
            // The file's first group must stay recognisable for as long as the file is needed.
            self.walked.entry(first.file).or_default().generations.push(first.generation);
        }
        Ok(any)
    }

    /// Of a log that has been written to, the last group is always there: only a later one takes its place. If no group is
    /// anywhere, the files were lost or exchanged, and what they held is missing.
    async fn check_lost(&mut self) -> Result<(), ScanError> {
        for file in &mut self.files {
            let size = file.size;
            if !search::headers(file, &self.generations, 0, size, true).await?.is_empty() {
                return Ok(());
            }
        }
        self.env.probe().sometimes("wal.lost");
        self.proven = self.proven.max(self.expected);
        Ok(())
    }

    /// A later group of the same file from which to walk: most of what a checkpoint covers need not be read. Any group between
    /// the first one and the expected one will do, so it does no harm if the search is led astray.
    async fn skip_covered(&mut self, first: GroupHeader) -> Result<GroupHeader, ScanError> {
        let expected = self.expected;
        let generations = core::mem::take(&mut self.generations);
        let file = self.file(first.file);
        let mut start = first;
        let mut end = file.size;
        while end.saturating_sub(start.position) > SKIP_BYTES_MIN {
            let middle = (start.position + (end - start.position) / 2).next_multiple_of(PAGE_BYTES as u64);
            let found = search::headers(file, &generations, middle, middle + REACH_BYTES, true).await;
            match found?.first() {
                Some(header) if start.sequence < header.sequence && header.sequence <= expected => start = *header,
                _ => end = middle,
            }
        }
        self.generations = generations;
        Ok(start)
    }

    async fn step(&mut self) -> Result<Step, ScanError> {
        if self.is_clean_end() {
            return Ok(Step::End);
        }
        if let Some(header) = self.expected_header().await? {
            return self.take(header).await;
        }
        self.resolve(Trouble::Missing).await
    }

    /// The expected group's header, behind the last group or at the start of a file.
    async fn expected_header(&mut self) -> Result<Option<GroupHeader>, ScanError> {
        if let Some(Place { file, position }) = self.at {
            let generations = core::mem::take(&mut self.generations);
            let header = search::front(self.file(file), &generations, position).await;
            self.generations = generations;
            if let Some(header) = header?
                && self.continues(&header)
            {
                return Ok(Some(header));
            }
        }
        for index in 0..self.files.len() {
            let header = search::front(&mut self.files[index], &self.generations, 0).await?;
            if let Some(header) = header.filter(|header| self.continues(header)) {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn continues(&self, header: &GroupHeader) -> bool {
        header.sequence == self.expected && self.is_chained(header)
    }

    /// Whether a group, if it is the expected one, names the group before it.
    fn is_chained(&self, header: &GroupHeader) -> bool {
        match (header.previous_hash, self.last_hash) {
            _ if self.env.probe().planted("wal.earlier-life-accepted") => true,
            (Some(named), Some(last)) => header.sequence != self.expected || named == last,
            _ => true,
        }
    }

    /// Reads the expected group, whose header is known.
    async fn take(&mut self, header: GroupHeader) -> Result<Step, ScanError> {
        if header.sequence <= self.covered {
            self.accept(&header);
            return Ok(Step::Again);
        }
        match self.body(&header).await? {
            Some(body) if body.is_intact() || self.env.probe().planted("wal.torn-group-accepted") => {
                Ok(Step::Group(self.scanned(&header, body)))
            }
            body => self.resolve(Trouble::Broken(header, body)).await,
        }
    }

    async fn body(&mut self, header: &GroupHeader) -> Result<Option<BodyReading>, ScanError> {
        let length = usize::try_from(header.length).expect("a consistent header's group fits memory");
        let file = self.file(header.file);
        let Some(bytes) = file.bytes(header.position, length).await? else { return Ok(None) };
        match decode_body(header, &bytes) {
            BodyReading::UnknownKind(kind) => Err(ScanError::Newer {
                path: file.path().to_owned(),
                position: header.position,
                what: format!("a frame of kind {kind}"),
            }),
            body => Ok(Some(body)),
        }
    }

    /// Notes that the group counts, whole or not.
    fn accept(&mut self, header: &GroupHeader) {
        assert_eq!(header.sequence, self.expected, "the log has no gaps");
        self.proven = self.proven.max(header.synced_up_to);
        self.expected = header.sequence.next();
        self.at = Some(Place { file: header.file, position: header.end() });
        self.last_hash = Some(header.hash());
        self.last_reach = header.reach.max(REACH_BYTES);
        let walked = self.walked.entry(header.file).or_default();
        let first = walked.groups.map_or(header.sequence, |(first, _)| first);
        walked.groups = Some((first, header.sequence));
        walked.end = header.end();
        if !walked.generations.contains(&header.generation) {
            walked.generations.push(header.generation);
        }
    }

    /// Accepts a group and hands out its frames.
    fn scanned(&mut self, header: &GroupHeader, body: BodyReading) -> ScannedGroup {
        self.accept(header);
        let file = self.file(header.file).path().to_owned();
        let read = match body {
            BodyReading::Frames { frames, both_copies } => {
                if !both_copies {
                    tracing::warn!(
                        file = %file.display(), position = header.position, group = %header.sequence,
                        "one copy of a group's directory is unreadable; the other one serves"
                    );
                }
                frames
            }
            BodyReading::NoDirectory | BodyReading::UnknownKind(_) => Vec::new(),
        };
        self.damage.learn(&read);
        let frames = read
            .into_iter()
            .map(|frame| {
                self.touched.touch(frame.entry.partition, header.sequence);
                ScannedFrame {
                    partition: frame.entry.partition,
                    kind: frame.entry.kind,
                    leader_epoch: frame.entry.leader_epoch,
                    base_offset: frame.entry.base_offset,
                    bad: frame.payload.is_none(),
                    payload: frame.payload.unwrap_or_else(Bytes::new),
                }
            })
            .collect();
        ScannedGroup {
            sequence: header.sequence,
            generation: header.generation,
            file,
            position: header.position,
            length: header.length,
            synced_up_to: header.synced_up_to,
            frames,
        }
    }

    /// Torn or damaged? The expected group is bad.
    async fn resolve(&mut self, trouble: Trouble) -> Result<Step, ScanError> {
        let ahead = self.look_ahead().await?;
        if matches!(trouble, Trouble::Missing)
            && let Some(header) = ahead.iter().find(|header| header.sequence == self.expected).copied()
        {
            // Its first header is lost; the second one tells where it is.
            if header.sequence <= self.covered {
                self.accept(&header);
                return Ok(Step::Again);
            }
            let body = self.body(&header).await?;
            return match body {
                Some(body) if body.is_intact() => Ok(Step::Group(self.scanned(&header, body))),
                body => self.judge(Trouble::Broken(header, body), ahead),
            };
        }
        self.judge(trouble, ahead)
    }

    fn judge(&mut self, trouble: Trouble, ahead: Vec<GroupHeader>) -> Result<Step, ScanError> {
        let mut proof = ahead.iter().map(|header| header.synced_up_to).max().unwrap_or_default();
        if self.env.probe().planted("wal.in-flight-taken-for-proof") {
            proof = ahead.iter().map(|header| header.sequence.previous()).max().unwrap_or_default();
        }
        self.proven = self.proven.max(proof);
        if self.expected > self.proven || self.env.probe().planted("wal.rot-cut-as-tear") {
            if !ahead.is_empty() || matches!(trouble, Trouble::Broken(..)) {
                self.env.probe().sometimes("wal.cut");
            }
            self.cut = ahead;
            if let Trouble::Broken(header, _) = trouble {
                self.cut.push(header);
            }
            return Ok(Step::End);
        }
        match trouble {
            Trouble::Broken(header, body) => Ok(self.pass_broken(&header, body)),
            Trouble::Missing => {
                let next = ahead.into_iter().min_by_key(|header| header.sequence);
                self.pass_missing(next);
                Ok(Step::Again)
            }
        }
    }

    /// Goes on behind a damaged group whose header is known.
    fn pass_broken(&mut self, header: &GroupHeader, body: Option<BodyReading>) -> Step {
        self.env.probe().sometimes("wal.broken");
        let body = body.unwrap_or(BodyReading::NoDirectory);
        let (affected, why) = match &body {
            BodyReading::Frames { frames, .. } => {
                let bad = frames.iter().filter(|frame| frame.payload.is_none());
                let mut partitions: Vec<_> = bad.map(|frame| frame.entry.partition).collect();
                partitions.sort_unstable();
                partitions.dedup();
                (Affected::Only(partitions), "payloads do not match their checksums")
            }
            BodyReading::NoDirectory | BodyReading::UnknownKind(_) => {
                self.touched.floor = self.touched.floor.max(header.sequence);
                (Affected::AllBut(Vec::new()), "neither copy of the group's directory can be read")
            }
        };
        // The group's own frames prove nothing about it.
        let group = self.scanned(header, body);
        self.damage.add(Damage {
            file: group.file.clone(),
            position: header.position,
            length: header.length,
            first: header.sequence,
            last: header.sequence,
            affected,
            why: why.to_owned(),
        });
        Step::Group(group)
    }

    /// Goes on at `next` after groups of which nothing can be read; without one, the log ends after them. Only what is proven was
    /// there: of two groups in flight the first may be lost and the second whole, behind space that is used again.
    fn pass_missing(&mut self, next: Option<GroupHeader>) {
        let first = self.expected.max(self.covered.next());
        let last = next.map_or(self.proven, |header| header.sequence.previous().min(self.proven));
        if first <= last {
            self.env.probe().sometimes("wal.missing");
            self.touched.floor = self.touched.floor.max(last);
            let (file, position) = match self.at {
                Some(place) => (self.file(place.file).path().to_owned(), place.position),
                None => (self.options.dir.join("wal"), 0),
            };
            let length = match (self.at, next) {
                (Some(at), Some(next)) if at.file == next.file && next.position > at.position => {
                    next.position - at.position
                }
                _ => 0,
            };
            self.damage.add(Damage {
                file,
                position,
                length,
                first,
                last,
                affected: Affected::AllBut(Vec::new()),
                why: "groups that had been synced are not there".to_owned(),
            });
            if let Some(walked) = self.at.and_then(|place| self.walked.get_mut(&place.file)) {
                // The file is kept for a look for as long as the groups are needed.
                walked.groups = walked.groups.map(|(first, _)| (first, last));
            }
        }
        self.last_hash = None;
        self.last_reach = REACH_BYTES;
        self.expected = last.next();
        if next.is_none_or(|header| header.sequence == self.expected) {
            self.at = next.map(|header| Place { file: header.file, position: header.position });
        }
    }

    /// Headers of the expected group and later ones that stand where a crash may have left the log.
    async fn look_ahead(&mut self) -> Result<Vec<GroupHeader>, ScanError> {
        let reach = self.last_reach.saturating_mul(2);
        let window = reach.max(LOOK_AHEAD_BYTES);
        let mut found = Vec::new();
        let mut rest = 0;
        for file in &mut self.files {
            found.extend(search::front(file, &self.generations, 0).await?);
            if let Some(at) = self.at.filter(|at| at.file == file.number) {
                rest = file.size.saturating_sub(at.position);
                let end = at.position.saturating_add(window);
                found.extend(search::headers(file, &self.generations, at.position, end, false).await?);
            }
        }
        // A start may take another file though there is room in the last one.
        let is_first = self.generations.iter().any(|known| known.first == self.expected);
        if rest < reach || is_first {
            let here = self.at.map(|at| at.file);
            for file in self.files.iter_mut().filter(|file| Some(file.number) != here) {
                if !self.walked.contains_key(&file.number) {
                    found.extend(search::headers(file, &self.generations, 0, window, false).await?);
                }
            }
        }
        found.retain(|header| header.sequence >= self.expected && self.is_chained(header));
        found.sort_unstable_by_key(|header| header.sequence);
        found.dedup();
        Ok(found)
    }

    /// The generations of groups in files that are still needed, as the superblock has them.
    fn live_generations(&self, place: Option<Place>) -> Vec<WalGeneration> {
        let is_live = |number: u32, walked: &Walked| {
            place.is_some_and(|place| place.file == number)
                || walked.groups.is_some_and(|(_, last)| last > self.covered)
        };
        let live = self.walked.iter().filter(|(number, walked)| is_live(**number, walked));
        let used: Vec<u64> = live.flat_map(|(_, walked)| walked.generations.iter().copied()).collect();
        let oldest = self.generations.iter().position(|known| used.contains(&known.generation));
        let suffix = oldest.map_or(&[][..], |oldest| &self.generations[oldest..]);
        let mut kept: Vec<WalGeneration> = Vec::with_capacity(suffix.len() + 1);
        for (index, generation) in suffix.iter().enumerate() {
            let end = suffix.get(index + 1).map_or(self.expected, |next| next.first);
            if generation.first < end {
                kept.push(*generation);
            }
        }
        kept
    }

    fn new_generation(&self) -> u64 {
        let mut rng = self.env.rng("wal-generation");
        loop {
            let generation = rng.next_u64();
            if generation != 0 && self.generations.iter().all(|known| known.generation != generation) {
                return generation;
            }
        }
    }

    async fn keep_cut(&mut self) -> Result<Vec<CutReport>, ScanError> {
        let mut reports = Vec::new();
        for (place, length, sequence) in self.cut_ranges() {
            let file = self.file(place.file);
            let path = file.path().to_owned();
            let size = file.size;
            let length = length.min(size - place.position);
            let kept = usize::try_from(length).map_or(cut::CUT_BYTES_MAX, |length| length.min(cut::CUT_BYTES_MAX));
            let mut kept_as = None;
            if self.options.mode == ScanMode::Recover
                && let Some(bytes) = self.file(place.file).bytes(place.position, kept).await?
            {
                let stem = format!("{sequence:020}-{:04}-{}", place.file, place.position);
                kept_as = cut::keep(&self.env, &self.options.dir, &stem, bytes).await;
            }
            tracing::warn!(
                file = %path.display(),
                position = place.position,
                length,
                kept_as = %kept_as.as_ref().map_or_else(String::new, |path| path.display().to_string()),
                "the write-ahead log ended in a torn write; its bytes were cut, none had been acknowledged"
            );
            reports.push(CutReport { file: path, position: place.position, length, kept_as });
        }
        Ok(reports)
    }

    /// Ranges of files that hold cut groups, each with the first group's number. What lies between the log's end and the first
    /// cut group of the same file belongs to it: a group of which nothing could be read.
    fn cut_ranges(&self) -> Vec<(Place, u64, u64)> {
        let mut groups: Vec<&GroupHeader> = self.cut.iter().collect();
        groups.sort_unstable_by_key(|header| (header.file, header.position));
        let mut ranges: Vec<(Place, u64, u64)> = Vec::new();
        for header in groups {
            let mut position = header.position;
            if let Some(at) = self.at.filter(|at| at.file == header.file && at.position < position) {
                position = at.position;
            }
            match ranges.last_mut() {
                Some((place, length, _)) if place.file == header.file && place.position + *length >= position => {
                    *length = (*length).max(header.end() - place.position);
                }
                _ => {
                    let place = Place { file: header.file, position };
                    ranges.push((place, header.end() - position, header.sequence.0));
                }
            }
        }
        ranges
    }
}

/// Whether the superblock says that a group of the last start had been synced.
fn holds_groups(superblock: &Superblock) -> bool {
    superblock.wal_generations.last().is_some_and(|last| superblock.synced_up_to >= last.first)
}

/// Of `best` and `header`, the one to start from if the first group that counts is `expected`: the last one at or before it.
fn later(best: Option<GroupHeader>, header: GroupHeader, expected: GroupSequence) -> Option<GroupHeader> {
    let usable = header.sequence <= expected;
    match best {
        Some(best) if !usable || best.sequence >= header.sequence => Some(best),
        best => {
            if usable {
                Some(header)
            } else {
                best
            }
        }
    }
}
